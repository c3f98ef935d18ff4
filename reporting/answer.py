"""The answer in a few sentences: who leads under each recommender, and what may be chance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.names import WITHOUT_FILE, is_shuffled, row_label
from core.registry import label
from evaluation.comparisons import ALPHA
from reporting.study import Study


def answer(study: Study, metric: str) -> dict:
    """Return what the first screen says.

    Returns:
        `headline`: a sentence; `tested`: whether there are pairwise tests; `cards`: for each
        recommender its `name`, `label`, `verdict` (`lead`, `text`), `rows` (label, mean, low, high,
        control); `lines`: what controls without an embedding reach, as Study.lines has them;
        `limit`: the end of the cards' axis.
    """
    cards = [_card(study, recommender, metric) for recommender in study.recommenders]
    high = [row["high"] for card in cards for row in card["rows"]]
    lines = study.lines(metric)
    return {
        "headline": _headline(cards),
        "tested": "comparisons" in study.tables,
        "cards": cards,
        "lines": lines,
        "limit": max([*high, *lines.values(), 1e-9]) * 1.04,
    }


def number(value: float, digits: int = 3) -> str:
    """Return .509, 1.000, or a dash where there is no number."""
    if value is None or np.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _card(study: Study, recommender: str, metric: str) -> dict:
    models = study.models[study.models.recommender == recommender]
    rows = [
        {
            "label": row_label(row["embedding"], row["tag"]),
            "embedding": row["embedding"],
            "tag": row["tag"],
            "mean": row[metric],
            "low": max(row[metric] - row[f"{metric}_ci95"], 0.0),
            "high": row[metric] + row[f"{metric}_ci95"],
            "control": row["embedding"] in WITHOUT_FILE or is_shuffled(row["tag"]),
        }
        for row in models.to_dict("records")
    ]
    rows.sort(key=lambda row: (row["control"], -row["mean"]))
    card = {"name": recommender, "label": label(recommender), "rows": rows}
    return {**card, "verdict": _verdict(study, card, metric)}


def _verdict(study: Study, card: dict, metric: str) -> dict:
    """Return the leader, whom it cannot be told apart from, and sentences about both."""
    rows = [row for row in card["rows"] if not row["control"]]
    if not rows:
        return {"lead": "", "tied": [], "text": "Only controls were run."}
    best, others = rows[0], [row["label"] for row in rows[1:]]
    value = number(best["mean"])
    tied = _tied(study, card["name"], best["label"], metric)
    if not others:
        text = [f"is the only embedding that was run: {value}."]
    elif tied is None:
        text = [f"has the highest mean, {value}."]
    elif not [name for name in tied if name in others]:
        text = [f"leads with {value}, significantly above every other embedding."]
    else:
        equal = listed([name for name in others if name in tied])
        text = [f"has the highest mean, {value}, but cannot be told apart from {equal}."]
    above = {n: v for n, v in study.lines(metric).items() if v >= best["mean"]}
    if above:
        told = listed([f"{label(name)} ({number(value)})" for name, value in above.items()])
        text.append(f"Its mean is not above that of {told}.")
    untrained = [row["label"] for row in card["rows"] if row["embedding"] in WITHOUT_FILE]
    if tied and [name for name in untrained if name in tied]:
        text.append(f"It is not above {listed([n for n in untrained if n in tied])}, a control.")
    failed = _not_above_shuffled(study.tables.get("shuffled"), card["name"], metric)
    if failed:
        text.append(
            f"Not above the same vectors shuffled, so nothing is shown of: {listed(failed)}."
        )
    return {
        "lead": best["label"],
        "tied": [name for name in others if tied and name in tied],
        "text": " ".join(text),
    }


def _tied(study: Study, recommender: str, best: str, metric: str) -> set[str] | None:
    """Return the rows that no test tells apart from the best; None without tests."""
    table = study.tables.get("comparisons")
    if table is None:
        return None
    pairs = table[(table.recommender == recommender) & (table.metric == metric)]
    tied = set()
    for pair in pairs.itertuples():
        names = row_label(pair.embedding_a, pair.tag_a), row_label(pair.embedding_b, pair.tag_b)
        if best in names and not pair.p_holm < ALPHA:
            tied |= set(names) - {best}
    return tied if len(pairs) else None


def _not_above_shuffled(table: pd.DataFrame | None, recommender: str, metric: str) -> list[str]:
    if table is None or not len(table):
        return []
    rows = table[(table.recommender == recommender) & (table.metric == metric)]
    rows = rows[~rows.beats_shuffled]
    return [row_label(row.embedding, row.tag) for row in rows.itertuples()]


def _headline(cards: list[dict]) -> str:
    """Return who leads where, in one sentence; who cannot be told apart shares the lead."""
    leads: dict[tuple, list[str]] = {}
    for card in cards:
        if card["verdict"]["lead"]:
            names = (card["verdict"]["lead"], *card["verdict"]["tied"])
            leads.setdefault(names, []).append(card["label"])
    parts = []
    for names, labels in leads.items():
        where = "every recommender" if len(labels) == len(cards) > 1 else listed(labels)
        if len(names) == 1:
            parts.append(f"{names[0]} leads under {where}")
        else:
            parts.append(f"{listed(list(names))} cannot be told apart under {where}")
    return "; ".join(parts) + "." if parts else "No embedding was compared yet."


def listed(names: list[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
