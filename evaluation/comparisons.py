"""Which differences between embeddings are real: paired comparisons over users, and groups.

Runs are compared on the same test users, each user's seeds averaged first: a user is one
observation, whatever the number of seeds. Two rows under one recommender differ when the paired
permutation test's p, after Holm's correction over all pairs of that recommender and metric, is
below 0.05. A shuffled control is compared with its own embedding only, and a row as published with
others as published.

What is true of trained networks, or of one shuffle, need not be true of the embedding: where every
row that is random has three seeds or more, seeds are drawn as users are (crossed.py), and `unit`
says so; where one has fewer, the answer holds for the networks that were trained.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from core.names import is_published, is_shuffled, plain_tag
from core.registry import ALL, CONTROLS
from evaluation.crossed import (
    ENOUGH,
    Difference,
    detectable,
    difference,
    differences,
    seeds_part,
)
from evaluation.paired import (
    bootstrap_interval,
    effects,
    enough_permutations,
    holm,
    letters,
    mean_and_spread,
    permutation_p,
)
from evaluation.results import Row
from evaluation.tables import KEYS

ALPHA = 0.05
USERS, BOTH = "users", "users and seeds"


def compare(
    rows: list[Row],
    metrics: list[str],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    letters_alone: bool = False,
) -> pd.DataFrame:
    """Return comparisons.csv (tables.py names the columns): every two rows of a recommender.

    Args:
        rows: as results.average_seeds returns them.
        metrics: which to compare; a row that lacks one is left out of its comparisons.
        resamples: of the bootstrap, and flips of the test at least.
        seed: of both.
        letters_alone: leave out what `groups` does not read, which takes most of the time.
    """
    models = [i for i, row in enumerate(rows) if row.recommender not in CONTROLS]
    models = [i for i in models if plain_tag(rows[i].tag) is None]
    pairs = [
        (a, b)
        for a, b in combinations(models, 2)
        if rows[a].recommender == rows[b].recommender
        and is_published(rows[a].tag) == is_published(rows[b].tag)
    ]
    table = _paired(rows, pairs, metrics, resamples, seed, tests_alone=letters_alone)
    columns = ["recommender", "embedding_a", "tag_a", "embedding_b", "tag_b", "metric", "users"]
    columns += ["mean_a", "mean_b", "difference", "ci_low", "ci_high", "p", "p_holm"]
    columns += ["effect_size", "better_a", "better_b", "unit", "seeds_a", "seeds_b", "detectable"]
    return table[[name for name in columns if name in table]]


def against_shuffled(
    rows: list[Row], metrics: list[str], *, resamples: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Return shuffled.csv: every row that has a shuffled control, against it."""
    place = {tuple(row.keys.values()): i for i, row in enumerate(rows)}
    pairs = []
    for i, row in enumerate(rows):
        plain = plain_tag(row.tag)
        if plain is not None and (row.recommender, row.embedding, plain) in place:
            pairs.append((place[row.recommender, row.embedding, plain], i))
    table = _paired(rows, pairs, metrics, resamples, seed, relative=True)
    table["beats_shuffled"] = (table.difference > 0) & (table.p_holm < ALPHA)
    names = {
        "embedding_a": "embedding",
        "tag_a": "tag",
        "mean_a": "mean",
        "mean_b": "shuffled_mean",
    }
    columns = [*KEYS, "metric", "users", "mean", "shuffled_mean", "difference", "ci_low", "ci_high"]
    columns += ["change", "change_low", "change_high", "p", "p_holm", "effect_size"]
    names["seeds_b"] = "shuffles"
    return table.rename(columns=names)[[*columns, "beats_shuffled", "unit", "shuffles"]]


def _paired(
    rows: list[Row],
    pairs: list[tuple],
    metrics,
    resamples: int,
    seed: int,
    relative: bool = False,
    tests_alone: bool = False,
):
    """Return every statistic of paired.py for the pairs of rows and the metrics.

    With `relative` change, change_low and change_high: the difference in % of the second mean; and
    not what is detectable. With `tests_alone` means and p, and nothing more.
    """
    cells = [
        (metric, a, b)
        for metric in metrics
        for a, b in pairs
        if metric in rows[a].metrics and metric in rows[b].metrics
    ]
    used = sorted({(m, i) for m, a, b in cells for i in (a, b)})
    column = {key: place for place, key in enumerate(used)}
    table = pd.DataFrame(
        {
            "recommender": [rows[a].recommender for _, a, _ in cells],
            "embedding_a": [rows[a].embedding for _, a, _ in cells],
            "tag_a": [rows[a].tag for _, a, _ in cells],
            "embedding_b": [rows[b].embedding for _, _, b in cells],
            "tag_b": [rows[b].tag for _, _, b in cells],
            "metric": [metric for metric, _, _ in cells],
            "users": [len(rows[a].users) for _, a, _ in cells],
            "unit": [unit(rows[a], rows[b]) for _, a, b in cells],
            "seeds_a": [len(rows[a].runs) for _, a, _ in cells],
            "seeds_b": [len(rows[b].runs) for _, _, b in cells],
        }
    )
    numbers = ("mean_a", "mean_b", "difference", "ci_low", "ci_high", "p", "p_holm")
    if relative:
        numbers += ("change", "change_low", "change_high")
    if not cells:
        return table.assign(
            **dict.fromkeys((*numbers, "effect_size", "better_a", "better_b", "detectable"), 0.0)
        )
    values = np.stack([rows[i].column(metric) for metric, i in used], axis=1)
    of = np.array([(column[m, a], column[m, b]) for m, a, b in cells])
    plain, crossed = (np.flatnonzero(table.unit == each) for each in (USERS, BOTH))
    means = values.mean(axis=0)
    table["mean_a"], table["mean_b"] = means[of[:, 0]], means[of[:, 1]]
    own, spread = mean_and_spread(values, of)
    parts = _seeds_parts(rows, used, np.unique(of[crossed]))
    seeds = differences(own[crossed], spread[crossed], len(values), parts, of[crossed])
    families = table.groupby(["recommender", "metric"], sort=False).indices
    flips = enough_permutations(max(map(len, families.values())), resamples)
    p, adjusted, level = (np.empty(len(table)) for _ in range(3))
    p[plain] = permutation_p(*_only(values, of[plain]), permutations=flips, seed=seed)
    p[crossed] = seeds.p
    for family in families.values():
        adjusted[family], level[family] = holm(p[family]), ALPHA / len(family)
    table["p"], table["p_holm"] = p, adjusted
    if tests_alone:
        return table
    low, high = np.empty(len(table)), np.empty(len(table))
    low[plain], high[plain] = bootstrap_interval(
        *_only(values, of[plain]), resamples=resamples, seed=seed
    )
    low[crossed], high[crossed] = seeds.interval
    table = table.assign(**effects(values, of), ci_low=low, ci_high=high)
    if relative:
        second = np.where(table.mean_b > 0, table.mean_b, np.nan)
        table["change"] = 100 * table.difference / second
        table["change_low"], table["change_high"] = bootstrap_interval(
            values, of, resamples=resamples, seed=seed, relative=True
        )
    elif len(values) > 1:
        of_seeds, freedom = np.zeros(len(table)), np.full(len(table), len(values) - 1.0)
        of_seeds[crossed], freedom[crossed] = seeds.of_seeds, seeds.freedom
        between = values[:, of[:, 0]] - values[:, of[:, 1]]
        table["detectable"] = detectable(between, of_seeds, freedom, level, seed=seed)
    else:
        table["detectable"] = np.nan
    return table


def _seeds_parts(rows: list[Row], used: list[tuple[str, int]], wanted: np.ndarray) -> np.ndarray:
    """Return seeds_part of the wanted of (metric, row), float64 (len(used), 3), else zeros.

    A row's metrics go together.
    """
    found = np.zeros((len(used), 3))
    metrics_of: dict[int, list[int]] = {}
    for place in wanted.tolist():
        metrics_of.setdefault(used[place][1], []).append(place)
    for i, places in metrics_of.items():
        if _is_random(rows[i]):
            columns = [rows[i].metrics.index(used[place][0]) for place in places]
            found[places] = seeds_part(rows[i].by_seed[:, :, columns])
    return found


def _only(values: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns that are in the pairs, and the pairs of these."""
    used, at = np.unique(pairs, return_inverse=True)
    return values[:, used], at.reshape(-1, 2)


def unit(one: Row, other: Row) -> str:
    """Return what a comparison of two rows draws at random: BOTH, or USERS where seeds are few.

    What is not random of a row, as KNN without --shuffle, needs no seeds.
    """
    seeds = [len(row.runs) for row in (one, other) if _is_random(row)]
    return USERS if min(seeds, default=0) < ENOUGH else BOTH


def over_seeds(one: Row, other: Row, metric: str) -> Difference | None:
    """Return the difference of two rows over users and seeds; None where seeds are too few."""
    if not (isinstance(one, Row) and isinstance(other, Row)) or unit(one, other) == USERS:
        return None
    return difference(_seeds(one, metric), _seeds(other, metric))


def is_trained(recommender: str) -> bool:
    """Say whether a recommender's runs rank by a network that was trained, its own or another's."""
    known = ALL.get(recommender)
    return known is None or known.learns or bool(known.made_by)


def _is_random(row: Row) -> bool:
    return is_shuffled(row.tag) or is_trained(row.recommender)


def _seeds(row: Row, metric: str) -> np.ndarray:
    """Return float64 (seeds, n_users); one seed of a row that is not random."""
    return row.seeds_of(metric) if _is_random(row) else row.column(metric)[None]


def groups(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return groups.csv from comparisons.csv: letters of what cannot be told apart, best first."""
    lines, published = [], comparisons.tag_a.map(is_published).astype(bool)
    families = comparisons.groupby(["recommender", "metric", published], sort=False)
    for (recommender, metric, _), pairs in families:
        means = {}
        says = BOTH if (pairs.unit == BOTH).all() else USERS
        for side in "ab":
            keys = zip(pairs[f"embedding_{side}"], pairs[f"tag_{side}"], strict=True)
            means |= dict(zip(keys, pairs[f"mean_{side}"], strict=True))
        best_first = sorted(means, key=lambda key: (-means[key], key))
        place = {key: i for i, key in enumerate(best_first)}
        apart = [
            (place[pair.embedding_a, pair.tag_a], place[pair.embedding_b, pair.tag_b])
            for pair in pairs[pairs.p_holm < ALPHA].itertuples()
        ]
        shown = letters(len(best_first), np.array(apart))
        for (embedding, tag), own in zip(best_first, shown, strict=True):
            lines.append((recommender, embedding, tag, metric, means[embedding, tag], own, says))
    return pd.DataFrame(lines, columns=[*KEYS, "metric", "mean", "letters", "unit"])
