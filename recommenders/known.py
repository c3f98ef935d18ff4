"""Which user knows which track: what negatives that are to be unheard are asked against.

Where an epoch asks much, each pair is one bit of a map: a look, where a search takes twenty. An
anchor, which all negatives of a pair are asked for, has its bits side by side, so that most looks
find them in the cache.
"""

from __future__ import annotations

import numpy as np
import torch

from recommenders.compiled import compiled

MAP_BYTES = 1 << 29  # of known pairs, as one bit each, at most
WORTH = 32  # bytes of that map, at most, for each pair that an epoch asks for


class KnownPairs:
    """A set of pairs of a user and a track.

    Args:
        keys: int64, user_idx * n_items + item_idx, ascending, each once.
        n_users, n_items: what ids are below.
        anchored_at_items: an anchor is a track, and a user is what is drawn for it; else the
            other way round.
        asked: how many pairs an epoch asks for, about.
        device: where they live.
    """

    def __init__(
        self,
        keys: np.ndarray,
        n_users: int,
        n_items: int,
        *,
        anchored_at_items: bool,
        asked: int,
        device: str,
    ):
        self.n_items, self.anchored_at_items = n_items, anchored_at_items
        self.n_others = n_users if anchored_at_items else n_items
        self.keys, self.bits = torch.as_tensor(keys, device=device), None
        self.on_cpu = self.keys.device.type == "cpu"
        size = -(-n_users * n_items // 8)
        if size <= min(WORTH * asked, MAP_BYTES):
            self.bits = torch.zeros(size, dtype=torch.uint8, device=device)
            at = self.keys
            if anchored_at_items:
                at = self.keys % n_items * n_users + self.keys // n_items
            for bit in range(8):  # of a bit, each byte comes once
                self.bits[at[at & 7 == bit] >> 3] |= 1 << bit
            self.keys = None

    def contain(self, anchors: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Return bool (m,), which pairs of an anchor and what is drawn for it are in the set.

        Args:
            anchors, others: int64 (m,), on the set's device.
        """
        if self.bits is None:
            users, items = (others, anchors) if self.anchored_at_items else (anchors, others)
            return _searched(self.keys, users * self.n_items + items)
        if not self.on_cpu:
            at = anchors * self.n_others + others
            bytes_ = self.bits.index_select(0, at >> 3)
            return (bytes_ >> (at & 7).to(torch.uint8) & 1).bool()
        found = torch.empty(len(anchors), dtype=torch.bool)
        arrays = (tensor.contiguous().numpy() for tensor in (anchors, others, found))
        _look(self.bits.numpy(), self.n_others, *arrays)
        return found

    def free_of(self, anchor: torch.Tensor) -> torch.Tensor:
        """Return int64 (m,), ascending: what could be drawn for an anchor and is in no pair."""
        if self.bits is not None and self.on_cpu:
            return torch.from_numpy(_free(self.bits.numpy(), self.n_others, int(anchor)))
        everybody = torch.arange(self.n_others, device=anchor.device)
        return everybody[~self.contain(anchor.repeat(self.n_others), everybody)]


@compiled
def _look(bits, n_others, anchors, others, found):
    for i in range(len(anchors)):
        at = anchors[i] * n_others + others[i]
        found[i] = (bits[at >> 3] >> (at & 7)) & 1


@compiled
def _free(bits, n_others, anchor):
    free, n = np.empty(n_others, np.int64), 0
    for other in range(n_others):
        at = anchor * n_others + other
        free[n] = other
        n += 1 - ((bits[at >> 3] >> (at & 7)) & 1)
    return free[:n]


def _searched(sorted_keys: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return which keys are in sorted_keys; in ascending order they are found much faster."""
    if not len(sorted_keys):
        return torch.zeros_like(keys, dtype=torch.bool)
    ascending, order = keys.sort()
    at = torch.searchsorted(sorted_keys, ascending).clamp(max=len(sorted_keys) - 1)
    found = torch.empty_like(order, dtype=torch.bool)
    found[order] = sorted_keys[at] == ascending
    return found
