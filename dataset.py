"""Training batches of both networks, made on the device from tensors that live there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from recommenders.interactions import Interactions
from recommenders.known import KnownPairs
from recommenders.networks.sampled_softmax import ClassSampler, Sample

REDRAWS = 10  # after so many, the few negatives that still collide are drawn from what is free


@dataclass(frozen=True)
class PairBatch:
    """A batch of the Shallow Net: b positive pairs, each with n negatives.

    Attributes:
        users, items: int64 (b,) the positive pairs.
        negatives: int64 (b, n); tracks for a user's pair, or users for a track's pair.
        weights: float32 (b,) confidence of each pair, or None for 1.
    """

    users: torch.Tensor
    items: torch.Tensor
    negatives: torch.Tensor
    weights: torch.Tensor | None

    @property
    def size(self) -> int:
        """What the batch counts for in an epoch's mean loss: its pairs."""
        return len(self.users)

    def part(self, i: int, n: int) -> PairBatch:
        """Return the i-th of n parts, of neighbouring pairs; it may be empty."""
        rows = _nth(len(self.users), i, n)
        weights = None if self.weights is None else self.weights[rows]
        return PairBatch(self.users[rows], self.items[rows], self.negatives[rows], weights)


class InteractionDataset:
    """Positive pairs with random negative *tracks* for each user (sampling `user`).

    Args:
        interactions: the positives.
        known: keys user_idx * n_items + item_idx, ascending, of pairs that are no negatives.
        n_users, n_items: what negatives are drawn from, uniformly and in full.
        n_negatives: for each positive.
        unheard: draw a negative that is in `known` again, until it is not (unless all are); False
            keeps it, as published.
        confidence: weight a pair by 1 + 2 log(1 + plays).
        device: where the pairs live and negatives are drawn; no batch crosses the bus.
    """

    negatives_are_users = False

    def __init__(
        self,
        interactions: Interactions,
        known: np.ndarray,
        n_users: int,
        n_items: int,
        *,
        n_negatives: int,
        unheard: bool,
        confidence: bool,
        device: str,
    ):
        self.users = torch.as_tensor(interactions.user_of_pair, device=device)
        self.items = torch.as_tensor(interactions.items, device=device)
        self.n_users, self.n_items = n_users, n_items
        self.n_negatives, self.unheard, self.device = n_negatives, unheard, device
        self.known = KnownPairs(
            known,
            n_users,
            n_items,
            anchored_at_items=self.negatives_are_users,
            asked=len(self.users) * n_negatives if unheard else 0,
            device=device,
        )
        self.weights = None
        if confidence:
            counts = torch.tensor(interactions.counts, dtype=torch.float32, device=device)
            self.weights = 1 + 2 * torch.log1p(counts)

    def batches(self, batch_size: int, seed: int, *, shuffle: bool) -> Iterator[PairBatch]:
        """Yield every pair once, in batches (the last may be short), as the seed decides."""
        generator = torch.Generator(device=self.device).manual_seed(seed)
        order = torch.arange(len(self.users), device=self.device)
        if shuffle:
            order = torch.randperm(len(order), generator=generator, device=self.device)
        for rows in order.split(batch_size):
            users, items = self.users.index_select(0, rows), self.items.index_select(0, rows)
            weights = None if self.weights is None else self.weights[rows]
            yield PairBatch(users, items, self._negatives(users, items, generator), weights)

    def n_batches(self, batch_size: int) -> int:
        return -(-len(self.users) // batch_size)

    def _negatives(self, users, items, generator) -> torch.Tensor:
        high = self.n_users if self.negatives_are_users else self.n_items

        def draw(n: int, below: int) -> torch.Tensor:
            return torch.randint(below, (n,), generator=generator, device=self.device)

        drawn = draw(len(users) * self.n_negatives, high)
        if self.unheard:
            anchors = items if self.negatives_are_users else users
            anchors = anchors.repeat_interleave(self.n_negatives)
            left = self.known.contain(anchors, drawn).nonzero()[:, 0]
            for _ in range(REDRAWS):
                if not len(left):
                    break
                drawn[left] = draw(len(left), high)
                left = left[self.known.contain(anchors[left], drawn[left])]
            for anchor in anchors[left].unique():
                free = self.known.free_of(anchor)
                places = left[anchors[left] == anchor]
                if len(free):  # else all are known, and what was drawn stays
                    drawn[places] = free[draw(len(places), len(free))]
        return drawn.view(len(users), self.n_negatives)


class InteractionDatasetItems(InteractionDataset):
    """Positive pairs with random negative *users* for each track (sampling `item`)."""

    negatives_are_users = True


@dataclass(frozen=True)
class MaskedBatch:
    """A batch of BERT4Rec: b sequences padded to a common length l.

    Attributes:
        tokens: int64 (b, l) item_idx, or n_items where masked, or n_items + 1 where padded.
        positions: int64 (m,) places of the masked tokens in the flattened (b * l).
        targets: int64 (m,) the item_idx that were there.
        sample: the tracks that stand for all of them in the loss; None for all.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    sample: Sample | None = None

    @property
    def size(self) -> int:
        """What the batch counts for in an epoch's mean loss: its masked positions."""
        return len(self.targets)

    def part(self, i: int, n: int) -> MaskedBatch:
        """Return the i-th of n parts, of neighbouring sequences; nothing in it may be masked."""
        rows, length = _nth(len(self.tokens), i, n), self.tokens.shape[1]
        first, end = rows.start * length, rows.stop * length
        inside = (first <= self.positions) & (self.positions < end)
        positions, targets = self.positions[inside] - first, self.targets[inside]
        return MaskedBatch(self.tokens[rows], positions, targets, self.sample)


class SequenceDataset:
    """Each user's tracks in order of time, the last max_length of them, as one flat array.

    Args:
        interactions: of the users; a sequence is ordered by first play, then track.
        n_items: candidates; n_items stands for the mask and n_items + 1 for padding.
        max_length: tokens kept of each sequence, the newest.
        device: where the sequences live.
    """

    def __init__(self, interactions: Interactions, n_items: int, max_length: int, device: str):
        lengths = np.diff(interactions.offsets)
        kept = np.minimum(lengths, max_length)
        ends = interactions.offsets[1:]
        tokens = interactions.in_order_of_time()[_ranges(ends - kept, kept)]
        self.tokens = torch.as_tensor(tokens, device=device)
        self.lengths = torch.as_tensor(kept, device=device)
        self.starts = torch.as_tensor(np.cumsum(kept) - kept, device=device)
        self.mask_token, self.padding, self.device = n_items, n_items + 1, device

    def masked_batches(
        self,
        batch_size: int,
        seed: int,
        *,
        mask_share: float,
        shuffle: bool,
        sampler: ClassSampler | None = None,
    ) -> Iterator[MaskedBatch]:
        """Yield every sequence once, each token masked with probability mask_share.

        The masks of all sequences are drawn before they are put into batches, so they do not
        depend on the batch size. A batch in which nothing is masked has no loss and is left out.
        """
        generator = torch.Generator(device=self.device).manual_seed(seed)
        draws = torch.rand(len(self.tokens), generator=generator, device=self.device)
        order = torch.arange(len(self.lengths), device=self.device)
        if shuffle:
            order = torch.randperm(len(order), generator=generator, device=self.device)
        hidden = torch.where(draws < mask_share, self.mask_token, self.tokens)
        for rows in order.split(batch_size):
            truth, tokens = self.padded(self.tokens, rows), self.padded(hidden, rows)
            positions = (tokens == self.mask_token).flatten().nonzero()[:, 0]
            if len(positions):
                sample = None if sampler is None else sampler.draw(generator)
                yield MaskedBatch(tokens, positions, truth.flatten()[positions], sample)

    def padded(self, flat: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the sequences of the rows from a flat array, (b, longest of them), padded."""
        lengths = self.lengths[rows]
        place = torch.arange(int(lengths.max()), device=self.device)
        at = self.starts[rows, None] + place
        inside = place < lengths[:, None]
        return torch.where(inside, flat[at.clamp(max=len(flat) - 1)], self.padding)

    def with_final_mask(self, rows: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last length - 1 tokens of the rows and a mask after them, and its place.

        Returns:
            int64 (b, at most length) tokens, and int64 (b,) the place of each row's mask.
        """
        kept = self.lengths[rows].clamp(max=length - 1)
        first = self.starts[rows] + self.lengths[rows] - kept
        place = torch.arange(int(kept.max()) + 1, device=self.device)
        at = (first[:, None] + place).clamp(max=len(self.tokens) - 1)
        tokens = torch.where(place < kept[:, None], self.tokens[at], self.padding)
        tokens[torch.arange(len(rows), device=self.device), kept] = self.mask_token
        return tokens, kept

    def n_batches(self, batch_size: int) -> int:
        return -(-len(self.lengths) // batch_size)


def _nth(size: int, i: int, n: int) -> slice:
    return slice(size * i // n, size * (i + 1) // n)


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return start, start + 1, ... of every range, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
