"""Lists by products of a user's vector with every track's, of which no more is held than a block.

A block is of many users, who share what the product's library makes ready of each block of tracks,
and of few enough tracks that its scores are still in the cache when they are looked at.
"""

from __future__ import annotations

import numpy as np

from core.cores import by_parts, one_core_a_product
from recommenders.best import Best, ascend, leave_out
from recommenders.interactions import Interactions, Split
from recommenders.lists import Lists, recommend
from recommenders.vectors import Cosines

USERS, TRACKS = 1 << 10, 1 << 11  # of a block; of users, each core has its share


def recommend_nearest(cosines: Cosines, split: Split, **options) -> Lists:
    """Return the lists that recommend makes of these scores, ties by item_idx included.

    Args:
        cosines: of the split's users and tracks.
        split, options: as recommend takes them, without `best`.
    """
    options = {"block": USERS, **options}
    best = BestProducts(cosines.items, split.masked)
    return recommend(cosines.means, split, best=best, **options)


class BestProducts:
    """The k best unheard tracks of users, from their vectors.

    Args:
        items: float (n_items, width), of the tracks.
        heard: a row for every user_idx; what is in it is in no list (Split.masked).

    Raises:
        ValueError: a row of `heard` does not ascend, so that some of it would be listed.
    """

    def __init__(self, items: np.ndarray, heard: Interactions):
        if not ascend(heard.offsets, heard.items):
            raise ValueError("what a user has heard must be in the order of item_idx")
        self.items, self.heard = items, heard

    def __call__(
        self, vectors: np.ndarray, users: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return item_idx (b, k), -1 after a list's end, and their scores (b, k) float32.

        Args:
            vectors: float (b, width), of the users.
            users: user_idx (b,) of the rows.
            k: tracks in a list, at most.

        Raises:
            ValueError: a product is NaN.
        """
        with one_core_a_product():
            parts = by_parts(lambda rows: self._part(vectors[rows], users[rows], k), len(users))
        found, scores = (np.concatenate(both) for both in zip(*parts, strict=True))
        return found, scores.astype(np.float32, copy=False)

    def _part(self, vectors: np.ndarray, users: np.ndarray, k: int):
        best = Best(len(users), min(k, len(self.items)), self.items.dtype)
        buffer = np.empty(len(users) * TRACKS, self.items.dtype)
        for first in range(0, len(self.items), TRACKS):
            table = self.items[first : first + TRACKS]
            scores = buffer[: len(users) * len(table)].reshape(len(users), len(table))
            np.matmul(vectors, table.T, out=scores)
            leave_out(scores, first, users, self.heard.offsets, self.heard.items)
            best.add(scores, first)
        return best.lists()
