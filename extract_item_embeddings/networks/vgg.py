"""The VGG that MusiCNN was compared with: five 3 x 3 convolutions of 128 channels, five poolings.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019, after Choi, Fazekas and Sandler, "Automatic tagging using deep convolutional neural
networks", ISMIR 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extract_item_embeddings.networks.tagger import DEAD, MELS, PATCH, BatchNorm, Tagger, linear

POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))  # frames x mels, stride


class VggNetwork(Tagger):
    """Audio (batch, samples) -> penultimate (batch, patches, 256), tags (batch, patches, 50).

    The penultimate layer is the last pooling, flattened: time before channel. Only what can change
    it is computed: of each layer the part that the poolings above it read (they leave out what does
    not fill a window), and the living channels.
    """

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__()
        self.norm_input = BatchNorm(tensors, 0)
        self.blocks = nn.ModuleList()
        for number, (pool, size) in enumerate(zip(POOLS, read_sizes(), strict=True), start=1):
            below = self.blocks[-1] if self.blocks else None
            self.blocks.append(Block(tensors, number, pool, size, below))
        self.tags = linear(tensors, "dense")

    def penultimate(self, mel: Tensor) -> Tensor:
        """Patches (n, 96, 187) -> (n, 256)."""
        x = self.norm_input(mel.transpose(1, 2)[:, None])
        for block in self.blocks:
            x = block(x)
        return block.full(x).permute(0, 2, 3, 1).flatten(1)  # of (n, 128, 2, 1)


class Block(nn.Module):
    """Convolution, ReLU, batch norm, maximum: (n, in, frames, mels) -> (n, out, fewer, fewer).

    Channels that training gave up give the constant of their bias, so they are left out, and the
    layer above hears all of them as one channel of ones. The maximum is taken before ReLU and norm,
    which are monotonous: where the norm falls, on negated kernels, so that it finds the minimum.

    Args:
        number: of the layer, from 1.
        pool: the window of the pooling, and its stride.
        size: (frames, mels) of the convolution's output that is read.
        below: the block that gives the input, or None for the spectrogram.
    """

    def __init__(self, tensors: dict[str, Tensor], number: int, pool: tuple, size: tuple, below):
        super().__init__()
        kernel = tensors[f"{number}CNN/kernel"].permute(3, 2, 0, 1)  # (128, in, 3, 3)
        bias = tensors[f"{number}CNN/bias"]
        norm = BatchNorm(tensors, number)
        alive = kernel.abs().amax(dim=(1, 2, 3)) > DEAD
        with torch.no_grad():
            self.register_buffer("alive", alive)
            self.register_buffer("constant", norm(torch.relu(bias)[None])[0])  # where it is dead
            if below is not None:
                dead = kernel[:, ~below.alive] * below.constant[~below.alive, None, None]
                kernel = torch.cat([kernel[:, below.alive], dead.sum(dim=1, keepdim=True)], dim=1)
        sign = torch.where(norm.scale[alive] < 0, -1.0, 1.0)
        self.register_buffer("sign", sign[:, None, None])
        self.kernel = nn.Parameter((kernel[alive] * self.sign[..., None]).contiguous())
        self.bias = nn.Parameter(bias[alive] * sign)
        self.scale = nn.Parameter(norm.scale[alive][:, None, None])
        self.shift = nn.Parameter(norm.shift[alive][:, None, None])
        self.pool, self.size, self.first = pool, size, below is None

    def forward(self, x: Tensor) -> Tensor:
        frames, mels = self.size
        x = x[:, :, : frames + 1, : mels + 1]  # the kernel looks one further
        if not self.first:
            x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        x = F.conv2d(x, self.kernel, self.bias, padding=1)[:, :, :frames, :mels]
        return torch.relu(self.sign * F.max_pool2d(x, *self.pool)) * self.scale + self.shift

    def full(self, x: Tensor) -> Tensor:
        """Return the output with the dead channels in their places."""
        full = self.constant[:, None, None].repeat(len(x), 1, *x.shape[2:])
        full[:, self.alive] = x
        return full


def read_sizes() -> list[tuple[int, int]]:
    """Return (frames, mels) of each convolution's output, from the start, that changes the end."""
    sizes, size = [], (PATCH, MELS)
    for window, stride in POOLS:
        sizes.append(size)
        size = tuple((n - w) // stride + 1 for n, w in zip(size, window, strict=True))
    reads, wanted = [], size
    for (window, stride), size in zip(reversed(POOLS), reversed(sizes), strict=True):
        read = tuple((n - 1) * stride + w for n, w in zip(wanted, window, strict=True))
        reads.append(read)
        wanted = tuple(min(n + 1, most) for n, most in zip(read, size, strict=True))
    return reads[::-1]
