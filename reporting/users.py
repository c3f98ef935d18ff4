"""The users behind the means: each row's metric of every test user, and paired tests of any two."""

from __future__ import annotations

import numpy as np

from evaluation.comparisons import over_seeds
from evaluation.paired import bootstrap_interval, enough_permutations, holm, permutation_p
from evaluation.results import Row, average_seeds
from reporting.findings import Paired
from reporting.study import Study

Key = tuple[str, str, str]  # recommender, embedding, tag


def user_rows(study: Study) -> dict[Key, Row]:
    """Return the metrics of every test user by row of the table, seeds averaged.

    Runs without per_user_test.pqt are left out.

    Raises:
        InputError: a file cannot be read, or two runs have other users.
    """
    runs = [{**run, "path": study.root / "runs" / run["folder"]} for run in study.runs]
    return {(row.recommender, row.embedding, row.tag): row for row in average_seeds(runs)}


def compared(rows: dict[Key, Row], pairs: list[tuple[Key, Key]], metric: str) -> list[Paired]:
    """Return the first of each pair less the second, p Holm-corrected over these pairs.

    As in the tables, seeds are drawn as users are where every row that is random has enough.

    Args:
        pairs: keys of rows that both have the metric.
    """
    if not pairs:
        return []
    used = list(dict.fromkeys(key for pair in pairs for key in pair))
    values = np.stack([rows[key].column(metric) for key in used], axis=1)
    at = np.array([[used.index(one), used.index(other)] for one, other in pairs])
    low, high = bootstrap_interval(values, at)
    p = permutation_p(values, at, permutations=enough_permutations(len(at)))
    for place, (one, other) in enumerate(pairs):
        crossed = over_seeds(rows[one], rows[other], metric)
        if crossed:
            p[place], (low[place], high[place]) = crossed.p, crossed.interval
    p = holm(p)
    means = values.mean(axis=0)
    return [
        Paired(float(means[a] - means[b]), float(lo), float(hi), float(chance))
        for (a, b), lo, hi, chance in zip(at, low, high, p, strict=True)
    ]
