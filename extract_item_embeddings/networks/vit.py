"""The transformer layer of vision, over patches of a spectrogram: attention, then two layers.

Modules are named as in timm, so that published weights load by name.

Source: Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

EPS = 1e-6  # of the norms
INNER = 4  # times the width, between the two layers


class Attention(nn.Module):
    """(batch, patches, width) -> the same; every patch hears every other."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = (p.unflatten(2, (self.heads, -1)).transpose(1, 2) for p in self.qkv(x).chunk(3, 2))
        return self.proj(scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class Layers(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, INNER * width)
        self.fc2 = nn.Linear(INNER * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPS) for _ in range(2))
        self.attn, self.mlp = Attention(width, heads), Layers(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def blocks(sizes: dict[str, int]) -> nn.ModuleList:
    """Return the layers of a model; its sizes are under transformers' names."""
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    return nn.ModuleList(Block(width, heads) for _ in range(sizes["num_hidden_layers"]))


def run(layers: nn.ModuleList, norm: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """Yield the input and each layer's output, the last one after the final norm."""
    yield x
    for layer in layers[:-1]:
        x = layer(x)
        yield x
    yield norm(layers[-1](x))


def joined(parts: list[Iterator[Tensor]], clips: int) -> Iterator[Tensor]:
    """Yield the layers of clips that were cut into parts.

    Args:
        parts: for each a run over (clips x pieces, frames, width), pieces of a clip together.
        clips: in the batch.
    """
    for frames in zip(*parts, strict=True):
        yield torch.cat([f.reshape(clips, -1, f.shape[2]) for f in frames], dim=1)


def pieces(x: Tensor, size: int) -> list[Tensor]:
    """Cut (batch, channels, time) into [(batch x n, channels, size), (batch, channels, rest)].

    What is empty is left out.
    """
    whole = x.shape[2] // size * size
    cut = x[:, :, :whole].unflatten(2, (-1, size)).transpose(1, 2).flatten(0, 1)
    return [part for part in (cut, x[:, :, whole:]) if part.numel()]
