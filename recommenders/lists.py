"""From scores to top-k lists without heard tracks: `recommend` makes the lists of all recommenders.

`top_k` leaves heard tracks out of scores in numpy, training/device_lists.py of those on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from core.cores import by_parts
from core.options import WorkError
from evaluation.metric_options import LIST_LENGTH
from recommenders.best import Best
from recommenders.interactions import Split

BLOCK_BYTES = 1 << 26  # memory for one block of scores; larger ones leave the cache


@dataclass(frozen=True)
class Lists:
    """Ranked lists, as rows: int64 user_idx, item_idx, rank (from 1), and float32 score."""

    users: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray

    def matrix(self) -> np.ndarray:
        """Return int64 (n_users, longest) of item_idx, in order of user, -1 after a list's end."""
        users, rows = np.unique(self.users, return_inverse=True)
        lists = np.full((len(users), self.ranks.max()), -1, dtype=np.int64)
        lists[rows, self.ranks - 1] = self.items
        return lists


def top_k(scores: np.ndarray, seen: list[np.ndarray], k: int) -> np.ndarray:
    """Return the k best unheard tracks of each user, best first.

    Args:
        scores: float array (n_users, n_items), higher is better. It is used as scratch space:
            heard tracks are set to -inf.
        seen: for each user, the item_idx played in train; they are never recommended.
        k: list length; lists are shorter when there are fewer unheard tracks.

    Returns:
        int64 (n_users, min(k, n_items)) of item_idx; equal scores in order of item_idx, so that
        the result does not depend on the machine. Rows short of unheard tracks end in -1.

    Raises:
        ValueError: k < 1, seen has another length than scores, or a score is NaN.
    """
    n_users, n_items = scores.shape
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if len(seen) != n_users:
        raise ValueError(f"seen has {len(seen)} histories for {n_users} rows of scores")
    k = min(k, n_items)
    lengths = [len(items) for items in seen]
    if sum(lengths):
        scores[np.repeat(np.arange(n_users), lengths), np.concatenate(seen)] = -np.inf
    best = Best(n_users, k, scores.dtype)
    best.add(scores, 0)
    return best.lists()[0]


def recommend(
    score: Callable[[np.ndarray], np.ndarray],
    split: Split,
    *,
    users: np.ndarray | None = None,
    k: int = LIST_LENGTH,
    block: int | None = None,
    best: Callable | None = None,
) -> Lists:
    """Return the lists of the users, or of every user of val and test.

    Args:
        score: user_idx (b,) -> scores (b, n_items), which are overwritten, or what `best` takes.
        users: user_idx, ascending; None for all that are evaluated.
        k: tracks in a list.
        block: users at a time; None for what fits in BLOCK_BYTES.
        best: (scores, users, k) -> item_idx (b, k), -1 after a list's end, and their scores, where
            they are no numpy array of all scores; None for top_k.

    Raises:
        WorkError: a user has heard every track, so that no list could be made.
    """
    users = split.eval_users if users is None else users
    block = block or max(1, BLOCK_BYTES // (4 * split.n_items))
    best = best or partial(_best_of_arrays, split)
    parts = []
    for chosen in _blocks(users, block):
        found, values = best(score(chosen), chosen, k)
        rows, places = np.nonzero(found >= 0)
        empty = np.setdiff1d(np.arange(len(chosen)), rows)
        if len(empty):
            user_id = split.user_ids[chosen[empty[0]]]
            raise WorkError(f"user {user_id} has heard every track of train: no list can be made")
        parts.append((chosen[rows], found[rows, places], places + 1, values[rows, places]))
    return Lists(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _best_of_arrays(split: Split, scores: np.ndarray, users: np.ndarray, k: int):
    masked = split.masked
    seen = [masked.of(user) for user in users]
    parts = by_parts(lambda rows: top_k(scores[rows], seen[rows], k), len(users))
    found = np.concatenate(parts)
    return found, np.take_along_axis(scores, found, axis=1).astype(np.float32)


def _blocks(users: np.ndarray, block: int) -> Iterator[np.ndarray]:
    with tqdm(total=len(users), desc="recommend", unit=" users", disable=None, leave=False) as bar:
        for start in range(0, len(users), block):
            yield users[start : start + block]
            bar.update(len(users[start : start + block]))
