"""MULE: log-mel slices of 3 s, and the network that its published file describes.

SF-NFNet-F0 is two convolutional paths over the same slice, a slow one with many channels and a fast
one with few, whose blocks need no normalisation: their kernels have mean 0 and a set spread. The
file lists its 501 layers and who hears whom; here each kind of layer is one function of torch, and
the network is that list.

Source: McCallum et al., "Supervised and unsupervised learning of audio representations for music
understanding", ISMIR 2022; Wang et al., "Towards learning universal audio representations", 2021;
Brock et al., "High-performance large-scale image recognition without normalization", 2021.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import librosa
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extract_item_embeddings.networks.keras_file import KerasLayer, KerasOutput

RATE = 16_000  # Hz
N_FFT, WINDOW, HOP, MELS = 2048, 400, 160, 96
SLICE, EVERY = 300, 200  # frames
QUIET = 0.01  # the smallest spread that a slice is divided by
GELU_GAIN = 1.7015043497085571  # keeps the variance of what goes in
SMALLEST = 1e-4  # a kernel's spread, squared, is taken for at least so much


class Slices(nn.Module):
    """Mono audio (batch, samples) -> slices (batch, n, 96, 300) of log-mel power, mean 0, spread 1.

    A slice is centred every 2 s from 2 s on; those that would reach beyond an end are moved inside.
    """

    def __init__(self):
        super().__init__()
        filters = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=MELS, htk=True, norm=2.0)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        waves = torch.stft(audio, N_FFT, HOP, WINDOW, window=self.window, return_complex=True)
        mel = torch.log10(1 + 10_000 * (self.filters @ (waves.real**2 + waves.imag**2)))
        last = mel.shape[2] - SLICE
        centres = range(EVERY, mel.shape[2], EVERY)
        starts = [min(max(centre - SLICE // 2, 0), last) for centre in centres]
        slices = torch.stack([mel[:, :, start : start + SLICE] for start in starts], dim=1)
        slices = slices - slices.mean(dim=(2, 3), keepdim=True)
        spread = slices.std(dim=(2, 3), correction=0, keepdim=True)
        return slices / spread.clamp_min(QUIET)


class MuleNetwork(nn.Module):
    """Slices (n, 96, 300) -> embeddings (n, width): the layers of the file, one after another.

    Raises:
        ValueError: a layer of a kind, or with an option, that MULE does not have.
    """

    def __init__(self, layers: list[KerasLayer]):
        super().__init__()
        self.first, *layers = layers
        self.steps, self.names, self.heard = nn.ModuleList(), [], []
        for layer in layers:
            others = [v.name for v in layer.arguments.values() if isinstance(v, KerasOutput)]
            try:
                self.steps.append(KINDS[layer.kind](layer))
            except (KeyError, TypeError) as error:
                raise ValueError(f"MULE has no layer such as {layer.name} ({error})") from error
            self.names.append(layer.name)
            self.heard.append([*layer.inputs, *others])

    def forward(self, slices: Tensor) -> Tensor:
        waiting = Counter(name for heard in self.heard for name in heard)
        outputs = {self.first.name: slices[:, None]}
        for name, step, heard in zip(self.names, self.steps, self.heard, strict=True):
            outputs[name] = step(*(outputs[other] for other in heard))
            for other in heard:
                waiting[other] -= 1
                if not waiting[other]:
                    del outputs[other]  # nobody hears it again
        return outputs[name]


class Convolution(nn.Module):
    """A convolution whose kernels are standardised once: (n, in, mels, frames) -> (n, out, ...)."""

    def __init__(self, layer: KerasLayer):
        super().__init__()
        inside = layer.options["layer"]
        options = inside["config"]
        require(layer, inside["class_name"] == "Conv2D" and options["padding"] == "same")
        require(layer, options["activation"] == "linear" and options["dilation_rate"] == [1, 1])
        kernel = torch.from_numpy(layer.arrays["vars/0"])  # (mels, frames, in / groups, out)
        gain = torch.from_numpy(layer.arrays["vars/1"])
        variance = kernel.var(dim=(0, 1, 2), correction=0) * math.prod(kernel.shape[:3])
        kernel = (kernel - kernel.mean(dim=(0, 1, 2))) * variance.clamp_min(SMALLEST).rsqrt() * gain
        self.kernel = nn.Parameter(kernel.permute(3, 2, 0, 1).contiguous())
        self.bias = nn.Parameter(torch.from_numpy(layer.arrays["layer/vars/0"]))
        self.stride, self.groups = tuple(options["strides"]), options["groups"]

    def forward(self, x: Tensor) -> Tensor:
        sizes = zip(x.shape[2:], self.kernel.shape[2:], self.stride, strict=True)
        mels, frames = (same_padding(*size) for size in sizes)
        x = F.pad(x, (*frames, *mels))
        return F.conv2d(x, self.kernel, self.bias, self.stride, groups=self.groups)


class Dense(nn.Module):
    def __init__(self, layer: KerasLayer):
        super().__init__()
        self.kernel = nn.Parameter(torch.from_numpy(layer.arrays["vars/0"].T.copy()))
        self.bias = nn.Parameter(torch.from_numpy(layer.arrays["vars/1"]))
        self.activation = {"relu": torch.relu, "sigmoid": torch.sigmoid}[
            layer.options["activation"]
        ]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(F.linear(x, self.kernel, self.bias))


class Gain(nn.Module):
    def __init__(self, layer: KerasLayer):
        super().__init__()
        gain = layer.arrays.get("vars/0", np.float32(layer.options["init_gain"]))
        self.register_buffer("gain", torch.tensor(gain))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


class Step(nn.Module):
    """A function without numbers of its own."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def activation(layer: KerasLayer) -> Step:
    given = layer.options["activation"]
    name = given["config"] if isinstance(given, dict) else given
    require(layer, name.rpartition(">")[2] == "_scaled_gelu_activation")
    return Step(lambda x: F.gelu(x) * GELU_GAIN)


def pooling(layer: KerasLayer) -> Step:
    size = layer.options["pool_size"]
    require(layer, size == layer.options["strides"] and max(size) <= 2)  # so no padding before
    return Step(lambda x: F.avg_pool2d(x, size, ceil_mode=True, count_include_pad=False))


def operation(layer: KerasLayer) -> Step:
    """Return what TensorFlow's function of a layer does; its channels come last, ours second."""
    function = layer.options["function"]
    if function == "expand_dims":
        require(layer, layer.arguments.get("axis") == 1)
        return Step(lambda x: x[..., None])
    require(layer, function == "math.multiply")
    factor = layer.arguments["y"]
    return Step(torch.mul if isinstance(factor, KerasOutput) else lambda x: factor * x)


def require(layer: KerasLayer, known: bool) -> None:
    if not known:
        raise ValueError(f"MULE has no layer such as {layer.name}")


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's padding 'same' before and after."""
    lacking = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return lacking // 2, lacking - lacking // 2


KINDS: dict[str, Callable[[KerasLayer], nn.Module]] = {
    "WeightStandardization": Convolution,
    "Dense": Dense,
    "ScalarMultiply": Gain,
    "Activation": activation,
    "AveragePooling2D": pooling,
    "TFOpLambda": operation,
    "GlobalAveragePooling2D": lambda layer: Step(lambda x: x.mean(dim=(2, 3))),
    "Concatenate": lambda layer: Step(lambda *parts: torch.cat(parts, dim=1)),
    "StochDepth": lambda layer: Step(torch.add),  # all layers are there but in training
}
