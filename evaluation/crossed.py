"""Differences over users and seeds: is it the embedding, or the network that was trained on it?

A test over users alone takes one trained network, or one shuffle, for all: what it finds holds for
that network. Here the seeds are drawn as the users are. Of a row with S seeds, a user's metric is

    mean + user + seed + user x seed

where user and seed are random, and the difference of two rows on the same n users has the variance

    s_D^2 / n  +  sum over both rows of max(s_S^2 / S - s_E^2 / (n S), 0)

s_D^2 of the users' differences, seeds averaged; s_S^2 of the seeds' means; s_E^2 of what is left of
a row when users and seeds are taken out, which is in both others. p and interval are Student's t's
with Satterthwaite's degrees of freedom. Source: Satterthwaite, Biometrics Bulletin 2, 1946; the
crossed model in Searle, Casella and McCulloch, Variance Components, 1992, chapter 4. Of rows with
as many seeds each the standard error is that of REML, as statsmodels' MixedLM has it (a test); that
takes p from a normal distribution, which is for many networks, and needs a matrix of all values.

Why no bootstrap of users and seeds: it counts what a user and a seed have together in both draws,
and again in their product. Of shuffles of one matrix under KNN, on the sample's 171 users, it calls
0 to 0.7 in 100 different where 5 are asked for, and this 3 to 5 (benchmarks/bench_inference.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

ENOUGH = 3  # seeds of a row, at least, for a word on more than the trained networks
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """The difference of two rows, in floats; or of p pairs of rows, in float64 (p,) each.

    Attributes:
        mean: of the first less the second.
        error: its standard error.
        of_seeds: the seeds' part of error squared.
        freedom: degrees of freedom of `mean / error`.
    """

    mean: float | np.ndarray
    error: float | np.ndarray
    of_seeds: float | np.ndarray
    freedom: float | np.ndarray

    @property
    def p(self) -> float | np.ndarray:
        """Two-sided p of no difference; 1 where nothing varies and nothing differs."""
        size, certain = np.abs(self.mean), np.less_equal(self.error, 1e-12)
        found = 2 * stdtr(self.freedom, -size / np.where(certain, 1, self.error))
        found = np.where(certain, size <= 1e-12, found)
        return found if found.ndim else float(found)

    @property
    def interval(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        """The 95 % interval."""
        half = self.error * stdtrit(self.freedom, (1 + LEVEL) / 2)
        return self.mean - half, self.mean + half


def difference(one: np.ndarray, other: np.ndarray) -> Difference:
    """Return the difference of two rows over users and seeds.

    Args:
        one, other: float64 (seeds, n_users), the same users in both; n >= 2. A row of one seed
            counts as one that has no seeds: nothing of it is random.
    """
    own = one.mean(axis=0) - other.mean(axis=0)
    parts = np.stack([seeds_part(one), seeds_part(other)])
    found = differences(own.mean()[None], own.std(ddof=1)[None], len(own), parts, [[0, 1]])
    return Difference(*(float(each[0]) for each in vars(found).values()))


def seeds_part(row: np.ndarray) -> np.ndarray:
    """Return what a row's seeds add to the variance of its mean, for any difference with it.

    Args:
        row: float64 (seeds, n_users, ...).

    Returns:
        float64 (..., 3): s_S^2 / S, the s_E^2 / (n S) that is in it, and S - 1; zeros of one seed.
    """
    seeds, n = row.shape[:2]
    if seeds == 1:
        return np.zeros((*row.shape[2:], 3))
    means = row.mean(axis=1)
    rest = row - means[:, None] - row.mean(axis=0) + row.mean(axis=(0, 1))
    part = means.var(axis=0, ddof=1) / seeds
    less = np.square(rest).sum(axis=(0, 1)) / ((n - 1) * (seeds - 1)) / (n * seeds)
    return np.stack([part, less, np.full_like(part, seeds - 1)], axis=-1)


def differences(
    means: np.ndarray, spreads: np.ndarray, n: int, parts: np.ndarray, pairs: np.ndarray
) -> Difference:
    """Return the differences of pairs of rows over users and seeds, as `difference` does of one.

    Args:
        means, spreads: float64 (p,), of the n users' differences, seeds averaged: their mean and
            standard deviation, with n - 1.
        parts: float64 (rows, 3) of seeds_part.
        pairs: int (p, 2), of rows.
    """
    part, less, free = np.moveaxis(parts[np.asarray(pairs, dtype=int)], 2, 0)  # (p, 2) each
    of_users = spreads**2 / n
    of_seeds = np.maximum(part.sum(axis=1) - less.sum(axis=1), 0)
    total = of_users + of_seeds
    square = of_users**2 / (n - 1)
    square += np.where(of_seeds > 0, (part**2 / np.maximum(free, 1)).sum(axis=1), 0)
    freedom = np.divide(total**2, square, out=np.full(len(total), n - 1.0), where=square > 0)
    return Difference(means, np.sqrt(total), of_seeds, np.clip(freedom, 1, n - 1))


def detectable(
    differences: np.ndarray,
    of_seeds: np.ndarray,
    freedom: np.ndarray,
    alpha: np.ndarray,
    *,
    power: float = 0.8,
    draws: int = 400,
    seed: int = 0,
) -> np.ndarray:
    """Return the smallest true difference that each test would find with this power, (p,).

    By simulation from the users' own values: users are drawn with replacement, and the seeds' part
    from a normal distribution. In a draw with mean m of the differences less their own mean and
    standard error e, a true difference d is found where m + d exceeds t e; so d is the quantile
    `power` of t e - m. NaN where no user differs.

    Args:
        differences: float64 (n_users, p), a column for each pair of rows, seeds averaged.
        of_seeds, freedom: (p,) as Difference has them; of a test over users alone 0 and n - 1.
        alpha: (p,) two-sided level: where m are tested together by Holm, 0.05 / m.
    """
    n = len(differences)
    own = differences - differences.mean(axis=0)
    squares = np.square(own)
    rng = np.random.default_rng([seed, 2])
    critical = stdtrit(freedom, 1 - np.asarray(alpha) / 2)
    times, values = np.empty((draws, n)), np.empty((draws, own.shape[1]))
    for draw in range(draws):
        times[draw] = np.bincount(rng.integers(0, n, size=n), minlength=n)
        values[draw] = -rng.normal(size=own.shape[1]) * np.sqrt(of_seeds)
    # All draws in one product: one by one, each would read the differences again from memory.
    mean = times @ own / n
    error = np.sqrt(np.maximum(times @ squares / n - mean**2, 0) / (n - 1) + of_seeds)
    values += critical * error - mean
    return np.where(own.any(axis=0), np.quantile(values, power, axis=0), np.nan)
