"""OMAR-RQ's conformer: 40 ms of a wave at once, layers that hear what was before.

Of a layer: half a feed-forward net, attention with rotary positions, convolution over 31 frames,
the other half. Modules are named as in the published weights, so that these load by name.

Source: Alonso-Jimenez et al., "OMAR-RQ: open music audio representation model trained with
multi-feature masked token prediction", 2025, arXiv 2507.03482; the authors' package, PyPI omar-rq.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

EPS = 6.1e-5  # of the norms inside of feed-forward nets and convolutions
KERNEL = 31  # frames


@dataclass(frozen=True)
class OmarSizes:
    width: int
    depth: int
    heads: int
    inner: float  # times the width, in the feed-forward nets
    residual: float  # what their output is multiplied by
    alpha: float  # what goes around the attention is multiplied by
    patch: int  # samples of a frame
    mean: float  # of the training data's samples
    spread: float


class OmarNetwork(nn.Module):
    def __init__(self, sizes: OmarSizes):
        super().__init__()
        self.sizes = sizes
        self.embedding_layer = nn.Linear(sizes.patch, sizes.width)
        blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.net = nn.ModuleDict({"layers": blocks})

    def layers(self, audio: Tensor) -> Iterator[Tensor]:
        """Mono audio (batch, samples) -> the input and each layer, (batch, frames, width)."""
        patch = self.sizes.patch
        audio = (audio - self.sizes.mean) / self.sizes.spread
        whole = audio.shape[1] // patch * patch
        x = self.embedding_layer(audio[:, :whole].unflatten(1, (-1, patch)))
        yield x
        for block in self.net["layers"]:
            x = block(x)
            yield x


class Block(nn.Module):
    def __init__(self, sizes: OmarSizes):
        super().__init__()
        self.alpha, self.residual = sizes.alpha, sizes.residual
        self.ff1, self.ff2 = (Inner(feed_forward(sizes)) for _ in range(2))
        self.attention = Attention(sizes.width, sizes.heads)
        self.conv_block = Convolution(sizes.width)
        self.norm1 = nn.ModuleDict({"layer_norm": nn.LayerNorm(sizes.width)})
        self.norm2 = nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.residual * self.ff1(x)
        x = self.norm1["layer_norm"](self.alpha * x + self.attention(x))
        x = x + self.conv_block(x)
        return self.norm2(x + self.residual * self.ff2(x))


class Inner(nn.Module):
    """What the published names have a `module` around."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


def feed_forward(sizes: OmarSizes) -> nn.Sequential:
    inner = int(sizes.width * sizes.inner)
    return nn.Sequential(
        nn.LayerNorm(sizes.width, eps=EPS),
        nn.Linear(sizes.width, inner),
        nn.GELU(),
        nn.Identity(),  # in training some are left out
        nn.Linear(inner, sizes.width),
    )


class Attention(nn.Module):
    """(batch, frames, width) -> the same; a frame hears itself and those before it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        frequencies = nn.Parameter(torch.zeros(width // heads // 2), requires_grad=False)
        self.rotary_emb = nn.ParameterDict({"freqs": frequencies})

    def forward(self, x: Tensor) -> Tensor:
        parts = (p.unflatten(2, (self.heads, -1)).transpose(1, 2) for p in self.qkv(x).chunk(3, 2))
        queries, keys, values = parts
        times = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        angles = times[:, None] * self.rotary_emb["freqs"]
        queries, keys = turned(queries, angles), turned(keys, angles)
        heard = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.proj(heard.transpose(1, 2).flatten(2))


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Turn neighbouring pairs of numbers: (..., frames, 2 n) by angles (frames, n)."""
    first, second = x[..., ::2], x[..., 1::2]
    cosine, sine = angles.cos(), angles.sin()
    pairs = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.stack(pairs, dim=-1).flatten(-2).to(x.dtype)


class Convolution(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layer_norm = nn.LayerNorm(width, eps=EPS)
        self.module = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1),
            nn.GLU(dim=1),
            nn.Conv1d(width, width, KERNEL, padding="same", groups=width),
            nn.BatchNorm1d(width, eps=EPS),
            nn.GELU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.module(self.layer_norm(x).transpose(1, 2)).transpose(1, 2)
