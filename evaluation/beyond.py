"""What accuracy does not say: how lists use the catalogue, and for which users and tracks they hit.

Of the lists L_u of the users U, cut at k, over the candidates I (tracks of train), where n_i is the
number of users of track i in train, N that of all users in train, and c_i the number of lists that
hold i:

    Coverage    share of I that stands in at least one list
                (Herlocker et al., 2004, catalogue coverage)
    Gini        sum over i of (2 r_i - |I| - 1) c_i  /  (|I| sum of c), r_i the rank of c_i from the
                smallest, 1: 0 when all tracks are listed equally often, near 1 when few hold all
                places (Shani and Gunawardana, 2011)
    Popularity  mean over U of the mean over L_u of n_i / N: the share of users who know a
                recommended track (Abdollahpouri et al., 2019, average popularity, as a share)
    Novelty     mean over U of the mean over L_u of -log2(n_i / N), in bits (Zhou et al., 2010)

Segments: tracks by popularity, in order of n_i: the first of them that together hold a third of
train's interactions are `head`, the next third `middle`, the rest `tail`. Users by activity, the
number of their tracks in train: above the second tercile of all users `head`, above the first
`middle`, else `tail`. A segment of tracks takes of each user's held-out tracks only those in it,
and users without one are left out; the lists are the same, over all candidates.
"""

from __future__ import annotations

import numpy as np

GROUPS = ("head", "middle", "tail")
STATISTICS = ("Coverage", "Gini", "Popularity", "Novelty")


def list_statistics(lists: np.ndarray, users_of_track: np.ndarray, n_users: int, k: int) -> dict:
    """Return Coverage, Gini, Popularity and Novelty of the lists at k, {name: float}.

    Args:
        lists: int64 (n, m) track_idx, best first; -1 from the end of a shorter list on. None is
            empty.
        users_of_track: int64 (n_tracks,) n_i of every track_idx; 0 for those outside train.
        n_users: N.
        k: where lists are cut.
    """
    lists = lists[:, :k]
    listed = lists >= 0
    candidates = np.flatnonzero(users_of_track)
    times = np.bincount(lists[listed], minlength=len(users_of_track))[candidates]
    share = users_of_track / n_users
    lengths = listed.sum(axis=1)
    known = np.where(listed, share[lists], 0).sum(axis=1) / lengths
    bits = np.where(listed, -np.log2(np.where(listed, share[lists], 1)), 0).sum(axis=1) / lengths
    return {
        "Coverage": float(np.mean(times > 0)),
        "Gini": gini(times),
        "Popularity": float(known.mean()),
        "Novelty": float(bits.mean()),
    }


def gini(counts: np.ndarray) -> float:
    """Return the Gini coefficient of counts (n,), as the module's docstring defines it."""
    n, ordered = len(counts), np.sort(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def popularity_groups(users_of_track: np.ndarray) -> np.ndarray:
    """Return 0 (head), 1 (middle) or 2 (tail) for every track_idx, int64 (n_tracks,).

    Tracks of equal popularity come in order of track_idx; those outside train are tail.
    """
    order = np.argsort(-users_of_track, kind="stable")
    counts = users_of_track[order]
    before = np.cumsum(counts) - counts
    groups = np.empty(len(order), dtype=np.int64)
    groups[order] = np.minimum(3 * before // max(counts.sum(), 1), 2)
    return groups


def activity_groups(tracks_of_user: np.ndarray) -> np.ndarray:
    """Return 0 (head), 1 (middle) or 2 (tail) for every user of train, int64 (n_users,)."""
    low, high = np.quantile(tracks_of_user, [1 / 3, 2 / 3], method="inverted_cdf")
    return 2 - (tracks_of_user > low).astype(np.int64) - (tracks_of_user > high)
