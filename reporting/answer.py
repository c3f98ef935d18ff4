"""The answer in a few sentences and a card a recommender, read from the tables of the study."""

from __future__ import annotations

import pandas as pd

from core.names import WITHOUT_FILE, is_shuffled, row_label
from core.registry import CONTROLS, is_chance, label, short_label
from evaluation.results import Row
from reporting.findings import Field, Paired, adding, helping, in_short, lead, leading
from reporting.study import Study
from reporting.users import Key, compared


def answer(study: Study, metric: str, users: dict[Key, Row] | None = None) -> dict:
    """Return what the first screen says.

    Args:
        users: of users.user_rows, to compare with listening alone; None: it is not compared.

    Returns:
        `short`, `helps`, `leads`, `adds`: a sentence each ('' where there is nothing to say);
        `tested`: whether there are pairwise tests; `cards`: for each recommender its `name`,
        `label`, `text`, `field` (Field) and `rows` (label, mean, low, high, control, verdict);
        `lines`: what controls without an embedding reach, as Study.lines has them; `limit`: the end
        of the cards' axis.
    """
    fields = {name: read_field(study, name, metric, users) for name in study.recommenders}
    cards = [_card(study, name, field, metric) for name, field in fields.items()]
    high = [row["high"] for card in cards for row in card["rows"]]
    lines = study.lines(metric)
    shown = list(fields.values())
    return {
        "short": in_short(shown),
        "helps": helping(shown),
        "leads": leading(shown),
        "adds": adding(shown),
        "tested": "comparisons" in study.tables,
        "cards": cards,
        "lines": lines,
        "limit": max([*high, *lines.values(), 1e-9]) * 1.04,
    }


def read_field(
    study: Study, recommender: str, metric: str, users: dict[Key, Row] | None = None
) -> Field:
    """Return the rows and tests of one recommender; see answer for `users`."""
    models = study.models[study.models.recommender == recommender]
    rows, controls, keys = {}, {}, {}
    for row in models.to_dict("records"):
        name = row_label(row["embedding"], row["tag"])
        keys[name] = recommender, row["embedding"], row["tag"]
        if row["embedding"] in WITHOUT_FILE:
            controls[name] = row[metric]
        elif not is_shuffled(row["tag"]):
            rows[name] = row[metric]
    pairs = {}
    for pair in _of(study.tables.get("comparisons"), recommender, metric):
        one = row_label(pair["embedding_a"], pair["tag_a"])
        other = row_label(pair["embedding_b"], pair["tag_b"])
        pairs[one, other] = _paired(pair)
        pairs[other, one] = pairs[one, other].turned()
    shuffled = {
        row_label(row["embedding"], row["tag"]): _paired(row)
        for row in _of(study.tables.get("shuffled"), recommender, metric)
    }
    alone = _alone(study, metric, users or {})
    listening = {}
    if alone:
        ours = [name for name in rows if keys[name] in users]
        tests = compared(users, [(keys[name], (alone, "none", "")) for name in ours], metric)
        listening = dict(zip(ours, tests, strict=True))
    return Field(
        label(recommender), rows, controls, pairs, shuffled, listening,
        (short_label(alone), study.lines(metric)[alone]) if alone else None,
    )  # fmt: skip


def _alone(study: Study, metric: str, users: dict[Key, Row]) -> str | None:
    """Return the best of the recommenders that know plays and no sound; None where none was run."""
    lines = study.lines(metric)
    ran = [n for n in CONTROLS if n in lines and not is_chance(n) and (n, "none", "") in users]
    return max(ran, key=lambda name: lines[name], default=None)


def _of(table: pd.DataFrame | None, recommender: str, metric: str) -> list[dict]:
    if table is None or not len(table):
        return []
    return table[(table.recommender == recommender) & (table.metric == metric)].to_dict("records")


def _paired(row: dict) -> Paired:
    return Paired(row["difference"], row["ci_low"], row["ci_high"], row["p_holm"])


def _card(study: Study, recommender: str, field: Field, metric: str) -> dict:
    models = study.models[study.models.recommender == recommender]
    rows = []
    for row in models.to_dict("records"):
        name, half = row_label(row["embedding"], row["tag"]), row[f"{metric}_ci95"]
        rows.append(
            {
                "label": name,
                "mean": row[metric],
                "low": max(row[metric] - half, 0.0),
                "high": row[metric] + half,
                "control": name not in field.rows,
                "verdict": field.verdict(name) if name in field.rows else "",
            }
        )
    rows.sort(key=lambda row: (row["control"], -row["mean"], row["label"]))
    text = lead(field) + "." if field.rows else "Only controls were run."
    return {
        "name": recommender,
        "label": field.label,
        "text": text,
        "field": field,
        "rows": rows,
    }
