"""What the taggers of PyPI's musicnn share: log-mel patches of 3 s in, 50 tags out.

Their tensors come under TensorFlow's names (`tensor_bundle.py`).
"""

from __future__ import annotations

import librosa
import torch
from torch import Tensor, nn

RATE = 16_000  # Hz
N_FFT, HOP, MELS = 512, 256, 96
PATCH = 187  # frames: 2.992 s
TAGS = 50
DEAD = 1e-7  # largest weight of a channel that training gave up


class LogMel(nn.Module):
    """Mono audio (batch, samples) -> log-mel power (batch, 96, 1 + samples // 256)."""

    def __init__(self):
        super().__init__()
        filters = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=MELS)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)  # (96, 257)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        waves = torch.stft(
            audio, N_FFT, HOP, window=self.window, pad_mode="constant", return_complex=True
        )
        return torch.log10(1 + 10_000 * (self.filters @ (waves.real**2 + waves.imag**2)))


class Tagger(nn.Module):
    """A subclass sets `tags`, a layer of 50 outputs, and fills `penultimate`."""

    tags: nn.Linear

    def __init__(self):
        super().__init__()
        self.spectrogram = LogMel()

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Mono audio (batch, samples) -> what each patch gives before the tags, and its tags.

        (batch, patches, width) and (batch, patches, 50), the tags in [0, 1].
        """
        return self.describe(self.spectrogram(audio))

    def describe(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel power (batch, 96, frames) -> as `forward`; frames behind the last patch drop."""
        patches = mel.shape[2] // PATCH
        if not patches:
            raise ValueError(f"{mel.shape[2]:,} frames are less than one patch of {PATCH}")
        mel = mel[:, :, : patches * PATCH].unflatten(2, (patches, PATCH)).transpose(1, 2)
        penultimate = self.penultimate(mel.flatten(0, 1)).unflatten(0, (-1, patches))
        return penultimate, torch.sigmoid(self.tags(penultimate))

    def penultimate(self, mel: Tensor) -> Tensor:
        """Patches (n, 96, 187) -> (n, width)."""
        raise NotImplementedError


class BatchNorm(nn.Module):
    """The trained batch norm as one multiplication and addition for each channel (axis 1)."""

    def __init__(self, tensors: dict[str, Tensor], number: int):
        super().__init__()
        name = layer_name("batch_normalization", number)
        deviation = torch.sqrt(tensors[name + "/moving_variance"] + 1e-3)
        self.scale = nn.Parameter(tensors[name + "/gamma"] / deviation)
        self.shift = nn.Parameter(
            tensors[name + "/beta"] - tensors[name + "/moving_mean"] * self.scale
        )

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        return x * self.scale.view(shape) + self.shift.view(shape)


def linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    kernel = tensors[name + "/kernel"]  # (in, out)
    layer = nn.Linear(*kernel.shape)
    layer.weight = nn.Parameter(kernel.T.contiguous())
    layer.bias = nn.Parameter(tensors[name + "/bias"])
    return layer


def layer_name(name: str, number: int) -> str:
    """Return TensorFlow's name of the layer: the first has no number."""
    return f"{name}_{number}" if number else name
