"""The answer in a few sentences and a card a recommender, read from the tables of the study."""

from __future__ import annotations

import pandas as pd

from core.names import row_label
from core.registry import CONTROLS, is_chance, label, short_label
from evaluation.comparisons import BOTH
from evaluation.controls import control_kind, knows_no_sound
from evaluation.crossed import ENOUGH
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
        `tested`: whether there are pairwise tests; `tested_over`: of tested_over; `controls`: names
        of the vectors that know no sound; `cards`: for each recommender its `name`,
        `label`, `text`, `field` (Field) and `rows` (label, mean, low, high, control (what it is one
        of, or ''), verdict);
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
        "tested_over": tested_over(study, metric),
        "controls": sorted({name for each in shown for name in each.controls}),
        "cards": cards,
        "lines": lines,
        "limit": max([*high, *lines.values(), 1e-9]) * 1.04,
    }


def read_field(
    study: Study, recommender: str, metric: str, users: dict[Key, Row] | None = None
) -> Field:
    """Return the rows and tests of one recommender; see answer for `users`."""
    rows, controls, keys = {}, {}, {}
    for row in _measured(study, recommender, metric):
        name = row_label(row["embedding"], row["tag"])
        keys[name] = recommender, row["embedding"], row["tag"]
        if knows_no_sound(row["embedding"]):
            controls[name] = row[metric]
        elif not control_kind(*keys[name]):
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
        ours = [n for n in rows if keys[n] in users and metric in users[keys[n]].metrics]
        tests = compared(users, [(keys[name], (alone, "none", "")) for name in ours], metric)
        listening = dict(zip(ours, tests, strict=True))
    return Field(
        label(recommender), rows, controls, pairs, shuffled, listening,
        (short_label(alone), study.lines(metric)[alone]) if alone else None,
    )  # fmt: skip


def _alone(study: Study, metric: str, users: dict[Key, Row]) -> str | None:
    """Return the best of the recommenders that know plays and no sound; None where none was run."""
    lines = study.lines(metric)
    keys = {name: (name, "none", "") for name in CONTROLS if name in lines and not is_chance(name)}
    ran = [n for n, key in keys.items() if key in users and metric in users[key].metrics]
    return max(ran, key=lambda name: lines[name], default=None)


def _measured(study: Study, recommender: str, metric: str) -> list[dict]:
    """Return the rows of a recommender that have the metric: others were cut at another k."""
    models = study.models[study.models.recommender == recommender]
    return models.dropna(subset=metric).to_dict("records")


def tested_over(study: Study, metric: str) -> str:
    """Return what the tests of a metric draw at random, in words: users, or seeds as well."""
    tables = [study.tables.get(name) for name in ("comparisons", "shuffled")]
    units = {
        unit
        for table in tables
        if table is not None and "unit" in table
        for unit in table[table.metric == metric].unit
    }
    if BOTH not in units:
        return "users"
    return BOTH if units == {BOTH} else f"users, or {BOTH} where each row has {ENOUGH} or more"


def _of(table: pd.DataFrame | None, recommender: str, metric: str) -> list[dict]:
    if table is None or not len(table):
        return []
    return table[(table.recommender == recommender) & (table.metric == metric)].to_dict("records")


def _paired(row: dict) -> Paired:
    return Paired(row["difference"], row["ci_low"], row["ci_high"], row["p_holm"])


def _card(study: Study, recommender: str, field: Field, metric: str) -> dict:
    rows = []
    for row in _measured(study, recommender, metric):
        name, half = row_label(row["embedding"], row["tag"]), row[f"{metric}_ci95"]
        rows.append(
            {
                "label": name,
                "mean": row[metric],
                "low": max(row[metric] - half, 0.0),
                "high": row[metric] + half,
                "control": control_kind(recommender, row["embedding"], row["tag"]),
                "verdict": field.verdict(name) if name in field.rows else "",
            }
        )
    rows.sort(key=lambda row: (bool(row["control"]), -row["mean"], row["label"]))
    text = lead(field) + "." if field.rows else "Only controls were run."
    if not rows:
        text = f"No row has {metric}."
    return {
        "name": recommender,
        "label": field.label,
        "text": text,
        "field": field,
        "rows": rows,
    }
