"""What the tables say beside their numbers, in sentences: of warm-up, letters and power."""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.names import is_published, row_label
from core.registry import label, short_label
from evaluation.comparisons import ALPHA, USERS, is_trained
from evaluation.controls import control_kind
from evaluation.crossed import ENOUGH
from evaluation.tables import KEYS


def leading(crossings: pd.DataFrame, table: pd.DataFrame) -> list:
    """Return the lines of each recommender's best representation against the best control.

    That is the best that hears nothing; controls that rank by vectors lead nothing.
    """
    keys = zip(*(crossings[key] for key in KEYS), strict=True)
    crossings = crossings[np.array([not control_kind(*key) for key in keys], dtype=bool)]
    if not len(crossings):
        return []
    metric, means = crossings.metric.iloc[0], table.set_index([*KEYS])
    control = table[table.recommender.isin(crossings.against)].dropna(subset=metric)
    against = control.sort_values(metric).recommender.iloc[-1] if len(control) else ""
    own = crossings[crossings.against == against]
    level = [means.loc[tuple(row), metric] for row in own[KEYS].to_numpy()]
    best = own.assign(level=level).sort_values("level").groupby("recommender", sort=False).tail(1)
    return list(best.sort_index().itertuples())


def warm_up(row) -> str:
    """Return the sentence of a line of crossings.csv."""
    name = f"{label(row.recommender)} over {row_label(row.embedding, row.tag)}"
    other = f"{short_label(row.against)} in {row.metric}"
    sure = f"(95 % interval {_plays(row.plays_low)} to {_plays(row.plays_high)})"
    if row.plays == 0:
        return f"{name} is ahead of {other} for no number of plays {sure}."
    if np.isinf(row.plays):
        return f"{name} is ahead of {other} for tracks of any number of plays {sure}."
    return f"{name} is ahead of {other} for tracks of up to {_plays(row.plays)} plays {sure}."


def _plays(number: float) -> str:
    return "any" if np.isinf(number) else f"{number:,.0f}"


def certainty(comparisons: pd.DataFrame, metrics: list[str]) -> list[str]:
    """Return what letters mean of each recommender, and how small a difference was looked for."""
    lines = [f"Rows of a recommender that share a letter cannot be told apart (Holm, {ALPHA})."]
    for name, own in comparisons.groupby("recommender", sort=False):
        title, few = label(name), own[own.unit == USERS]
        random = is_trained(name)
        if not random:
            lines.append(f"{title}: tested over users; it learns nothing, so that no seed matters.")
        elif len(few):
            lines.append(
                f"{title}: {'' if len(few) == len(own) else 'some rows '}tested over users alone, "
                f"with fewer than {ENOUGH} seeds: letters hold for these trained networks only and "
                "call no difference between embeddings real."
            )
        else:
            lines.append(f"{title}: tested over users and seeds.")
        seeds = sorted({*own.seeds_a, *own.seeds_b})
        if random and len(seeds) > 1:
            lines.append(f"{title}: rows of {seeds[0]} to {seeds[-1]} seeds are compared.")
        if own.tag_a.map(is_published).any():
            lines.append(f"{title}: rows as published have letters with a star, among themselves.")
    for metric in metrics:
        known = comparisons[(comparisons.metric == metric) & comparisons.detectable.notna()]
        smallest = [
            f"{label(name)} {own.detectable.median():.3f}"
            for name, own in known.groupby("recommender", sort=False)
        ]
        if not smallest:
            continue
        lines.append(
            f"With these users and seeds, the difference in {metric} that would be found 8 times "
            f"in 10 (median of the pairs): {', '.join(smallest)}."
        )
    return lines
