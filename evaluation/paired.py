"""Paired statistics over users: bootstrap, permutation test, Holm, effect size, letters.

Everything takes `values`, float64 (n_users, n_columns), a column for each thing compared and the
same users in the same order in all, and `pairs`, int (p, 2), of columns. A resample of users, or a
flip of signs, is drawn once and applied to every column by one matrix product, so that a thousand
pairs cost little more than one, and the comparisons are consistent with each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 256  # resamples, or sign flips, at a time
CHUNK = 1 << 17  # numbers: differences of so many pairs x users at a time, which a cache holds


def bootstrap_interval(
    values: np.ndarray,
    pairs: np.ndarray,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    relative: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile interval of the mean difference of each pair, low and high (p,).

    Users are drawn with replacement, n of n, and each brings its values in both columns. A relative
    difference is in % of the second column's mean over the same draw; NaN if one of them is 0.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    n, columns = values.shape
    if not len(pairs):  # most of the time goes into the draws
        return np.empty(0), np.empty(0)
    rng = np.random.default_rng([seed, 0])
    means = np.empty((resamples, columns))
    for rows in _blocks(resamples):
        size = rows.stop - rows.start
        drawn = rng.integers(0, n, size=(size, n), dtype=np.int32)
        drawn += n * np.arange(size, dtype=np.int32)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means[rows] = times.astype(np.float64) @ values / n
    tails = 100 * np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = np.empty(len(pairs)), np.empty(len(pairs))
    for chosen, first, second in _chunks(means, pairs):
        difference = first - second
        if relative:
            second[second <= 0] = np.nan
            difference *= 100 / second
        low[chosen], high[chosen] = np.percentile(difference, tails, axis=1, overwrite_input=True)
    return low, high


def permutation_p(
    values: np.ndarray, pairs: np.ndarray, *, permutations: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Return the two-sided p of each pair (p,): would so large a difference come by chance?

    If a pair's columns are alike, which of a user's two values is whose is arbitrary: swapping them
    flips the sign of the user's difference. p is the share of random flips, the observed one
    included, whose mean difference is at least as far from 0.
    Source: Fisher, 1935; p = (1 + exceeding) / (1 + flips), Phipson and Smyth, 2010.
    """
    n = len(values)
    if not len(pairs):
        return np.empty(0)
    rng = np.random.default_rng([seed, 1])
    a, b = np.asarray(pairs).T
    observed = values.sum(axis=0)
    # Sums of equal numbers in another order differ in their last digits and must count as equal.
    bound = np.abs(observed[a] - observed[b]) - 1e-9 * n
    exceeding = np.zeros(len(pairs), dtype=np.int64)
    for rows in _blocks(permutations):
        size = rows.stop - rows.start
        bits = rng.integers(0, 256, size=(size, -(-n // 8)), dtype=np.uint8)
        signs = np.unpackbits(bits, axis=1, count=n).astype(np.float64)
        signs *= 2
        signs -= 1
        sums = signs @ values
        exceeding += (np.abs(sums[:, a] - sums[:, b]) >= bound).sum(axis=0)
    return (1 + exceeding) / (1 + permutations)


def enough_permutations(n_pairs: int, least: int = 10_000) -> int:
    """Return how many flips let the smallest p stay below 0.025 after Holm over n_pairs."""
    return max(least, 40 * n_pairs)


def holm(p: np.ndarray) -> np.ndarray:
    """Return p adjusted so that rejecting below alpha errs anywhere with probability <= alpha.

    The i-th smallest of m (from 1) becomes the largest of p_(j) (m - j + 1) over j <= i, at most 1.
    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    factors = np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def effects(values: np.ndarray, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """Return of each pair: `difference` of means, `effect_size`, `better_a`, `better_b` (p,) each.

    effect_size is Cohen's d of paired differences, mean(a - b) / s(a - b), with n - 1 in s, and 0
    where the columns are equal; better_a and better_b are the shares of users for whom the one or
    the other is better, the rest being ties.
    Source: Cohen, Statistical Power Analysis, 1988, section 2.3.5 (d'z).
    """
    found = {
        name: np.zeros(len(pairs)) for name in ("difference", "effect_size", "better_a", "better_b")
    }
    found["difference"], spread = mean_and_spread(values, pairs)
    np.divide(found["difference"], spread, out=found["effect_size"], where=spread > 1e-12)
    for chosen, first, second in _chunks(values, pairs):
        difference = first - second
        found["better_a"][chosen] = (difference > 1e-12).mean(axis=1)
        found["better_b"][chosen] = (difference < -1e-12).mean(axis=1)
    return found


def mean_and_spread(values: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each pair's differences over users, (p,) each.

    n - 1 is in the deviation, which is 0 of a single user.
    """
    mean, spread = np.zeros(len(pairs)), np.zeros(len(pairs))
    for chosen, first, second in _chunks(values, pairs):
        difference = first - second
        mean[chosen] = difference.mean(axis=1)
        if len(values) > 1:
            spread[chosen] = difference.std(axis=1, ddof=1)
    return mean, spread


def letters(n: int, apart: np.ndarray) -> list[str]:
    """Return the compact letter display of n things in order: sharing a letter is not apart.

    Args:
        n: things, best first.
        apart: int (q, 2), the pairs that differ significantly.

    Source: Piepho, An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons,
        2004 (insert and absorb): start with all in one set; a pair that is apart splits each set
        that holds both; sets inside others go.
    """
    sets = [frozenset(range(n))] if n else []
    for one, other in np.asarray(apart, dtype=int).reshape(-1, 2).tolist():
        split = [s - {gone} for s in sets for gone in (one, other) if {one, other} <= s]
        sets = [s for s in sets if not {one, other} <= s]
        for new in sorted(set(split), key=len, reverse=True):
            if not any(new <= kept for kept in sets):
                sets.append(new)
    sets.sort(key=lambda s: (sorted(s), len(s)))
    return ["".join(_letter(i) for i, s in enumerate(sets) if thing in s) for thing in range(n)]


def _letter(number: int) -> str:
    """0, 1, ... 25, 26 -> a, b, ... z, a'."""
    return "abcdefghijklmnopqrstuvwxyz"[number % 26] + "'" * (number // 26)


def _blocks(total: int) -> Iterator[slice]:
    for start in range(0, total, BLOCK):
        yield slice(start, min(start + BLOCK, total))


def _chunks(values: np.ndarray, pairs: np.ndarray) -> Iterator[tuple]:
    """Yield some pairs at a time: which, and their columns as rows, first and second, to keep."""
    columns = np.ascontiguousarray(values.T)
    size = max(1, CHUNK // max(len(values), 1))
    for start in range(0, len(pairs), size):
        a, b = np.asarray(pairs[start : start + size]).T
        yield slice(start, start + len(a)), columns[a], columns[b]
