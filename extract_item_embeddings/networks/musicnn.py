"""MusiCNN: 7-frame shapes of timbre and long ones of rhythm, three residual layers, two poolings.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extract_item_embeddings.networks.tagger import DEAD, BatchNorm, Tagger, layer_name, linear


class MusicnnNetwork(Tagger):
    """Audio (batch, samples) -> penultimate (batch, patches, 200), tags (batch, patches, 50)."""

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__()
        self.norm_input = BatchNorm(tensors, 0)
        # timbre: 7 frames x 38 or 67 mels; rhythm: 128, 64 or 32 frames of a single mel
        self.front = nn.ModuleList(FrontBlock(tensors, number) for number in range(5))
        self.middle = nn.ModuleList(MiddleBlock(tensors, number) for number in (5, 6, 7))
        self.norm_pooled = BatchNorm(tensors, 9)
        self.dense = linear(tensors, "dense")
        self.norm_dense = BatchNorm(tensors, 10)
        self.tags = linear(tensors, "dense_1")

    def penultimate(self, mel: Tensor) -> Tensor:
        """Patches (n, 96, 187) -> (n, 200)."""
        x = self.norm_input(mel[:, None])
        x = torch.cat([block(x) for block in self.front], dim=1)  # (n, 561, 187)
        layers = [x, self.middle[0](x)]
        for block in self.middle[1:]:
            layers.append(block(layers[-1]) + layers[-1])
        x = torch.cat(layers, dim=1)  # (n, 753, 187)
        x = torch.stack([x.amax(dim=2), x.mean(dim=2)], dim=2).flatten(1)  # max0, mean0, max1 ...
        return self.norm_dense(torch.relu(self.dense(self.norm_pooled(x))))


class FrontBlock(nn.Module):
    """Convolution, ReLU, batch norm and maximum over frequency: (n, 1, 96, t) -> (n, out, t).

    Only living channels are convolved (64 of 561 after the MSD); a dead one gives the constant of
    its bias. The maximum is taken before ReLU and norm, which are monotonous: where the norm falls,
    on negated kernels, so that the maximum finds the minimum.
    """

    def __init__(self, tensors: dict[str, Tensor], number: int):
        super().__init__()
        kernel = tensors[layer_name("conv2d", number) + "/kernel"].permute(
            3, 2, 1, 0
        )  # (out, 1, f, t)
        bias = tensors[layer_name("conv2d", number) + "/bias"]
        self.norm = BatchNorm(tensors, number + 1)
        alive = kernel.abs().amax(dim=(1, 2, 3)) > DEAD
        sign = torch.where(self.norm.scale[alive] < 0, -1.0, 1.0)
        self.register_buffer("alive", alive.nonzero()[:, 0])
        self.register_buffer("sign", sign[:, None])
        self.kernel = nn.Parameter((kernel[alive] * sign[:, None, None, None]).contiguous())
        self.bias = nn.Parameter(bias[alive] * sign)
        self.register_buffer("constant", torch.relu(bias)[:, None])
        taps = kernel.shape[3]
        self.padding = ((taps - 1) // 2, taps // 2)  # TensorFlow's 'same'

    def forward(self, x: Tensor) -> Tensor:
        loudest = F.conv2d(F.pad(x, self.padding), self.kernel, self.bias).amax(dim=2)
        out = self.constant.expand(len(x), -1, x.shape[3]).clone()
        out[:, self.alive] = torch.relu(self.sign * loudest)
        return self.norm(out)


class MiddleBlock(nn.Module):
    """Convolution over 7 frames and all channels, ReLU, batch norm: (n, in, t) -> (n, 64, t)."""

    def __init__(self, tensors: dict[str, Tensor], number: int):
        super().__init__()
        kernel = tensors[layer_name("conv2d", number) + "/kernel"]  # (7, in, 1, 64)
        self.kernel = nn.Parameter(kernel[:, :, 0].permute(2, 1, 0).contiguous())
        self.bias = nn.Parameter(tensors[layer_name("conv2d", number) + "/bias"])
        self.norm = BatchNorm(tensors, number + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(F.conv1d(x, self.kernel, self.bias, padding=3)))
