"""The warm-up curve: from how many plays of a track on does listening tell more than its sound?

Held-out tracks are put into bins by how often they were played in train, all users together; a
user's metric in a bin is of the held-out tracks in it alone, the lists the same, over all
candidates (segments, by `plays`). Tracks that train never played are no candidates: their lists are
in cold.csv.

Of two recommenders the differences of the bins, over the logarithm of plays, are made to fall from
bin to bin (isotonic regression, weighted by the users of a bin: Barlow et al., Statistical
Inference under Order Restrictions, 1972); the crossing is where they reach 0, between the bins'
centres. Its interval is the percentile interval over users drawn with replacement, all bins of a
user together; a draw in which one is ahead everywhere is a crossing beyond the first or last bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EDGES = (1, 2, 3, 6, 11, 31, 101, 301, 1001, 3001, 10_001)  # first number of plays of each bin
PLAYS = "plays"  # what segments call it


def names() -> list[str]:
    """Return the bins' names in order, as `3-5`; the first is `0`, the last `10001-`."""
    spans = [
        str(low) if high == low + 1 else f"{low}-{high - 1}"
        for low, high in zip(EDGES, EDGES[1:], strict=False)
    ]
    return ["0", *spans, f"{EDGES[-1]}-"]


def bin_of(plays: np.ndarray) -> np.ndarray:
    """Return the bin of each number of plays, int64, an index into names()."""
    return np.searchsorted(EDGES, plays, side="right")


def centres() -> np.ndarray:
    """Return log2 of the geometric middle of each bin, float64; of 0 plays -1."""
    low = np.array(EDGES, dtype=np.float64)
    high = np.append(low[1:] - 1, 3 * low[-1])
    return np.concatenate([[-1.0], (np.log2(low) + np.log2(high)) / 2])


@dataclass(frozen=True)
class Crossing:
    """Where one recommender stops being ahead of another, in plays; inf: beyond the last bin.

    Attributes:
        at, low, high: estimate and 95 % interval; 0 where it is behind from the first bin on.
        first, last: differences in the first and the last bin that has users.
    """

    at: float
    low: float
    high: float
    first: float
    last: float


def crossing(
    differences: np.ndarray, places: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> Crossing:
    """Return where the mean difference of users falls to 0.

    Args:
        differences: float64 (n_users, bins), the first recommender's metric less the other's; NaN
            where a user has no held-out track in the bin. Every bin has a user.
        places: float64 (bins,), ascending: log2 of plays at the bins' centres.
        resamples: of the bootstrap.
    """
    has = np.isfinite(differences).astype(np.float64)
    values = np.where(has > 0, differences, 0.0)
    n = len(values)
    rng = np.random.default_rng([seed, 3])
    found = np.empty(resamples)
    for draw in range(resamples):
        times = np.bincount(rng.integers(0, n, size=n), minlength=n)
        found[draw] = _zero(times @ values, times @ has, places)
    sums, users = values.sum(axis=0), has.sum(axis=0)
    low, high = np.quantile(found, [0.025, 0.975], method="inverted_cdf")
    at = _zero(sums, users, places)
    means = sums / users
    plays = [0.0 if value == -np.inf else float(2.0**value) for value in (at, low, high)]
    return Crossing(*plays, float(means[0]), float(means[-1]))


def _zero(sums: np.ndarray, users: np.ndarray, places: np.ndarray) -> float:
    """Return where falling means cross 0; -inf or inf where all are on one side."""
    from scipy.optimize import isotonic_regression  # a second to import, for this alone

    some = users > 0
    means, places = sums[some] / users[some], places[some]
    falling = isotonic_regression(means, weights=users[some], increasing=False).x
    if falling[0] <= 0:
        return -np.inf
    if falling[-1] > 0:
        return np.inf
    after = int(np.argmax(falling <= 0))
    ahead, behind = falling[after - 1], falling[after]
    share = ahead / (ahead - behind)
    return float(places[after - 1] + share * (places[after] - places[after - 1]))
