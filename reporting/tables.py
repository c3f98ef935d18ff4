"""The tables of the page: which columns, in which words, and what each cell sorts by."""

from __future__ import annotations

import math

import pandas as pd

from core.names import is_shuffled, row_label
from core.registry import CONTROLS, label
from evaluation.comparisons import ALPHA
from evaluation.measures import HEADLINE, METRICS
from reporting.answer import number
from reporting.study import Study

NOTHING = "–"  # sorts last


def cell(text, sort=None, note: str = "", strong: bool = False, config=None) -> dict:
    """Return a cell: what is read, what it sorts by, a small addition, bold, what it unfolds to."""
    if sort is None or (isinstance(sort, float) and math.isnan(sort)):
        sort = "" if text == NOTHING else text
    return {"text": str(text), "sort": sort, "note": note, "strong": strong, "config": config}


def column(label: str, numeric: bool = True, k: str = "") -> dict:
    return {"label": label, "numeric": numeric, "k": k}


def names(row: dict) -> list[dict]:
    """Return the two cells that name a row: recommender and embedding."""
    kind = row["recommender"]
    who = label(kind)
    embedding = "" if kind in CONTROLS else row_label(row["embedding"], row["tag"])
    return [cell(who), cell(embedding or "–")]


def results_table(study: Study) -> dict:
    """Return the whole table, every metric at every k; the best of a recommender is strong."""
    results = study.results
    metrics = [c for c in results if "@" in c and f"{c}_ci95" in results]
    metrics.sort(key=lambda c: (int(c.split("@")[1]), _order(c)))
    letters = _letters(study, f"{HEADLINE[0]}@{study.k}")
    own = study.models[~study.models.tag.map(is_shuffled)]
    best = own.groupby("recommender")[metrics].max()
    columns = [column("recommender", False), column("embedding", False), column("width"),
               column("seeds")]  # fmt: skip
    if letters:
        columns.append(column("group", False))
    columns += [column(name, k=name.split("@")[1]) for name in metrics]
    rows = []
    for row in results.to_dict("records"):
        cells = names(row)
        cells += [cell(f"{row['width']:,.0f}" if row["width"] else "–", float(row["width"]))]
        cells += [cell(int(row["seeds"]), float(row["seeds"]))]
        if letters:
            cells.append(cell(letters.get((row["recommender"], row["embedding"], row["tag"]), "–")))
        for name in metrics:
            mean, half = row[name], row[f"{name}_ci95"]
            top = best[name].get(row["recommender"])
            strong = not is_shuffled(row["tag"]) and top is not None and mean == top
            cells.append(cell(number(mean), mean, f"± {number(half)}", strong))
        rows.append(cells)
    ks = list(dict.fromkeys(name.split("@")[1] for name in metrics))
    return {"id": "results", "columns": columns, "rows": rows, "ks": ks, "k": str(study.k)}


def _order(name: str) -> int:
    order = list(dict.fromkeys((*HEADLINE, *METRICS)))
    base = name.split("@")[0]
    return order.index(base) if base in order else len(order)


def _letters(study: Study, metric: str) -> dict[tuple, str]:
    groups = study.tables.get("groups")
    if groups is None or not len(groups):
        return {}
    rows = groups[groups.metric == metric]
    keys = zip(rows.recommender, rows.embedding, rows.tag, strict=True)
    return dict(zip(keys, rows.letters.astype(str), strict=True))


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
