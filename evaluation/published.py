"""The study's published numbers (published.json) beside ours, with the data of each named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from core.artifacts import read_json
from core.names import is_shuffled, row_label
from core.registry import label
from core.split_parts import STAGE_1
from evaluation.grids import markdown

FILE = Path(__file__).with_name("published.json")
SIZES = ("users", "tracks", "rows")
COLUMNS = ["recommender", "backbone", "metric", "published"]
COLUMNS += ["embedding", "tag", "ours", "ours_ci95", "seeds"]


def read_published() -> dict:
    """Return published.json: study, data, note, train, test, backbones, and a grid a metric."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def beside_published(table: pd.DataFrame) -> pd.DataFrame:
    """Return published.csv: a line for each published number and each of our rows of it.

    Args:
        table: results.csv. A published number without a row of ours stands with NaN beside it;
            shuffled controls are left out.
    """
    known = read_published()
    lines = []
    for metric in [name for name in known if "@" in name]:
        for recommender, numbers in known[metric].items():
            for backbone, value in numbers.items():
                line = (recommender, backbone, metric, np.nan if value is None else value)
                mine = table[
                    (table.recommender == recommender)
                    & table.embedding.isin(known["backbones"][backbone])
                    & ~table.tag.map(is_shuffled).astype(bool)
                ]
                if metric not in table or not len(mine):
                    lines.append((*line, "", "", np.nan, np.nan, 0))
                    continue
                for _, row in mine.iterrows():
                    ours = (row[metric], row[f"{metric}_ci95"], row.seeds)
                    lines.append((*line, row.embedding, row.tag, *ours))
    return pd.DataFrame(lines, columns=COLUMNS)


def describe_data(root: Path, known: dict | None = None) -> tuple[str, bool]:
    """Return what our numbers were measured on, and whether it is the study's own split.

    Args:
        known: `data`, and sizes of `train` and `test`, of another study than published.json's.

    A root made by make_sample.py is the synthetic sample. Else the counts of data/split.json are
    compared with the published ones.
    """
    if (root / "sample.json").exists():
        return "the synthetic sample of make_sample.py, which says nothing about music", False
    record = root / "data" / "split.json"
    if not record.exists():
        return "a split without data/split.json", False
    counts = read_json(record, f"{STAGE_1} --overwrite", ("counts",))["counts"]
    found = {part: {n: counts[part].get(n) for n in SIZES} for part in counts}

    def is_of(study: dict) -> bool:
        sizes = (study[part].items() <= found.get(part, {}).items() for part in ("train", "test"))
        return all(sizes)

    asked = known or read_published()
    if is_of(asked):
        return f"{asked['data']}, the published split", True
    extended = json.loads(FILE.with_name("journal.json").read_text(encoding="utf-8"))
    if known is None and is_of(extended):
        return f"{extended['data']}, the extended study's published split", False
    size = found.get("train", {})
    numbers = ", ".join(f"{size[n]:,} {n}" for n in SIZES if size.get(n))
    return f"a split that is not the study's ({numbers} in train)", False


def compare_page(compared: pd.DataFrame, root: Path) -> str:
    """Return compare_published.md from published.csv."""
    known = read_published()
    data, same = describe_data(root)
    lines = [
        "# Ours beside the published numbers",
        "",
        f"- Published: {known['study']}, on {known['data']}. {known['note']}",
        f"- Ours: on {data}.",
        "",
    ]
    if not same:
        lines += ["**Different data: the two columns cannot be compared.**", ""]
    lines += [
        "The published code trained the tracks and froze the users; rows tagged `published` did so",
        "here too (README, differences from the published code). Others follow the text.",
        "",
    ]
    for metric in compared.metric.unique():
        heads = ["recommender", "backbone", f"published, {known['data'].split()[0]}"]
        heads += [f"ours, {'same split' if same else 'other data'}", "difference", "our row"]
        grid = [heads]
        for _, row in compared[compared.metric == metric].iterrows():
            missing = np.isnan(row.ours)
            ours = "-" if missing else f"{row.ours:.3f} ± {row.ours_ci95:.3f}"
            comparable = same and not missing and not np.isnan(row.published)
            published = "?" if np.isnan(row.published) else f"{row.published:.3f}"
            difference = f"{row.ours - row.published:+.3f}" if comparable else "-"
            row_name = "-" if missing else row_label(row.embedding, row.tag)
            name = label(row.recommender)
            grid.append([name, row.backbone, published, ours, difference, row_name])
        lines += [f"## {metric}", "", markdown(grid), ""]
    return "\n".join(lines)
