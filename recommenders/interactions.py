"""The split with dense ids: what every recommender learns from and is judged by.

Four kinds of id, never mixed: `user_id` and `track_id` are Music4All's; `track_idx` is a row of
trackid_sorted.csv, hence of every embedding; `user_idx` and `item_idx` are dense, over the users
and tracks of train in ascending order. Recommenders only see the dense ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from core.splits import read_split


@dataclass(frozen=True)
class Interactions:
    """Interactions of some users, grouped by user (compressed rows).

    Attributes:
        users: int64 (n,) user_idx, ascending.
        offsets: int64 (n + 1,); user i's interactions are offsets[i]:offsets[i + 1].
        items: int64 (m,) item_idx, ascending inside a user.
        timestamps: datetime64[us] (m,) first play.
        counts: int64 (m,) plays.
    """

    users: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    counts: np.ndarray

    def of(self, row: int) -> np.ndarray:
        """Return the item_idx of the row-th user."""
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    def at_least(self, n: int) -> Interactions:
        """Return the interactions of those users who have n of them or more."""
        lengths = np.diff(self.offsets)
        keep = np.repeat(lengths >= n, lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths[lengths >= n])])
        users = self.users[lengths >= n]
        return Interactions(
            users, offsets, self.items[keep], self.timestamps[keep], self.counts[keep]
        )

    @property
    def user_of_pair(self) -> np.ndarray:
        """int64 (m,): the user_idx of every interaction."""
        return np.repeat(self.users, np.diff(self.offsets))

    def in_order_of_time(self) -> np.ndarray:
        """Return items (m,) with each user's in order of first play, then track_idx."""
        order = np.lexsort((self.items, self.timestamps, self.user_of_pair))
        return self.items[order]


@dataclass(frozen=True)
class Split:
    """Train, validation and test interactions under dense ids.

    Attributes:
        user_ids: int64 (n_users,) the user_id of each user_idx.
        track_idx: int64 (n_items,) the track_idx of each item_idx; these are the candidates.
        n_tracks: rows of trackid_sorted.csv.
        train: one row for every user_idx, in order.
        val, test: only the users held out for it.
        fingerprint: of the files, as splits.split_hash returns it.
        cold_table: cold_test.pqt, read together with them; None where the split has none.
        seen_again: tracks of a user's train history may be held out, and listed.
        held_out: held_out.pqt, read together with them; None where the split has none.
    """

    user_ids: np.ndarray
    track_idx: np.ndarray
    n_tracks: int
    train: Interactions
    val: Interactions
    test: Interactions
    fingerprint: str = ""
    cold_table: pd.DataFrame | None = None
    seen_again: bool = False
    held_out: pd.DataFrame | None = None

    @property
    def masked(self) -> Interactions:
        """What no list may name, a row for every user_idx: train, or nothing (`seen_again`)."""
        if not self.seen_again:
            return self.train
        none = np.zeros(self.n_users + 1, dtype=np.int64)
        return replace(
            self.train,
            offsets=none,
            **{name: getattr(self.train, name)[:0] for name in ("items", "timestamps", "counts")},
        )

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.track_idx)

    @property
    def eval_users(self) -> np.ndarray:
        """user_idx of every user of val and test, ascending: those who get a list."""
        return np.union1d(self.val.users, self.test.users)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return train, val and test under the ids of the files: user_id, track_idx, count.

        They are what was read when the split was loaded, whatever the files hold by now.
        """
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {
            name: pd.DataFrame(
                {
                    "user_id": self.user_ids[part.user_of_pair],
                    "track_idx": self.track_idx[part.items],
                    "count": part.counts,
                }
            )
            for name, part in parts.items()
        }


def load_split(root: Path) -> Split:
    """Read data/{train,val,test,cold_test}.pqt; see splits.read_split for what is checked."""
    tables = read_split(root)
    user_ids = np.unique(tables["train"].user_id)
    track_idx = np.unique(tables["train"].track_idx)
    parts = {name: _interactions(table, user_ids, track_idx) for name, table in tables.items()}
    return Split(
        user_ids,
        track_idx,
        tables.n_tracks,
        **parts,
        fingerprint=tables.fingerprint,
        cold_table=tables.cold,
        seen_again=tables.seen_again,
        held_out=tables.held_out,
    )


def _interactions(table, user_ids: np.ndarray, track_idx: np.ndarray) -> Interactions:
    user = np.searchsorted(user_ids, table.user_id)
    items = np.searchsorted(track_idx, table.track_idx)
    users, lengths = np.unique(user, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    counts = table["count"].to_numpy(copy=True)  # a view would keep the frame's other columns
    return Interactions(users, offsets, items, table.timestamp.to_numpy(copy=True), counts)


def pair_keys(*parts: Interactions, n_items: int) -> np.ndarray:
    """Return user_idx * n_items + item_idx of all interactions of the parts, ascending."""
    keys = np.concatenate([p.user_of_pair * n_items + p.items for p in parts])
    keys.sort(
        kind="stable"
    )  # parts are in order: np.unique, which hashes, takes fifty times as long
    return keys[np.diff(keys, prepend=-1) > 0]
