"""Bimodal: a tower for sound and one for listening, taught that both see the same track.

Both towers are Linear(in, h) -> ReLU -> Linear(h, h). One sees the audio model's vectors c_i, the
other the vectors k_i that ELSA learned; a contrastive loss (contrastive.py) of their unit outputs
brings the two of a track together and apart from those of other tracks. Three recommenders rank by
one training: content unit(g_c(c)), collaborative unit(g_k(k)), and average, the mean of the two at
length 1. Source: the extended study (arXiv 2604.23077).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from recommenders.networks.contrastive import contrastive_loss
from recommenders.networks.elsa import unit
from recommenders.networks.hybrid import tower

VIEWS = ("content", "collaborative", "average")


@dataclass(frozen=True)
class TrackBatch:
    """A batch of tracks, of which some are anchors; all of them are what anchors are kept from.

    Attributes:
        items: int64 (B,) item_idx.
        anchors: which of them the loss is of.
    """

    items: torch.Tensor
    anchors: slice

    @property
    def size(self) -> int:
        """What the batch counts for in an epoch's mean loss: its anchors."""
        return self.anchors.stop - self.anchors.start

    def part(self, i: int, n: int) -> TrackBatch:
        """Return the i-th of n parts, of neighbouring anchors among the same tracks."""
        first, size = self.anchors.start, self.size
        return TrackBatch(self.items, slice(first + size * i // n, first + size * (i + 1) // n))


def track_batches(n_items: int, batch_size: int, seed: int, device: str) -> Iterator[TrackBatch]:
    """Yield every track once, shuffled; a last one that would be alone joins the batch before."""
    generator = torch.Generator(device=device).manual_seed(seed)
    order = torch.randperm(n_items, generator=generator, device=device)
    starts = range(0, n_items, batch_size)[: n_batches(n_items, batch_size)]
    for start in starts:
        end = n_items if start == starts[-1] else start + batch_size
        yield TrackBatch(order[start:end], slice(0, end - start))


def n_batches(n_items: int, batch_size: int) -> int:
    """Return the number of batches of an epoch."""
    return max(1, -(-n_items // batch_size) - (n_items % batch_size == 1))


class Bimodal(nn.Module):
    """Two towers over two views of the tracks, which stay as they are.

    Args:
        content: float32 (n_items, d) of an audio model.
        collaborative: float32 (n_items, r) of ELSA.
        hidden: width of both towers.
        loss, temperature, sigma: as contrastive_loss takes them.
        unit_length: bring outputs to length 1 before they are averaged and ranked by, as the loss
            saw them; False ranks by them as they come, and adds the two for the average.
    """

    def __init__(
        self,
        content: np.ndarray,
        collaborative: np.ndarray,
        hidden: int,
        *,
        loss: str = "adcl",
        temperature: float = 0.1,
        sigma: float | None = None,
        unit_length: bool = True,
    ):
        super().__init__()
        self.kind, self.temperature, self.sigma = loss, temperature, sigma
        self.width, self.unit_length = hidden, unit_length
        for name, values in (("content", content), ("collaborative", collaborative)):
            values = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)
        self.content_tower = tower(content.shape[1], hidden)
        self.collaborative_tower = tower(collaborative.shape[1], hidden)

    def loss(self, batch: TrackBatch) -> torch.Tensor:
        """Return the mean loss of the batch's anchors."""
        content = self.content_tower(self.content[batch.items]).float()
        collaborative = self.collaborative_tower(self.collaborative[batch.items]).float()
        return contrastive_loss(
            self.kind,
            unit(content),
            unit(collaborative),
            temperature=self.temperature,
            sigma=self.sigma,
            anchors=batch.anchors,
        )

    @torch.no_grad()
    def vectors(self, view: str = "content", content: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors (n, hidden) of all tracks in a view, or of other tracks by content.

        Args:
            view: content, collaborative or average.
            content: float32 (n, d) of other tracks, which ELSA does not know: `content` only.
        """
        length_1 = unit if self.unit_length else torch.Tensor.float
        if content is not None:
            return length_1(self.content_tower(content))
        if view == "content":
            return length_1(self.content_tower(self.content))
        collaborative = length_1(self.collaborative_tower(self.collaborative))
        if view == "collaborative":
            return collaborative
        return length_1(length_1(self.content_tower(self.content)) + collaborative)
