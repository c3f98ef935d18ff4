"""Network by data: four taggers that are two networks, each trained on the same two data sets.

What a representation is good for may come from how it was built or from what it heard. Where one
recommender ran on all four, user by user the two can be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.names import is_shuffled, row_label
from core.registry import label
from evaluation.comparisons import ALPHA
from evaluation.results import Row
from reporting.findings import Paired, number
from reporting.tables import cell, column
from reporting.users import Key, compared

CELLS = {  # which network and which data
    "musicnn": "MusiCNN, MSD",
    "musicnn_mtt": "MusiCNN, MagnaTagATune",
    "vgg_msd": "VGG, MSD",
    "vgg_mtt": "VGG, MagnaTagATune",
}
# What is compared: the mean of two less the mean of the other two.
EFFECTS = {
    "MusiCNN less VGG": (("musicnn", "musicnn_mtt"), ("vgg_msd", "vgg_mtt")),
    "MSD less MagnaTagATune": (("musicnn", "vgg_msd"), ("musicnn_mtt", "vgg_mtt")),
    "one depends on the other": (("musicnn", "vgg_mtt"), ("musicnn_mtt", "vgg_msd")),
}


@dataclass(frozen=True)
class Mean:
    """Several rows of the table as one: of each user the mean."""

    rows: tuple[Row, ...]

    def column(self, metric: str) -> np.ndarray:
        return np.mean([row.column(metric) for row in self.rows], axis=0)


def effects(rows: dict[Key, Row], metric: str) -> dict[tuple[str, str], list[Paired]]:
    """Return the EFFECTS of each (recommender, tag) that ran on all four; none where none did.

    p is Holm-corrected over all of them.
    """
    rows = {key: row for key, row in rows.items() if metric in row.metrics}
    groups = dict.fromkeys((who, tag) for who, _, tag in rows if not is_shuffled(tag))
    groups = [g for g in groups if all((g[0], name, g[1]) in rows for name in CELLS)]
    means, pairs = {}, []
    for who, tag in groups:
        for names in EFFECTS.values():
            keys = [(who, "+".join(side), tag) for side in names]
            for key, side in zip(keys, names, strict=True):
                means[key] = Mean(tuple(rows[who, name, tag] for name in side))
            pairs.append(tuple(keys))
    found = compared(means, pairs, metric)
    size = len(EFFECTS)
    return {group: found[size * i : size * (i + 1)] for i, group in enumerate(groups)}


def factor_table(rows: dict[Key, Row], metric: str) -> dict:
    """Return the table for the page; {} where no recommender ran on all four."""
    found = effects(rows, metric)
    if not found:
        return {}
    columns = [column("recommender", False), *(column(text) for text in CELLS.values())]
    columns += [column(text) for text in EFFECTS]
    lines = []
    for (who, tag), values in found.items():
        cells = [cell(row_label(label(who), tag))]
        for name in CELLS:
            mean = float(rows[who, name, tag].column(metric).mean())
            cells.append(cell(number(mean), mean))
        for value in values:
            interval = f"{number(value.low)} to {number(value.high)}"
            real = value.p < ALPHA
            cells.append(cell(number(value.difference), value.difference, interval, real))
        lines.append(cells)
    return {"id": "factors", "columns": columns, "rows": lines}
