"""Hybrid: ELSA whose vectors are computed from sound, so that cold tracks have one too.

A = unit(g(C)) of the embedding's rows C, made for all tracks of train in each step, with

    g: Linear(d, h) -> ReLU -> Linear(h, h)

and ELSA's f and loss. Source: the extended study (arXiv 2604.23077).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from recommenders.networks.elsa import (
    adam_of_small_gradients,
    held_out_loss,
    reconstruction_loss,
    unit,
)
from recommenders.networks.histories import HistoryBatch

MANY = 1 << 16  # rows of a block; the study's 56,193 tracks are one


class Hybrid(nn.Module):
    """A tower over the vectors of an audio model.

    Args:
        content: float32 (n, d), of the tracks that take part in training; those that are ranked
            come first. They stay as they are and are kept out of the checkpoints.
        n_items: tracks that are ranked.
        hidden: h, the width of the tower and of what it returns.
    """

    make_optimizer = staticmethod(adam_of_small_gradients)

    def __init__(self, content: np.ndarray, n_items: int, hidden: int):
        super().__init__()
        self.n_items, self.width = n_items, hidden
        values = torch.tensor(content, dtype=torch.float32)
        self.register_buffer("content", values, persistent=False)
        self.tower = tower(content.shape[1], hidden)

    def loss(self, batch: HistoryBatch) -> torch.Tensor:
        """Return ELSA's loss of the computed vectors."""
        raw = in_blocks(self.tower, self.content).float()
        if batch.wanted is not None:
            return held_out_loss(raw, batch)
        return reconstruction_loss(raw, batch.heard)

    @torch.no_grad()
    def vectors(self, content: torch.Tensor | None = None) -> torch.Tensor:
        """Return unit(g(C)), (n, h), of the tracks that are ranked, or of others' rows (n, d)."""
        rows = self.content[: self.n_items] if content is None else content
        return unit(in_blocks(self.tower, rows))


def in_blocks(network: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Return network(rows), of many rows block by block.

    What stands between the layers is then made again for the gradient: of a million rows it would
    be twice the memory of the result.
    """
    if len(rows) <= MANY:
        return network(rows)
    if torch.is_grad_enabled():
        parts = [checkpoint(network, block, use_reentrant=False) for block in rows.split(MANY)]
    else:
        parts = [network(block) for block in rows.split(MANY)]
    return torch.cat(parts)


def tower(width: int, hidden: int) -> nn.Sequential:
    """Return Linear(width, hidden) -> ReLU -> Linear(hidden, hidden)."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
