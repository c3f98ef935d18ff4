"""The tables of the page: which columns, in which words, and what each cell sorts by."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from core.names import is_published, row_label
from core.registry import CONTROLS, label
from evaluation.comparisons import ALPHA
from evaluation.controls import control_kind
from evaluation.measures import HEADLINE, METRICS
from reporting.findings import number
from reporting.study import Study

NOTHING = "–"  # sorts last
NAMING = ("representation", "embedding", "one", "run", "backbone")  # one of each table


def cell(text, sort=None, note: str = "", strong: bool = False, config=None) -> dict:
    """Return a cell: what is read, what it sorts by, a small addition, bold, what it unfolds to."""
    if sort is None or (isinstance(sort, float) and math.isnan(sort)):
        sort = "" if text == NOTHING else text
    return {"text": str(text), "sort": sort, "note": note, "strong": strong, "config": config,
            "second": False, "letters": ""}  # fmt: skip


def column(label: str, numeric: bool = True, k: str = "") -> dict:
    """Return a column; what names its rows stays in sight on a narrow screen."""
    return {"label": label, "numeric": numeric, "k": k, "stay": label in NAMING}


def names(row: dict) -> list[dict]:
    """Return the two cells that name a row: recommender and embedding."""
    kind = row["recommender"]
    who = label(kind)
    embedding = "" if kind in CONTROLS else row_label(row["embedding"], row["tag"])
    return [cell(who), cell(embedding or "–")]


def results_table(study: Study) -> dict:
    """Return the leaderboard: every row of the study at every metric and k, controls apart.

    Returns:
        `columns`; `rows` and `controls`, each of dicts with `cells`, `recommender` ('' for what has
        none), `kind` (frozen, trained or control), `ranking` (all or cold); `ks`, `k`, `metrics`,
        `cold` (whether there are cold rows), `seeds` (the most of a row that is compared: the
        shuffles of a control say nothing of networks).
    """
    frames = {"all": study.results}
    if "cold" in study.tables and len(study.tables["cold"]):
        frames["cold"] = study.tables["cold"]
    metrics = [c for c in study.results if "@" in c and f"{c}_ci95" in study.results]
    metrics.sort(key=lambda c: (int(c.split("@")[1]), _order(c)))
    columns = [column("recommender", False), column("representation", False),
               column("kind", False), column("width"), column("seeds")]  # fmt: skip
    columns += [column(name, k=name.split("@")[1]) for name in metrics]
    trained = trained_rows(study)
    rows, controls = [], []
    for ranking, results in frames.items():
        places = _places(results, metrics)
        letters = _letters(study) if ranking == "all" else {}
        for row in results.to_dict("records"):
            key = row["recommender"], row["embedding"], row["tag"]
            kind = kind_of(row, trained)
            cells = names(row)
            cells.append(cell(kind + (", cold tracks" if ranking == "cold" else "")))
            cells.append(_amount(float(row["width"] or "nan")))
            cells.append(cell(int(row["seeds"]), float(row["seeds"])))
            for name in metrics:
                if name not in row or math.isnan(row[name]):
                    cells.append(cell(NOTHING))
                    continue
                spread = row.get(f"{name}_seed_sd", float("nan"))
                note = f"±\N{NO-BREAK SPACE}{number(row[f'{name}_ci95'])}"
                if not math.isnan(spread):
                    note += f", seeds\N{NO-BREAK SPACE}{number(spread)}"
                place = places.get((*key, name))
                shown = cell(number(row[name]), row[name], note, place == 1)
                cells.append(
                    {**shown, "second": place == 2, "letters": letters.get((*key, name), "")}
                )
            own = "" if row["recommender"] in CONTROLS else row["recommender"]
            line = {
                "cells": cells,
                "recommender": own,
                "kind": kind if kind in ("frozen", "trained") else "control",
                "ranking": ranking,
            }
            (controls if line["kind"] == "control" else rows).append(line)
    ks = list(dict.fromkeys(name.split("@")[1] for name in metrics))
    return {
        "id": "results",
        "columns": columns,
        "rows": rows,
        "controls": controls,
        "ks": ks,
        "k": str(study.k),
        "metrics": list(dict.fromkeys(name.split("@")[0] for name in metrics)),
        "cold": len(frames) > 1,
        "seeds": max((int(row["cells"][4]["sort"]) for row in rows), default=1),
    }


def trained_rows(study: Study) -> set[tuple]:
    """Return (recommender, embedding, tag) of the rows whose track vectors were trained on."""
    return {
        (run["recommender"], run["embedding"], run["tag"] or "")
        for run in study.runs
        if (run.get("options") or {}).get("train_tracks")
    }


def kind_of(row: dict, trained: set[tuple]) -> str:
    """Return frozen, trained, or what a control is."""
    key = row["recommender"], row["embedding"], row["tag"]
    return control_kind(*key) or ("trained" if key in trained else "frozen")


def _places(results: pd.DataFrame, metrics: list[str]) -> dict[tuple, int]:
    """Return 1 and 2 for the best and second best representation of a recommender and metric."""
    keys = zip(results.recommender, results.embedding, results.tag, strict=True)
    own = results[np.array([not control_kind(*key) for key in keys], bool)]
    places = {}
    for name in set(metrics) & set(own.columns):
        ranks = own.groupby("recommender")[name].rank(ascending=False, method="min")
        keys = zip(own.recommender, own.embedding, own.tag, ranks, strict=True)
        places |= {(*key, name): int(rank) for *key, rank in keys if rank <= 2}
    return places


def _order(name: str) -> int:
    order = list(dict.fromkeys((*HEADLINE, *METRICS)))
    base = name.split("@")[0]
    return order.index(base) if base in order else len(order)


def _letters(study: Study) -> dict[tuple, str]:
    """Return the letters of the rows by (recommender, embedding, tag, metric) that was tested.

    Rows as published are tested among themselves, so that their letters are marked: an `a*` and an
    `a` are no pair that was tested.
    """
    groups = study.tables.get("groups")
    if groups is None or not len(groups):
        return {}
    keys = zip(groups.recommender, groups.embedding, groups.tag, groups.metric, strict=True)
    letters = groups.letters.astype(str).where(~groups.tag.map(is_published), groups.letters + "*")
    return dict(zip(keys, letters, strict=True))


def further_tables(study: Study) -> list[dict]:
    """Return the other tables of table.py that there are; their titles are the template's."""
    found = []
    for name, build in FURTHER.items():
        table = study.tables.get(name)
        columns, rows = build(table, study) if table is not None else ([], [])
        if rows:
            found.append({"id": name, "columns": columns, "rows": rows})
    return found


def _comparisons(table: pd.DataFrame, study: Study):
    wanted = [f"{name}@{study.k}" for name in HEADLINE]
    columns = [column("recommender", False), column("metric", False), column("one", False),
               column("other", False), column("difference"), column("p, Holm"),
               column("effect size")]  # fmt: skip
    rows = []
    for row in table[table.metric.isin(wanted)].to_dict("records"):
        real = row["p_holm"] < ALPHA
        interval = f"{number(row['ci_low'])} to {number(row['ci_high'])}"
        rows.append(
            [
                cell(label(row["recommender"])),
                cell(row["metric"]),
                cell(row_label(row["embedding_a"], row["tag_a"])),
                cell(row_label(row["embedding_b"], row["tag_b"])),
                cell(number(row["difference"]), row["difference"], interval, real),
                cell(number(row["p_holm"], 4), row["p_holm"]),
                cell(number(row["effect_size"], 2), row["effect_size"]),
            ]
        )
    return columns, rows


def _shuffled(table: pd.DataFrame, study: Study):
    columns = [column("recommender", False), column("embedding", False), column("metric", False),
               column("mean"), column("shuffled"), column("difference"), column("p, Holm"),
               column("above it", False)]  # fmt: skip
    rows = []
    for row in table.to_dict("records"):
        interval = f"{number(row['ci_low'])} to {number(row['ci_high'])}"
        above = str(row["beats_shuffled"]).lower() == "true"
        rows.append(
            [
                *names(row),
                cell(row["metric"]),
                cell(number(row["mean"]), row["mean"]),
                cell(number(row["shuffled_mean"]), row["shuffled_mean"]),
                cell(number(row["difference"]), row["difference"], interval, above),
                cell(number(row["p_holm"], 4), row["p_holm"]),
                cell("yes" if above else "no"),
            ]
        )
    return columns, rows


def _plain(*wanted: str):
    """Return a builder that shows these columns, M standing for HitRate and NDCG with intervals."""

    def build(table: pd.DataFrame, study: Study):
        metrics = [f"{m}@{study.k}" for m in HEADLINE if f"{m}@{study.k}" in table]
        plain = [name for name in wanted if name in table]
        columns = [column("recommender", False), column("embedding", False)]
        columns += [column(name, pd.api.types.is_numeric_dtype(table[name])) for name in plain]
        columns += [column(name) for name in metrics]
        rows = []
        for row in table.to_dict("records"):
            cells = names(row)
            for name in plain:
                value = row[name]
                cells.append(cell(value) if isinstance(value, str) else _amount(value))
            for name in metrics:
                half = row.get(f"{name}_ci95", float("nan"))
                cells.append(cell(number(row[name]), row[name], f"± {number(half)}"))
            rows.append(cells)
        return columns, rows

    return build


def _amount(value: float) -> dict:
    if value is None or math.isnan(value):
        return cell("–")
    whole = float(value).is_integer() and abs(value) >= 1
    return cell(f"{value:,.0f}" if whole else number(value), float(value))


def _published(table: pd.DataFrame, study: Study):
    columns = [column("recommender", False), column("backbone", False), column("metric", False),
               column("published"), column("here"), column("our row", False)]  # fmt: skip
    rows = []
    for row in table.to_dict("records"):
        half = row.get("ours_ci95", float("nan"))
        note = "" if math.isnan(half) else f"± {number(half)}"
        rows.append(
            [
                cell(label(row["recommender"])),
                cell(row["backbone"]),
                cell(row["metric"]),
                cell(number(row["published"]), row["published"]),
                cell(number(row["ours"]), row["ours"], note),
                cell(row_label(row["embedding"], row["tag"]) if half == half else NOTHING),
            ]
        )
    return columns, rows


FURTHER = {
    "comparisons": _comparisons,
    "shuffled": _shuffled,
    "beyond": _plain("k", "Coverage", "Gini", "Popularity", "Novelty"),
    "segments": _plain("by", "group", "users"),
    "cold": _plain("width", "seeds", "users"),
    "published": _published,
}
