"""What random lists are expected to reach: the level of chance, exactly.

A list is a uniform draw without replacement of k of a user's N candidates (tracks of train that
the user has not played there), T of which are held out. With C the binomial coefficient:

    HitRate     1 - C(N - T, k) / C(N, k)                         hypergeometric: at least one hit
    MRR         sum over r <= k of 1/r  C(N - r, T - 1) / C(N, T)      the first hit is at rank r
    Precision   T / N
    Recall      k / N
    NDCG        T / N  sum over r <= k of 1/log2(r + 1)  /  IDCG(min(T, k))

where k is at most N, as a list is no longer than its candidates.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from evaluation.measures import METRICS


def chance(held_out: np.ndarray, candidates: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Return the expected metrics of every user of a random list, {name: float64 (n,)}.

    A metric whose expectation is not known here is left out.

    Args:
        held_out: int (n,) T of each user, at least 1; all are among the candidates.
        candidates: int (n,) N of each user.
        k: where lists are cut.
    """
    kinds, row = np.unique(np.stack([held_out, candidates], axis=1), axis=0, return_inverse=True)
    wanted, among = kinds.T.astype(np.float64)  # users with equal T and N are computed once
    ranks = np.arange(1, k + 1)
    inside = ranks <= among[:, None]
    first = _log_binomial(among[:, None] - ranks, wanted[:, None] - 1)
    first = np.exp(first - _log_binomial(among, wanted)[:, None]) * inside
    gains = 1 / np.log2(ranks + 1)
    ideal = np.cumsum(gains)[np.minimum(wanted, k).astype(int) - 1]
    values = {
        "HitRate": first.sum(axis=1),
        "MRR": (first / ranks).sum(axis=1),
        "Precision": wanted / among,
        "Recall": np.minimum(k, among) / among,
        "NDCG": wanted / among * (gains * inside).sum(axis=1) / ideal,
    }
    return {name: values[name][row.ravel()] for name in METRICS if name in values}


def _log_binomial(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Return log C(n, k), -inf where k > n."""
    n, k = np.broadcast_arrays(n, k)
    possible = k <= n
    rest = np.where(possible, n - k, 0)
    value = gammaln(np.maximum(n, 0) + 1) - gammaln(k + 1) - gammaln(rest + 1)
    return np.where(possible, value, -np.inf)
