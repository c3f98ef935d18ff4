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
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertSdpaSelfAttention

from core.cores import by_parts, one_core_a_product
from recommenders.compiled import compiled, exp_of

BLOCK = 1 << 12  # numbers whose dropping one hash after the other says: even, two a hash
GOLDEN, FIRST, SECOND = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
ONE, HALF, LOW = np.uint64(1), np.uint64(32), np.uint64(0xFFFFFFFF)
SHIFTS = tuple(map(np.uint64, (30, 27, 31)))


def with_compiled_dropout(transformer: BertModel) -> BertModel:
    """Return the transformer with this dropout and attention in the place of its own.

    Parameters and their names stay. On a GPU, under autocast and in validation all is as it was.
    """
    for layer in transformer.encoder.layer:
        layer.attention.self = SelfAttention.of(layer.attention.self, transformer.config)
    for module in list(transformer.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))
    return transformer


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


class SelfAttention(BertSdpaSelfAttention):
    """BertModel's attention, which drops of each row's shares before they weigh the values."""

    @classmethod
    def of(cls, attention: BertSdpaSelfAttention, config) -> SelfAttention:
        """Return it over the same layers."""
        with torch.device("meta"):  # its own are put away
            own = cls(config, layer_idx=attention.layer_idx)
        own.query, own.key, own.value = attention.query, attention.key, attention.value
        return own

    def forward(self, hidden_states, attention_mask=None, head_mask=None, *arguments, **options):
        if not (self.training and is_ours(hidden_states, self.dropout_prob)):
            return super().forward(hidden_states, attention_mask, head_mask, *arguments, **options)
        b, length, _ = hidden_states.shape
        added = hidden_states.new_zeros((b, length))  # to the logits of a row, of padding -inf
        if attention_mask is not None:
            added = attention_mask[:, 0, 0, :].to(hidden_states.dtype).contiguous()
        states = (layer(hidden_states) for layer in (self.query, self.key, self.value))
        heads = self.num_attention_heads
        return (_Attention.apply(*states, added, heads, self.dropout_prob, drawn_seed()),)


class _Attention(torch.autograd.Function):
    """dropped(softmax(q k' / sqrt(d) + added)) v of each sequence and head; columns are heads'.

    With p the softmax, m what dropping multiplies it by, and g the output's gradient, that of the
    logits is p (a - sum(p a)) for a = m (g v'), and that of v is (m p)' g. A sequence and head
    at a time, whose logits the cache holds. Of a step, p alone is kept.
    """

    @staticmethod
    def forward(ctx, query, key, value, added, heads, probability, seed):
        (b, length, width), kind = query.shape, np.float32
        q, k, v, extra = (t.detach().contiguous().numpy() for t in (query, key, value, added))
        shares, out = np.empty((b, heads, length, length), kind), np.empty((b, length, width), kind)
        scale, rule = kind(1 / math.sqrt(width // heads)), _rule(probability)

        def part(of: slice) -> None:
            kept = np.empty((length, length), kind)
            for i, head, at in _places(of, heads, width):
                own = shares[i, head]
                np.matmul(q[i][:, at], k[i][:, at].T, out=own)
                _to_shares(own, scale, extra[i])
                _drop_shares(own, i * heads + head, seed, *rule, kept)
                np.matmul(kept, v[i][:, at], out=out[i][:, at])

        with one_core_a_product():
            by_parts(part, b)
        ctx.save_for_backward(query, key, value)
        ctx.shares, ctx.heads, ctx.scale, ctx.rule, ctx.seed = shares, heads, scale, rule, seed
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, k, v, g = (t.detach().contiguous().numpy() for t in (*ctx.saved_tensors, grad))
        b, length, width = q.shape
        of_q, of_k, of_v = (np.empty_like(q) for _ in range(3))

        def part(of: slice) -> None:
            kept, slopes = np.empty((2, length, length), np.float32)
            for i, head, at in _places(of, ctx.heads, width):
                own, block = ctx.shares[i, head], i * ctx.heads + head
                _drop_shares(own, block, ctx.seed, *ctx.rule, kept)
                np.matmul(kept.T, g[i][:, at], out=of_v[i][:, at])
                np.matmul(g[i][:, at], v[i][:, at].T, out=slopes)
                _drop_shares(slopes, block, ctx.seed, *ctx.rule, kept)
                _to_slopes(own, kept, ctx.scale)
                np.matmul(kept, k[i][:, at], out=of_q[i][:, at])
                np.matmul(kept.T, q[i][:, at], out=of_k[i][:, at])

        with one_core_a_product():
            by_parts(part, b)
        return *map(torch.from_numpy, (of_q, of_k, of_v)), None, None, None, None


def _places(of: slice, heads: int, width: int):
    """Yield sequence, head and the head's columns."""
    for i in range(of.start, of.stop):
        for head in range(heads):
            yield i, head, slice(head * width // heads, (head + 1) * width // heads)


@compiled
def _to_shares(logits, scale, added):
    """Turn the products (l, l) into each row's softmax."""
    for i in range(len(logits)):
        row = logits[i]
        top = row.dtype.type(-np.inf)
        for j in range(len(row)):
            row[j] = row[j] * scale + added[j]
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
