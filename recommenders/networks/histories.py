"""Batches of users with all they heard, from histories that live on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from recommenders.interactions import Interactions


@dataclass(frozen=True)
class Ragged:
    """Rows of item_idx of different lengths, one after the other.

    Attributes:
        offsets: int64 (n + 1,); row i is items[offsets[i]:offsets[i + 1]].
        items: int64 (m,).
    """

    offsets: torch.Tensor
    items: torch.Tensor

    @classmethod
    def of(cls, interactions: Interactions, device: str) -> Ragged:
        """Return the items of interactions, a row for each of their users."""
        return cls(
            torch.as_tensor(interactions.offsets, device=device),
            torch.as_tensor(interactions.items, device=device),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> torch.Tensor:
        return self.offsets.diff()

    def row_of_item(self) -> torch.Tensor:
        """int64 (m,): the row of every item."""
        return torch.repeat_interleave(self.lengths, output_size=len(self.items))

    def take(self, rows: torch.Tensor) -> Ragged:
        """Return the rows int64 (b,), in their order."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        ends = lengths.cumsum(0)
        offsets = torch.cat([ends.new_zeros(1), ends])
        shift = torch.repeat_interleave(starts - offsets[:-1], lengths)
        return Ragged(offsets, self.items[shift + torch.arange(len(shift), device=rows.device)])


@dataclass(frozen=True)
class HistoryBatch:
    """A batch of b users.

    Attributes:
        heard: what they heard, a row each.
        wanted: what they heard later and is to be found from `heard`, a row each; None where
            `heard` is to be found from itself, as in training.
    """

    heard: Ragged
    wanted: Ragged | None = None

    @property
    def size(self) -> int:
        """What the batch counts for in an epoch's mean loss: its users."""
        return len(self.heard)

    def part(self, i: int, n: int) -> HistoryBatch:
        """Return the i-th of n parts, of neighbouring users; it may be empty."""
        first, end = self.size * i // n, self.size * (i + 1) // n
        rows = torch.arange(first, end, device=self.heard.offsets.device)
        wanted = None if self.wanted is None else self.wanted.take(rows)
        return HistoryBatch(self.heard.take(rows), wanted)


class HistoryDataset:
    """Users with what they heard, and perhaps what they heard later.

    Args:
        heard: of the users, a row each.
        wanted: of the same users in the same order; None for training.
        device: where both live.
    """

    def __init__(self, heard: Interactions, wanted: Interactions | None = None, *, device: str):
        self.heard, self.device = Ragged.of(heard, device), device
        self.wanted = None if wanted is None else Ragged.of(wanted, device)

    def batches(self, batch_size: int, seed: int, *, shuffle: bool) -> Iterator[HistoryBatch]:
        """Yield every user once, in batches (the last may be short), as the seed decides."""
        order = torch.arange(len(self.heard), device=self.device)
        if shuffle:
            generator = torch.Generator(device=self.device).manual_seed(seed)
            order = torch.randperm(len(order), generator=generator, device=self.device)
        for rows in order.split(batch_size):
            wanted = None if self.wanted is None else self.wanted.take(rows)
            yield HistoryBatch(self.heard.take(rows), wanted)

    def n_batches(self, batch_size: int) -> int:
        return -(-len(self.heard) // batch_size)


def histories_of(train: Interactions, users: np.ndarray) -> Interactions:
    """Return train's rows of the users (user_idx), in their order."""
    lengths = np.diff(train.offsets)[users]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    at = np.repeat(train.offsets[users] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Interactions(users, offsets, train.items[at], train.timestamps[at], train.counts[at])
