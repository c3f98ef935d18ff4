"""The hinge loss of pairs and their negatives by cosine, and vectors of length 1, on a CPU.

Both are bound by memory, not by arithmetic: of 10,000 pairs with 20 negatives, 210,000 vectors are
read for a product each. Here a pair's vectors are read once for its products, its loss and the
gradient of its anchor, while the cache still holds them, and are fetched before they are needed;
and what has no gradient, since its margin is kept, is not read again. gathered_hinge.py has the
form for a GPU.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from core.cores import by_parts, one_core_a_product
from recommenders.compiled import AHEAD, LINE, compiled, fetch_ahead

SHORTEST = 1e-8  # what is shorter stays as short, instead of length 1
BLOCK = 1 << 18  # numbers of a layer's output at a time
LEAST = 1 << 10  # its rows at a time: fewer would not be worth the sum of their products


def hinge_loss(
    left: torch.Tensor,
    anchors: torch.Tensor,
    right: torch.Tensor,
    rows: torch.Tensor,
    margin: float,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Return the mean over i and j > 0 of w_i max(0, margin - a_i . r_i0 + a_i . r_ij).

    Args:
        left: float (l, h); a_i is left[anchors[i]].
        anchors: int64 (b,).
        right: float (m, h); r_ij is right[rows[i, j]].
        rows: int64 (b, 1 + n), of the positive and of n negatives.
        margin: of the loss.
        weights: float (b,), of the pairs; None for 1.
    """
    return _Hinge.apply(left, anchors, right, rows, margin, weights, torch.is_grad_enabled())


class _Hinge(torch.autograd.Function):
    """The gradient of each pair's anchor is made with the loss, others when they are asked for."""

    @staticmethod
    def forward(ctx, left, anchors, right, rows, margin, weights, with_gradients: bool):
        b, n = len(rows), rows.shape[1] - 1
        x, own, y, at = _arrays(left, anchors, right, rows)
        w = np.ones(b, x.dtype) if weights is None else weights.numpy().astype(x.dtype, copy=False)
        losses, slopes = np.empty(b), np.empty(rows.shape if with_gradients else (0, 0), x.dtype)
        grad = np.empty((b, x.shape[1]) if with_gradients else (0, 0), x.dtype)
        share = 1 / max(1, b * n)

        def part(of: slice) -> None:
            places = own[of], y, at[of]
            _losses(x, *places, w[of], margin, share, losses[of], slopes[of], grad[of])

        by_parts(part, b)
        ctx.save_for_backward(left, anchors, right, rows)
        ctx.slopes, ctx.grad_of_anchors = slopes, grad
        return left.new_tensor(losses.sum() * share)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        left, anchors, right, rows = ctx.saved_tensors
        scale, kind = float(grad), ctx.slopes.dtype
        x, own, at = _arrays(left, anchors, rows)
        grad_left, grad_right = np.empty(x.shape, kind), np.empty(right.shape, kind)
        # Both are sums over the pairs in which a row comes: of what has a slope for every place.
        one = np.full((len(own), 1), scale, kind)
        alone = np.arange(len(own))
        each = own[:, None], alone, ctx.grad_of_anchors, one, 1.0
        by_parts(lambda of: _sums(*each, grad_left[of], of.start), len(x))
        each = at, own, x, ctx.slopes, scale
        by_parts(lambda of: _sums(*each, grad_right[of], of.start), len(right))
        return torch.from_numpy(grad_left), None, torch.from_numpy(grad_right), *[None] * 4


@compiled
def _losses(left, anchors, right, rows, weights, margin, share, losses, slopes, grad):
    """Write each pair's loss and, where there is room, its slopes, (b, 1 + n), and its gradient."""
    n, h = rows.shape[1], left.shape[1]
    cosines, places = np.empty(n, left.dtype), rows.reshape(-1)
    for i in range(len(rows)):
        own = left[anchors[i]]
        for j in range(n):
            if i * n + j + AHEAD < len(places):
                for d in range(0, h, LINE):
                    fetch_ahead(right, places[i * n + j + AHEAD], d)
            at = rows[i, j]
            total = left.dtype.type(0)
            for d in range(h):
                total += own[d] * right[at, d]
            cosines[j] = total
        total, active = 0.0, 0
        for j in range(1, n):
            missing = margin - cosines[0] + cosines[j]
            keeps = missing <= 0  # a NaN does not
            if not keeps:
                total += missing
                active += 1
            if len(slopes):
                slopes[i, j] = 0 if keeps else weights[i] * share
        losses[i] = total * weights[i]
        if len(slopes):
            slopes[i, 0] = -weights[i] * share * active
            grad[i] = 0
            for j in range(n):
                slope = slopes[i, j]
                if slope != 0:
                    at = rows[i, j]
                    for d in range(h):
                        grad[i, d] += slope * right[at, d]


@compiled
def _place(at, slope, none):
    return at if (at >= 0) & (at < none) & (slope != 0) else none


@compiled
def _sums(rows, sources, vectors, slopes, scale, sums, first):
    """Write sums[r - first], of i and j where rows[i, j] is r, of slope * scale * vectors[source].

    The source is sources[i], the order that of the pairs. Rows are first brought into order, so
    that each sum is written once.

    Args:
        rows, slopes: (b, n), of which slopes are mostly 0 where nothing is to be learned.
        sums: of the rows first .. first + len(sums) - 1.
    """
    none = len(sums)  # where what is not asked for goes: a place costs less than a branch
    starts = np.zeros(none + 2, np.int64)
    for i in range(len(rows)):
        for j in range(rows.shape[1]):
            starts[_place(rows[i, j] - first, slopes[i, j], none) + 1] += 1
    starts = np.cumsum(starts)
    free = starts[:-1].copy()
    of, by = np.empty(rows.size, np.int32), np.empty(rows.size, slopes.dtype)
    for i in range(len(rows)):
        for j in range(rows.shape[1]):
            at = _place(rows[i, j] - first, slopes[i, j], none)
            k = free[at]
            of[k], by[k] = sources[i], slopes[i, j] * scale
            free[at] = k + 1
    for at in range(len(sums)):
        sums[at] = 0
        for k in range(starts[at], starts[at + 1]):
            if k + AHEAD < len(of):
                for d in range(0, vectors.shape[1], LINE):
                    fetch_ahead(vectors, of[k + AHEAD], d)
            source, slope = of[k], by[k]  # else they are read again for every number
            for d in range(vectors.shape[1]):
                sums[at, d] += slope * vectors[source, d]


def layer_to_unit(x, weight, bias, unit, inverse, kind: None = None) -> None:
    """Put relu(x W' + b) at length 1 into unit, (b, h), and one over the lengths into inverse.

    Each core has rows of its own, a block at a time, and makes its products itself: only they
    leave its cache, and no core waits for another.

    Args:
        x: float (b, d).
        weight, bias: float (h, d) and (h,).
        inverse: float (b, 1).
        kind: gathered_hinge.py's alone.
    """
    x, w, added, out, lengths = _arrays(x, weight, bias, unit, inverse)

    def part(of: slice) -> None:
        for rows in _blocks(of, len(w)):
            np.matmul(x[rows], w.T, out=out[rows])
            _relu_to_unit(out[rows], added, lengths[rows, 0])

    with one_core_a_product():
        by_parts(part, len(x))


def gradient_of_layer(
    x, weight, unit, grad, inverse, grad_x, kind: None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of weight and bias from that of layer_to_unit's unit, (b, h).

    Args:
        grad_x: float (b, d), written; None where x has no gradient.
    """
    x, w, u, g, lengths = _arrays(x, weight, unit, grad, inverse)
    out = None if grad_x is None else grad_x.numpy()

    def part(of: slice) -> tuple[np.ndarray, np.ndarray]:
        of_weight, product = np.zeros_like(w), np.empty_like(w)
        of_bias = np.zeros(len(w), w.dtype)
        z = np.empty((len(u[next(iter(_blocks(of, len(w))))]), len(w)), w.dtype)
        for rows in _blocks(of, len(w)):
            own = z[: len(u[rows])]
            of_bias += _gradient_of_unit(u[rows], g[rows], lengths[rows, 0], own)
            of_weight += np.matmul(own.T, x[rows], out=product)
            if out is not None:
                np.matmul(own, w, out=out[rows])
        return of_weight, of_bias

    with one_core_a_product():
        parts = by_parts(part, len(x))
    return tuple(torch.from_numpy(sum(each)) for each in zip(*parts, strict=True))


def _arrays(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _blocks(of: slice, width: int):
    """Yield slices of rows of so many numbers that the cache holds them, or LEAST of them."""
    size = max(LEAST, BLOCK // width)
    for start in range(of.start, of.stop, size):
        yield slice(start, min(start + size, of.stop))


@compiled
def _relu_to_unit(z, bias, inverse):
    for i in range(len(z)):
        squares = z.dtype.type(0)
        for d in range(z.shape[1]):
            value = z[i, d] + bias[d]
            value = z.dtype.type(0) if value < 0 else value  # a NaN stays
            z[i, d] = value
            squares += value * value
        inverse[i] = 1 / max(np.sqrt(squares), SHORTEST)
        for d in range(z.shape[1]):
            z[i, d] *= inverse[i]


@compiled
def _gradient_of_unit(unit, grad, inverse, z):
    """Write the gradient of some rows of z, and return its sum."""
    sums = np.zeros(unit.shape[1], unit.dtype)
    for i in range(len(unit)):
        along = unit.dtype.type(0)
        for d in range(unit.shape[1]):
            along += unit[i, d] * grad[i, d]
        for d in range(unit.shape[1]):
            value = (grad[i, d] - unit[i, d] * along) * inverse[i]
            z[i, d] = value if unit[i, d] > 0 else unit.dtype.type(0)
            sums[d] += z[i, d]
    return sums
