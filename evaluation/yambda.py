"""The metrics of Yambda's benchmark, so that a run of its protocol stands beside what it tells.

For every user with a play in the time held out, of a track that train knows or not, with the list L
cut at k, the tracks T and the number n of those plays (a track played twice counts twice):

    Recall    |L and T| / min(n, k)
    NDCG      DCG / IDCG, gain 1 / log2(rank + 1) at each hit, the ideal over min(n, k) hits

Users who played only what train does not know have no hits, and count. Its own code divides by
other things from version to version (docs/own-data.md says which); this is what its text defines.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.split_parts import TESTS, VALIDATES

KS = (10, 50, 100)
WINDOWS = {"val": VALIDATES, "test": TESTS}


def benchmark_metrics(held_out: pd.DataFrame, truth: pd.DataFrame, recs: pd.DataFrame) -> dict:
    """Return {"users": n, "Recall@10": mean, ...} of one part.

    Args:
        held_out: user_id, plays; each user with a play in the time held out, once.
        truth: user_id, track_idx of those of the plays whose track train knows, each pair once.
        recs: user_id, track_idx, rank (from 1) of the lists.
    """
    pairs = recs[["user_id", "track_idx", "rank"]].merge(
        truth[["user_id", "track_idx"]], on=["user_id", "track_idx"]
    )
    users = held_out.user_id.to_numpy()
    order = np.argsort(users)
    row = order[np.searchsorted(users, pairs.user_id, sorter=order)]
    ranks, plays = pairs["rank"].to_numpy(), held_out.plays.to_numpy()
    gains = 1 / np.log2(np.arange(2, max(KS) + 2))
    found: dict = {"users": len(users)}
    for k in KS:
        inside = ranks <= k
        hits = np.bincount(row[inside], minlength=len(users))
        dcg = np.bincount(row[inside], gains[ranks[inside] - 1], minlength=len(users))
        most = np.minimum(plays, k)
        found[f"Recall@{k}"] = float(np.mean(hits / most))
        found[f"NDCG@{k}"] = float(np.mean(dcg / np.cumsum(gains)[most - 1]))
    return found


def described(found: dict) -> str:
    """Return the metrics of a part in a line."""
    told = "  ".join(f"{name} {value:.4f}" for name, value in found.items() if name != "users")
    return f"{found['users']:>9,}  as Yambda's benchmark has it: {told}"


def of_parts(held_out: pd.DataFrame, split: dict, recs: pd.DataFrame) -> dict:
    """Return benchmark_metrics of val and test.

    Args:
        held_out: held_out.pqt: user_id, window, plays.
        split: val and test tables.
    """
    return {
        part: benchmark_metrics(held_out[held_out.window == window], split[part], recs)
        for part, window in WINDOWS.items()
    }
