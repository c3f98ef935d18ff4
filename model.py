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
from recommenders.networks import compiled_hinge, gathered_hinge

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
        values = torch.as_tensor(vectors, dtype=torch.float32)
        if train:
            self.register_parameter(name, nn.Parameter(values.clone()))
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
        anchor_units = self._units_of(anchor_table, anchors)
        other_units = self._units_of(other_table, others)
        hinge_loss = _parts_for(anchor_units[0]).hinge_loss
        loss = hinge_loss(*anchor_units, *other_units, self.margin, batch.weights)
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
    """relu(x W' + b) at length 1.

    With y = relu(z), u = y / |y| and the gradient g of u: that of z is (g - u (u . g)) / |y| where
    u > 0 and 0 elsewhere. Under autocast the products are made in its type, all else in x's.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        device = x.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        unit, inverse = x.new_empty((len(x), len(weight))), x.new_empty((len(x), 1))
        with torch.autocast(device, enabled=False):
            _parts_for(x, kind).layer_to_unit(x, weight, bias, unit, inverse, kind)
        ctx.kind = kind
        ctx.save_for_backward(x, weight, unit, inverse)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, unit, inverse = ctx.saved_tensors
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        gradient = _parts_for(x, ctx.kind).gradient_of_layer
        with torch.autocast(x.device.type, enabled=False):
            return grad_x, *gradient(x, weight, unit, grad, inverse, grad_x, ctx.kind)


def _parts_for(tensor: torch.Tensor, kind: torch.dtype | None = None):
    """Return the module whose functions are made for the tensor's device and type of products."""
    return compiled_hinge if tensor.device.type == "cpu" and kind is None else gathered_hinge
