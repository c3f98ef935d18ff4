"""Shallow Net: one linear layer with ReLU shared by users and tracks, and the cosine between them.

Source: the study (Tamm and Aljanaki, RecSys '24), section on recommenders.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from dataset import PairBatch


class ShallowEmbeddingModel(nn.Module):
    """Users and tracks as vectors of width d, seen through Linear(d -> hidden) and ReLU.

    Args:
        user_vectors: float32 (n_users, d), where the users start.
        item_vectors: float32 (n_items, d), where the tracks start.
        hidden: width of the layer's output.
        train_users, train_tracks: whether those vectors are learned; the layer always is.
            Frozen ones are kept out of the checkpoints: they are in the embedding's file.
        negatives_are_users: what a batch's negatives index.
        margin: of the hinge loss.
        l2: weight of the sum of squares of everything that is learned.
    """

    def __init__(
        self,
        user_vectors: np.ndarray,
        item_vectors: np.ndarray,
        hidden: int,
        *,
        train_users: bool,
        train_tracks: bool,
        negatives_are_users: bool,
        margin: float = 0.2,
        l2: float = 0.0,
    ):
        super().__init__()
        self.width = item_vectors.shape[1]
        self._table("users", user_vectors, train_users)
        self._table("items", item_vectors, train_tracks)
        self.layer = nn.Sequential(nn.Linear(self.width, hidden), nn.ReLU())
        self.negatives_are_users, self.margin, self.l2 = negatives_are_users, margin, l2

    def _table(self, name: str, vectors: np.ndarray, train: bool) -> None:
        values = torch.tensor(vectors, dtype=torch.float32)
        if train:
            self.register_parameter(name, nn.Parameter(values))
        else:
            self.register_buffer(name, values, persistent=False)

    def unit(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (n, d) -> the layer's output at length 1 (n, hidden); zeros stay zeros."""
        return F.normalize(self.layer(vectors), dim=1, eps=1e-8)

    def loss(self, batch: PairBatch) -> torch.Tensor:
        """Return the mean over pairs and negatives of weight * max(0, margin - pos + neg).

        Every distinct user and track of the batch goes through the layer once; the pairs are
        then gathered from the unit vectors, which is the same sum as pair by pair.
        """
        if self.negatives_are_users:
            anchors, positives = batch.items, batch.users
            anchor_table, other_table = self.items, self.users
        else:
            anchors, positives = batch.users, batch.items
            anchor_table, other_table = self.users, self.items
        anchor_ids, anchor_rows = torch.unique(anchors, return_inverse=True)
        others = torch.cat([positives[:, None], batch.negatives], dim=1)  # (b, 1 + n)
        other_ids, other_rows = torch.unique(others, return_inverse=True)

        anchor = F.embedding(anchor_rows, self.unit(anchor_table[anchor_ids]))  # (b, hidden)
        other = F.embedding(other_rows, self.unit(other_table[other_ids]))  # (b, 1 + n, hidden)
        cosine = torch.bmm(other, anchor[:, :, None])[:, :, 0]  # (b, 1 + n)
        hinge = (self.margin - cosine[:, :1] + cosine[:, 1:]).clamp(min=0)
        if batch.weights is not None:
            hinge = hinge * batch.weights[:, None]
        loss = hinge.mean()
        if self.l2 > 0:
            loss = loss + self.l2 * sum(p.square().sum() for p in self.parameters())
        return loss

    @torch.no_grad()
    def unit_vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all users (n_users, hidden) and tracks (n_items, hidden) at length 1."""
        return self.unit(self.users), self.unit(self.items)
