"""Shallow Net: one linear layer with ReLU shared by users and tracks, and the cosine between them.

Source: the study (Tamm and Aljanaki, RecSys '24), section on recommenders.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from dataset import PairBatch

# torch says so of every CSR matrix, once; the products used here are tested against dense ones.
warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)


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

        anchor = F.embedding(
            anchor_rows, self.unit(anchor_table.index_select(0, anchor_ids))
        )  # (b, hidden)
        other = self.unit(other_table.index_select(0, other_ids))
        cosine = sampled_products(anchor, other, other_rows)  # (b, 1 + n)
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


def sampled_products(left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return left[i] . right[rows[i, j]] for all i and j.

    Args:
        left: float (b, h).
        right: float (m, h).
        rows: int64 (b, n) into right.

    Returns:
        float (b, n). On a CPU neither this nor its gradient makes an array of b x n x h numbers,
        which would take most of a step's time to write and read.
    """
    if rows.shape[1] >= len(right):  # at least as many places as there are columns
        return (left @ right.T).gather(1, rows)
    if left.device.type == "cpu":
        return _SampledProducts.apply(left, right, rows)
    return torch.bmm(F.embedding(rows, right), left[:, :, None])[:, :, 0]


class _SampledProducts(torch.autograd.Function):
    """The dense product at the places of a sparse pattern; the gradients are sparse products."""

    @staticmethod
    def forward(ctx, left, right, rows):
        ctx.save_for_backward(left, right, rows)
        pattern = _sparse(rows, left.new_zeros(rows.numel()), len(right))
        product = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0)
        return product.values().view(rows.shape)

    @staticmethod
    def backward(ctx, grad):
        left, right, rows = ctx.saved_tensors
        b, n = rows.shape
        grad_left = _sparse(rows, grad.flatten(), len(right)) @ right
        order = torch.argsort(rows.flatten(), stable=True)
        starts = torch.zeros(len(right) + 1, dtype=torch.long)
        torch.cumsum(torch.bincount(rows.flatten(), minlength=len(right)), 0, out=starts[1:])
        columns, values = order // n, grad.flatten()[order]
        transposed = _csr(starts, columns, values, (len(right), b))
        return grad_left, transposed @ left, None


def _sparse(rows: torch.Tensor, values: torch.Tensor, width: int) -> torch.Tensor:
    """Return the matrix (b, width) with values at (i, rows[i, j]); doubles add up in products."""
    b, n = rows.shape
    starts = torch.arange(0, b * n + 1, n)
    return _csr(starts, rows.flatten(), values, (b, width))


def _csr(starts, columns, values, shape) -> torch.Tensor:
    return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)
