"""ELSA: tracks as vectors of length 1 that rebuild what users heard; it hears nothing itself.

With X the 0/1 matrix users x tracks of train and A (tracks x r) of unit rows,

    f(x) = x A A' - x,     loss = mean over users and tracks of (f(x) / |f(x)| - x / |x|)^2
                                = mean over users of (2 - 2 cos(f(x), x)) / tracks

Source: Vancura et al., Scalable Linear Shallow Autoencoder for Collaborative Filtering,
RecSys '22.

f(x) is never made: with u = x A, the sum of the vectors heard, and n the tracks heard,

    <f(x), x> = |u|^2 - n,     |f(x)|^2 = u A'A u' - 2 |u|^2 + n

so that a batch takes three products of its users with A, block by block of tracks, and what
stands in memory beside A is one such block, or where it is small the products u A' of the batch.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recommenders.networks.histories import HistoryBatch, Ragged

BLOCK_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}  # of tracks' vectors at a time
KEPT_BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}  # of u A' between the passes; else it is made again
LEAST = 1e-8  # a vector that is shorter counts as zero


class Elsa(nn.Module):
    """A free vector for each track.

    Args:
        n_items: tracks that are ranked.
        factors: numbers of a track's vector.
        never_heard: tracks beside them that take part in training though nobody heard them.
        nadam: learn by NAdam, as published, in place of Adam.
    """

    def __init__(self, n_items: int, factors: int, *, never_heard: int = 0, nadam: bool = False):
        super().__init__()
        self.n_items, self.width, self.nadam = n_items, factors, nadam
        self.items = nn.Parameter(torch.empty(n_items + never_heard, factors))
        nn.init.xavier_uniform_(self.items)

    def loss(self, batch: HistoryBatch) -> torch.Tensor:
        """Return the loss of the module's docstring, or held_out_loss where something is wanted."""
        if batch.wanted is not None:
            return held_out_loss(self.items, batch)
        return reconstruction_loss(self.items, batch.heard)

    def make_optimizer(self, parameters: list, learning_rate: float) -> torch.optim.Optimizer:
        """Return the optimizer of the training."""
        if self.nadam:
            return torch.optim.NAdam(parameters, lr=learning_rate)
        return adam_of_small_gradients(parameters, learning_rate)

    @torch.no_grad()
    def vectors(self) -> torch.Tensor:
        """Return the vectors that rank, at length 1, (n_items, factors)."""
        return unit(self.items[: self.n_items])


def adam_of_small_gradients(parameters: list, learning_rate: float) -> torch.optim.Adam:
    """Return Adam whose steps depend on no gradient's size.

    The loss is a mean over all tracks, so its gradients can be as small as 1e-9, and the 1e-8 that
    Adam adds to their size would decide the steps, and with them the number of tracks.
    """
    return torch.optim.Adam(parameters, lr=learning_rate, eps=1e-15, fused=True)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (n, r) at length 1; zeros stay zeros."""
    return F.normalize(vectors, dim=1, eps=LEAST)


def reconstruction_loss(raw: torch.Tensor, heard: Ragged) -> torch.Tensor:
    """Return ELSA's loss of some users, where A = unit(raw).

    Args:
        raw: float (n_tracks, r), of any lengths; its gradient is made with the loss.
        heard: tracks of each user, at least one, each once.

    Returns:
        the mean over users and tracks, a scalar. Under autocast the products with A are made in
        its type.
    """
    return _Reconstruction.apply(raw, heard, torch.is_grad_enabled() and raw.requires_grad)


@torch.no_grad()
def held_out_loss(raw: torch.Tensor, batch: HistoryBatch) -> torch.Tensor:
    """Return mean (2 - 2 cos(x A A' without what x holds, wanted)) / tracks of a batch's users.

    The loss of what is asked for in the end: later tracks, among those not heard before.
    """
    products = _Products(raw, batch.heard)
    u, unit_raw = products.u, products.rows_of
    wanted = batch.wanted
    to_wanted = (u * _sums(raw, products.inverse, wanted)).sum(1)
    squares = (u * products.gram).sum(1)
    heard, row = batch.heard.items, batch.heard.row_of_item()
    for some, user in zip(heard.split(products.block), row.split(products.block), strict=True):
        score = (unit_raw(some) * u[user]).sum(1)
        squares.index_add_(0, user, score.square(), alpha=-1)
    length = squares.clamp(min=0).sqrt() * wanted.lengths.to(u.dtype).sqrt()
    return (2 - 2 * to_wanted / length.clamp(min=LEAST)).mean() / len(raw)


class _Products:
    """u = x A (b, r) of some users, and u A'A (b, r), block by block of the tracks.

    Attributes:
        inverse: 1 / length of each raw vector, (n_tracks,).
        blocks: slices of tracks.
        kept: u A' of each block, transposed (tracks, b), where all of them fit KEPT_BYTES.
    """

    def __init__(self, raw: torch.Tensor, heard: Ragged):
        device = raw.device.type
        self.raw, self.heard = raw, heard
        self.kind = raw.dtype
        if torch.is_autocast_enabled(device):
            self.kind = torch.get_autocast_dtype(device)
        self.block = max(1, BLOCK_BYTES[device] // (raw.element_size() * max(raw[0].numel(), 1)))
        starts = range(0, len(raw), self.block)
        self.blocks = [slice(s, min(s + self.block, len(raw))) for s in starts]
        lengths = [torch.linalg.vector_norm(raw[rows], dim=1) for rows in self.blocks]
        self.inverse = torch.cat(lengths).clamp_(min=LEAST).reciprocal_()
        with torch.autocast(device, enabled=False):
            self.u = _sums(raw, self.inverse, heard)
            self.gram = torch.zeros_like(self.u)
            fits = len(raw) * len(heard) * raw.element_size() <= KEPT_BYTES[device]
            self.kept: list | None = [] if fits else None
            for rows in self.blocks:
                vectors = self.vectors(rows)
                products = vectors @ self.u.T.to(self.kind)  # (tracks, b)
                if self.kind == raw.dtype:
                    self.gram.addmm_(products.T, vectors)
                else:
                    self.gram += (products.T @ vectors).to(raw.dtype)
                if self.kept is not None:
                    self.kept.append(products)

    def vectors(self, rows: slice) -> torch.Tensor:
        """Return the unit vectors of a block, in the products' type."""
        return (self.raw[rows] * self.inverse[rows, None]).to(self.kind)

    def rows_of(self, items: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors of some tracks."""
        return self.raw[items] * self.inverse[items, None]


def _sums(raw: torch.Tensor, inverse: torch.Tensor, rows: Ragged) -> torch.Tensor:
    """Return the sum of the unit vectors of each row's tracks, (b, r)."""
    return F.embedding_bag(
        rows.items,
        raw,
        rows.offsets[:-1],
        mode="sum",
        per_sample_weights=inverse[rows.items],
    )


class _Reconstruction(torch.autograd.Function):
    """The loss with its gradient, which needs the same blocks.

    Of a user, dL/df = a f + b x with numbers a and b. As f = u A' - x and u = x A,
        dL/dA = (u A')' (a u) + x' (a u A'A + 2 (b - a) u)
    and through the lengths dL/draw = (dL/dA - A <A, dL/dA>) / |raw|, row by row.
    """

    @staticmethod
    def forward(ctx, raw, heard, with_gradient: bool):
        products = _Products(raw, heard)
        u, gram, n = products.u, products.gram, heard.lengths.to(raw.dtype)
        squared = u.square().sum(1)
        inner = squared - n  # <f, x>
        length = ((u * gram).sum(1) - 2 * squared + n).clamp(min=LEAST**2).sqrt()  # |f|
        cosine = inner / (length * n.sqrt())
        scale = -2 / (len(heard) * len(raw))
        if with_gradient:
            b = scale / (length * n.sqrt())
            a = -scale * cosine / length.square()
            ctx.gradient = _gradient(products, a[:, None] * u, a[:, None] * gram, (b - a)[:, None])
        return (2 - 2 * cosine).mean() / len(raw)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        gradient, ctx.gradient = ctx.gradient, None
        return gradient.mul_(grad), None, None


def _gradient(products: _Products, scaled, scaled_gram, difference) -> torch.Tensor:
    """Return dL/draw, (n_tracks, r), from a u, a u A'A and b - a."""
    raw, kind = products.raw, products.kind
    to_heard = scaled_gram + 2 * difference * products.u
    items, order = products.heard.items.sort(stable=True)
    users = products.heard.row_of_item()[order]
    edges = torch.arange(len(raw) + 1, device=raw.device)
    starts = torch.searchsorted(items, edges)
    ends = starts[[rows.stop for rows in products.blocks]].tolist()
    gradient, first = torch.empty_like(raw), 0
    scaled = scaled.to(kind)
    with torch.autocast(raw.device.type, enabled=False):
        for i, (rows, end) in enumerate(zip(products.blocks, ends, strict=True)):
            vectors = products.vectors(rows)
            if products.kept is None:
                block = vectors @ products.u.T.to(kind)
            else:
                block = products.kept[i]
            part = F.embedding_bag(users[first:end], to_heard, starts[rows] - first, mode="sum")
            if kind == raw.dtype:
                part.addmm_(block, scaled)
            else:
                part += (block @ scaled).to(raw.dtype)
            vectors = vectors.to(raw.dtype)
            along = torch.linalg.vecdot(vectors, part)[:, None]
            part.addcmul_(vectors, along, value=-1).mul_(products.inverse[rows, None])
            gradient[rows], first = part, end
    return gradient
