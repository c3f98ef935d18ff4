"""Shallow Net: one linear layer with ReLU shared by users and tracks, and the cosine between them.

Source: the study (Tamm and Aljanaki, RecSys '24), section on recommenders.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dataset import PairBatch
from recommenders.networks.hinge import (
    SHORTEST,
    gradient_of_unit,
    hinge_loss,
    relu_to_unit,
)

BLOCK_BYTES = 1 << 22  # of a layer's output at a time on a CPU: its cache
GATHER_BYTES = 1 << 28  # of gathered vectors at a time on a GPU
MANY = 2  # drawn twice as often as there are rows, 86 % of them are drawn


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
        sparse: the tables' gradients hold the rows of the batch only, for a sparse optimizer.
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
        sparse: bool = False,
    ):
        super().__init__()
        self.width = item_vectors.shape[1]
        self._table("users", user_vectors, train_users)
        self._table("items", item_vectors, train_tracks)
        self.layer = nn.Sequential(nn.Linear(self.width, hidden), nn.ReLU())
        self.negatives_are_users, self.margin, self.l2 = negatives_are_users, margin, l2
        self.sparse = sparse

    def _table(self, name: str, vectors: np.ndarray, train: bool) -> None:
        values = torch.tensor(vectors, dtype=torch.float32)
        if train:
            self.register_parameter(name, nn.Parameter(values))
        else:
            self.register_buffer(name, values, persistent=False)

    def sparse_parameters(self) -> list[nn.Parameter]:
        """Return the learned tables whose gradients are sparse."""
        tables = [self.users, self.items] if self.sparse else []
        return [table for table in tables if isinstance(table, nn.Parameter)]

    def unit(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (n, d) -> the layer's output at length 1 (n, hidden); zeros stay zeros."""
        linear = self.layer[0]
        return _UnitLayer.apply(vectors, linear.weight, linear.bias)

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
        others = torch.cat([positives[:, None], batch.negatives], dim=1)  # (b, 1 + n)
        anchor_units, anchor_rows = self._units_of(anchor_table, anchors)
        other, other_rows = self._units_of(other_table, others)
        anchor = F.embedding(anchor_rows, anchor_units)  # (b, hidden)
        compute = hinge_loss if anchor.device.type == "cpu" else gathered_hinge_loss
        loss = compute(anchor, other, other_rows, self.margin, batch.weights)
        if self.l2 > 0:
            loss = loss + self.l2 * sum(p.square().sum() for p in self.parameters())
        return loss

    def _units_of(
        self, table: torch.Tensor, ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return unit vectors (m, hidden) of what is in ids, and the places of ids in them.

        Where ids are many, so that they hold nearly all rows, the vectors are all of the table's:
        those that nobody asked for are fewer than what gathering the others would move.
        """
        sparse = self.sparse and isinstance(table, nn.Parameter)
        if ids.numel() >= MANY * len(table) and not sparse:
            return self.unit(table), ids
        ids, rows = torch.unique(ids, return_inverse=True)
        if sparse:
            return self.unit(F.embedding(ids, table, sparse=True)), rows
        return self.unit(table.index_select(0, ids)), rows

    @torch.no_grad()
    def unit_vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all users (n_users, hidden) and tracks (n_items, hidden) at length 1."""
        return self.unit(self.users), self.unit(self.items)


class _UnitLayer(torch.autograd.Function):
    """relu(x W' + b) at length 1, block by block, so that only the products leave the cache.

    With y = relu(z), u = y / |y| and the gradient g of u: that of z is (g - u (u . g)) / |y| where
    u > 0 and 0 elsewhere. Under autocast the products are made in its type, all else in x's.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        device = x.device.type
        ctx.type = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        unit = x.new_empty((len(x), len(weight)))
        inverse = x.new_empty((len(x), 1))
        with torch.autocast(device, enabled=False):
            weight_t = _as(ctx.type, weight).T
            for rows in _blocks(unit):
                if ctx.type is None:
                    part = torch.mm(x[rows], weight_t, out=unit[rows])
                else:
                    part = unit[rows].copy_(_as(ctx.type, x[rows]) @ weight_t)
                if device == "cpu":
                    relu_to_unit(part, bias, inverse[rows])
                    continue
                part.add_(bias).relu_()
                length = torch.linalg.vector_norm(part, dim=1, keepdim=True).clamp_(min=SHORTEST)
                torch.reciprocal(length, out=inverse[rows])
                part.mul_(inverse[rows])
        ctx.save_for_backward(x, weight, unit, inverse)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, unit, inverse = ctx.saved_tensors
        weight = _as(ctx.type, weight)
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight, grad_bias = torch.zeros_like(weight, dtype=x.dtype), x.new_zeros(len(weight))
        with torch.autocast(x.device.type, enabled=False):
            for rows in _blocks(unit):
                u, g = unit[rows], grad[rows]
                if x.device.type == "cpu":
                    z, sums = gradient_of_unit(u, g, inverse[rows])
                else:
                    z = torch.addcmul(g, u, torch.linalg.vecdot(u, g)[:, None], value=-1)
                    z.mul_(inverse[rows]).mul_(u > 0)
                    sums = z.sum(0)
                grad_bias += sums
                z = _as(ctx.type, z)
                if ctx.type is None:
                    grad_weight.addmm_(z.T, x[rows])
                else:
                    grad_weight += z.T @ _as(ctx.type, x[rows])
                if grad_x is not None and ctx.type is None:
                    torch.mm(z, weight, out=grad_x[rows])
                elif grad_x is not None:
                    grad_x[rows] = z @ weight
        return grad_x, grad_weight, grad_bias


def _as(kind: torch.dtype | None, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if kind is None else tensor.to(kind)


def _blocks(output: torch.Tensor) -> list[slice]:
    """Return slices of rows that fit the cache; on a GPU all rows at once."""
    n, width = output.shape
    block = n
    if output.device.type == "cpu":
        block = max(1, BLOCK_BYTES // (output.element_size() * width))
    return [slice(start, start + block) for start in range(0, n, max(1, block))]


def gathered_hinge_loss(
    left: torch.Tensor,
    right: torch.Tensor,
    rows: torch.Tensor,
    margin: float,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Return hinge_loss as it is made on a GPU: from vectors that are gathered."""
    cosine = sampled_products(left, right, rows)
    hinge = (margin - cosine[:, :1] + cosine[:, 1:]).clamp(min=0)
    if weights is not None:
        hinge = hinge * weights[:, None]
    return hinge.mean()


def sampled_products(left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return left[i] . right[rows[i, j]] for all i and j, in the inputs' type under autocast too.

    Args:
        left: float (b, h).
        right: float (m, h).
        rows: int64 (b, n) into right.

    Returns:
        float (b, n). Neither this nor its gradient makes an array of b x n x h numbers, which
        would take most of a step's time to write and read: GATHER_BYTES at a time are gathered.
    """
    return _SampledProducts.apply(left, right, rows)


class _SampledProducts(torch.autograd.Function):
    """The gradients are sums of vectors with weights: of right for left, of left for right."""

    @staticmethod
    def forward(ctx, left, right, rows):
        ctx.save_for_backward(left, right, rows)
        with torch.autocast(left.device.type, enabled=False):
            if rows.shape[1] >= len(right):  # at least as many places as there are columns
                return (left @ right.T).gather(1, rows)
            return _gathered_products(left, right, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        left, right, rows = ctx.saved_tensors
        b, n = rows.shape
        grad_left = F.embedding_bag(rows, right, mode="sum", per_sample_weights=grad.contiguous())
        ordered, order = rows.flatten().sort(stable=True)
        starts = torch.searchsorted(ordered, torch.arange(len(right), device=rows.device))
        weights = grad.flatten()[order]
        grad_right = F.embedding_bag(
            order // n, left, starts, mode="sum", per_sample_weights=weights
        )
        return grad_left, grad_right, None


def _gathered_products(left, right, rows) -> torch.Tensor:
    per_row = rows.shape[1] * right.shape[1] * right.element_size()
    block = max(1, GATHER_BYTES // per_row)
    parts = [
        torch.bmm(F.embedding(some, right), part[:, :, None])[:, :, 0]
        for some, part in zip(rows.split(block), left.split(block), strict=True)
    ]
    return torch.cat(parts)
