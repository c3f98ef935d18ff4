"""Dropout, and attention with it, on a CPU: what torch does there number by number on one core.

Whether a number is dropped is said by a hash of a seed and of its place, so that nothing of it is
kept for the gradient, and any number of cores comes to the same. The hash is SplitMix64's output
function: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from core.cores import by_parts, one_core_a_product
from recommenders.compiled import compiled, exp_of

BLOCK = 1 << 12  # numbers whose dropping one hash after the other says: even, two a hash
GOLDEN, FIRST, SECOND = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
ONE, HALF, LOW = np.uint64(1), np.uint64(32), np.uint64(0xFFFFFFFF)
SHIFTS = tuple(map(np.uint64, (30, 27, 31)))


def is_ours(tensor: torch.Tensor, probability: float) -> bool:
    """Say whether what drops of the tensor is done here."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and 0 < probability < 1
    )


def drawn_seed() -> np.uint64:
    """Return a seed from torch's own generator, which decides dropout."""
    return np.uint64(torch.randint(1 << 62, ()).item())


class Dropout(nn.Dropout):
    """nn.Dropout, whose rule it follows: kept numbers are divided by the chance to be kept."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and is_ours(x, self.p):
            return _Dropout.apply(x, self.p, drawn_seed())
        return super().forward(x)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, probability, seed):
        ctx.probability, ctx.seed = probability, seed
        return dropped(x, probability, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return dropped(grad, ctx.probability, ctx.seed), None, None


def dropped(x: torch.Tensor, probability: float, seed: np.uint64) -> torch.Tensor:
    """Return float32 x with each number 0 by the probability, as the seed decides, else larger."""
    out = torch.empty(x.shape, dtype=x.dtype)
    flat, into = x.detach().contiguous().numpy().reshape(-1), out.numpy().reshape(-1)

    def part(of: slice) -> None:
        some = slice(of.start * BLOCK, of.stop * BLOCK)
        _drop(flat[some], of.start * BLOCK, seed, *_rule(probability), into[some])

    by_parts(part, -(-len(flat) // BLOCK))
    return out


def _rule(probability: float) -> tuple[np.uint64, np.float32]:
    """Return what a hash's 32 bits must reach for a number to be kept, and its factor then."""
    return np.uint64(round(probability * 2**32)), np.float32(1 / (1 - probability))


@compiled
def _hash(seed, place):
    z = seed + (place + ONE) * GOLDEN
    z = (z ^ (z >> SHIFTS[0])) * FIRST
    z = (z ^ (z >> SHIFTS[1])) * SECOND
    return z ^ (z >> SHIFTS[2])


@compiled
def _drop(x, first, seed, least, factor, out):
    """Write some numbers, the first of which has the even place `first`."""
    for i in range(0, len(x) - 1, 2):
        bits = _hash(seed, np.uint64((first + i) >> 1))
        out[i] = x[i] * factor if (bits & LOW) >= least else x.dtype.type(0)
        out[i + 1] = x[i + 1] * factor if (bits >> HALF) >= least else x.dtype.type(0)
    if len(x) % 2:
        bits = _hash(seed, np.uint64((first + len(x) - 1) >> 1))
        out[-1] = x[-1] * factor if (bits & LOW) >= least else x.dtype.type(0)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: torch.Tensor,
    heads: int,
    probability: float,
) -> torch.Tensor:
    """Return what the tokens of each sequence see of each other, float32 (n, width).

    Args:
        query, key, value: float32 (n, width), one sequence after the other.
        lengths: int64 (b,) of the sequences, n together.
        heads: of attention; each has its columns.
        probability: that a share is dropped, as torch's seed decides.
    """
    ends = lengths.cumsum(0).numpy()
    return _Attention.apply(query, key, value, ends, heads, probability, drawn_seed())


class _Attention(torch.autograd.Function):
    """dropped(softmax(q k' / sqrt(d))) v of each sequence and head; columns are heads'.

    With p the softmax, m what dropping multiplies it by, and g the output's gradient, that of the
    logits is p (a - sum(p a)) for a = m (g v'), and that of v is (m p)' g. A sequence and head
    at a time, whose logits the cache holds. Of a step, p alone is kept.
    """

    @staticmethod
    def forward(ctx, query, key, value, ends, heads, probability, seed):
        kind = np.float32
        q, k, v = (t.detach().contiguous().numpy() for t in (query, key, value))
        out = np.empty_like(q)
        scale, rule = kind(1 / math.sqrt(q.shape[1] // heads)), _rule(probability)
        blocks = _Blocks(ends, heads, q.shape[1])
        shares = np.empty(blocks.size, kind)

        def part(of: slice) -> None:
            kept = np.empty(blocks.largest, kind)
            for number, rows, at, own in blocks.of(of, shares):
                some = kept[: own.size].reshape(own.shape)
                np.matmul(q[rows, at], k[rows, at].T, out=own)
                _to_shares(own, scale)
                _drop_shares(own, number, seed, *rule, some)
                np.matmul(some, v[rows, at], out=out[rows, at])

        with one_core_a_product():
            by_parts(part, len(ends))
        ctx.save_for_backward(query, key, value)
        ctx.shares, ctx.blocks, ctx.scale, ctx.rule, ctx.seed = shares, blocks, scale, rule, seed
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, k, v, g = (t.detach().contiguous().numpy() for t in (*ctx.saved_tensors, grad))
        of_q, of_k, of_v = (np.empty_like(q) for _ in range(3))

        def part(of: slice) -> None:
            room = np.empty((2, ctx.blocks.largest), np.float32)
            for number, rows, at, own in ctx.blocks.of(of, ctx.shares):
                kept, slopes = (each[: own.size].reshape(own.shape) for each in room)
                _drop_shares(own, number, ctx.seed, *ctx.rule, kept)
                np.matmul(kept.T, g[rows, at], out=of_v[rows, at])
                np.matmul(g[rows, at], v[rows, at].T, out=slopes)
                _drop_shares(slopes, number, ctx.seed, *ctx.rule, kept)
                _to_slopes(own, kept, ctx.scale)
                np.matmul(kept, k[rows, at], out=of_q[rows, at])
                np.matmul(kept.T, q[rows, at], out=of_k[rows, at])

        with one_core_a_product():
            by_parts(part, len(ctx.blocks.ends))
        return *map(torch.from_numpy, (of_q, of_k, of_v)), None, None, None, None


class _Blocks:
    """Each sequence's and head's place in the states, and its (l, l) in a flat array.

    Args:
        ends: int64 (b,) where each sequence ends among the n tokens.
        heads, width: of the states.
    """

    def __init__(self, ends: np.ndarray, heads: int, width: int):
        self.ends, self.heads = ends, heads
        self.columns = [
            slice(head * width // heads, (head + 1) * width // heads) for head in range(heads)
        ]
        self.lengths = np.diff(ends, prepend=0)
        self.before = heads * (np.cumsum(self.lengths**2) - self.lengths**2)

    @property
    def size(self) -> int:
        return self.heads * int((self.lengths**2).sum())

    @property
    def largest(self) -> int:
        return int(self.lengths.max()) ** 2

    def of(self, sequences: slice, flat: np.ndarray):
        """Yield number, rows, columns and own (l, l) of each block of some sequences."""
        for i in range(sequences.start, sequences.stop):
            end, length, start = (int(each[i]) for each in (self.ends, self.lengths, self.before))
            for head, columns in enumerate(self.columns):
                own = flat[start : start + length**2].reshape(length, length)
                yield i * self.heads + head, slice(end - length, end), columns, own
                start += length**2


@compiled
def _to_shares(logits, scale):
    """Turn the products (l, l) into each row's softmax."""
    for i in range(len(logits)):
        row = logits[i]
        top = row.dtype.type(-np.inf)
        for j in range(len(row)):
            row[j] = row[j] * scale
            top = max(top, row[j])
        total = row.dtype.type(0)
        for j in range(len(row)):
            row[j] = exp_of(row[j] - top)
            total += row[j]
        for j in range(len(row)):
            row[j] /= total


@compiled
def _drop_shares(shares, block, seed, least, factor, out):
    """Write shares (l, l) of a sequence and head with some dropped; each has a seed of its own."""
    own = _hash(seed, np.uint64(block))
    _drop(shares.reshape(-1), 0, own, least, factor, out.reshape(-1))


@compiled
def _to_slopes(shares, slopes, scale):
    """Turn the gradient of the shares (l, l) into that of the products."""
    for i in range(len(shares)):
        total = shares.dtype.type(0)
        for j in range(shares.shape[1]):
            total += shares[i, j] * slopes[i, j]
        for j in range(shares.shape[1]):
            slopes[i, j] = shares[i, j] * (slopes[i, j] - total) * scale
