"""MusiCNN: a small convolutional tagger, trained with labels on 200,000 songs (MSD).

    pip install --no-deps musicnn==0.1.0                 # its weights; its code is not used
    python -m extract_item_embeddings.musicnn --root R --audio DIR

Writes embeddings/musicnn.npy, float32 (n_tracks, 200): the penultimate layer, averaged over the
patches of 3 s that fit into the first 30 s. A shorter file is repeated until it fills one patch.

Measured: 60 mp3 clips of 30 s in 5 s on two cores, 0.7 GB.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019. The package runs on TensorFlow 1 and its `penultimate` repeats the first patch;
here its checkpoint is read as it is, and agrees with the mended TensorFlow network to 1e-5.
"""

from __future__ import annotations

from importlib import metadata

import librosa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.artifacts import sha256
from core.options import InputError
from extract_item_embeddings.bases.torch_backbone import TorchBackbone, embed_in_torch
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.tensor_bundle import read_tensors

PACKAGE = "musicnn==0.1.0"
CHECKPOINT_SHA256 = "ffb40cd66093fac1af5e4bae851c19c767a962aa577d0aa1fa12b426f15215ad"
N_FFT, HOP, MELS = 512, 256, 96
PATCH = 187  # frames: 2.992 s
DEAD = 1e-7  # largest weight of a channel that training gave up


class Musicnn(TorchBackbone):
    name = "musicnn"
    sample_rate = 16_000  # Hz
    clip_seconds = 30.0  # ten patches
    min_seconds = step_seconds = PATCH * HOP / 16_000
    embedding_size = 200
    batch_size = 16
    packages = ("torch", "librosa")
    clip_a_thread = True

    def weights(self) -> dict:
        index, data = _checkpoint()
        digest = sha256(index, data)
        if digest != CHECKPOINT_SHA256:
            raise InputError(
                f"{data} is not the checkpoint of {PACKAGE} (sha256 {digest[:12]}...); "
                f"pip install --force-reinstall --no-deps {PACKAGE}"
            )
        return {"source": f"PyPI {PACKAGE}, MSD_musicnn", "sha256": digest}

    def load(self, device: str) -> None:
        arrays = read_tensors(*_checkpoint())
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        self.model = MusicnnNetwork(tensors).eval().to(device)

    @embed_in_torch
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, 200)."""
        return self.model(audio)[0].mean(dim=1)


def _checkpoint():
    """Return the paths of the checkpoint's index and data inside the installed package.

    They are asked for by the package's name as it was installed: imported from this folder,
    `musicnn` would be this file.
    """
    try:
        folder = metadata.distribution("musicnn").locate_file("musicnn/MSD_musicnn")
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"musicnn's weights are not installed; pip install --no-deps {PACKAGE}"
        ) from error
    return folder / ".index", folder / ".data-00000-of-00001"


class MusicnnNetwork(nn.Module):
    """Audio (batch, samples) -> penultimate (batch, patches, 200), tags (batch, patches, 50)."""

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__()
        filters = librosa.filters.mel(sr=16_000, n_fft=N_FFT, n_mels=MELS)
        self.register_buffer("mel", torch.from_numpy(filters))  # (96, 257)
        self.register_buffer("window", torch.hann_window(N_FFT))
        self.norm_input = BatchNorm(tensors, 0)
        # timbre: 7 frames x 38 or 67 mels; rhythm: 128, 64 or 32 frames of a single mel
        self.front = nn.ModuleList(FrontBlock(tensors, number) for number in range(5))
        self.middle = nn.ModuleList(MiddleBlock(tensors, number) for number in (5, 6, 7))
        self.norm_pooled = BatchNorm(tensors, 9)
        self.dense = _linear(tensors, "dense")
        self.norm_dense = BatchNorm(tensors, 10)
        self.tags = _linear(tensors, "dense_1")

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        penultimate = self.embed_patches(self.spectrogram(audio))
        return penultimate, torch.sigmoid(self.tags(penultimate))

    def spectrogram(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) -> log-mel power (batch, 96, 1 + samples // 256)."""
        waves = torch.stft(
            audio, N_FFT, HOP, window=self.window, pad_mode="constant", return_complex=True
        )
        return torch.log10(1 + 10_000 * (self.mel @ (waves.real**2 + waves.imag**2)))

    def embed_patches(self, mel: Tensor) -> Tensor:
        """Log-mel power (batch, 96, frames) -> penultimate layer (batch, patches, 200)."""
        patches = mel.shape[2] // PATCH
        if not patches:
            raise ValueError(f"{mel.shape[2]:,} frames are less than one patch of {PATCH}")
        mel = mel[:, :, : patches * PATCH].unflatten(2, (patches, PATCH)).transpose(1, 2)
        return self._penultimate(mel.flatten(0, 1)).unflatten(0, (-1, patches))

    def _penultimate(self, mel: Tensor) -> Tensor:
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

    Only living channels are convolved (64 of 561); a dead one gives the constant of its bias. The
    maximum is taken before ReLU and norm, which are monotonous: where the norm falls, on negated
    kernels, so that the maximum finds the minimum.
    """

    def __init__(self, tensors: dict[str, Tensor], number: int):
        super().__init__()
        kernel = tensors[_layer("conv2d", number) + "/kernel"].permute(3, 2, 1, 0)  # (out, 1, f, t)
        bias = tensors[_layer("conv2d", number) + "/bias"]
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
        kernel = tensors[_layer("conv2d", number) + "/kernel"]  # (7, in, 1, 64)
        self.kernel = nn.Parameter(kernel[:, :, 0].permute(2, 1, 0).contiguous())
        self.bias = nn.Parameter(tensors[_layer("conv2d", number) + "/bias"])
        self.norm = BatchNorm(tensors, number + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(F.conv1d(x, self.kernel, self.bias, padding=3)))


class BatchNorm(nn.Module):
    """The trained batch norm as one multiplication and addition for each channel (axis 1)."""

    def __init__(self, tensors: dict[str, Tensor], number: int):
        super().__init__()
        name = _layer("batch_normalization", number)
        deviation = torch.sqrt(tensors[name + "/moving_variance"] + 1e-3)
        self.scale = nn.Parameter(tensors[name + "/gamma"] / deviation)
        self.shift = nn.Parameter(
            tensors[name + "/beta"] - tensors[name + "/moving_mean"] * self.scale
        )

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        return x * self.scale.view(shape) + self.shift.view(shape)


def _linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    kernel = tensors[name + "/kernel"]  # (in, out)
    layer = nn.Linear(*kernel.shape)
    layer.weight = nn.Parameter(kernel.T.contiguous())
    layer.bias = nn.Parameter(tensors[name + "/bias"])
    return layer


def _layer(name: str, number: int) -> str:
    """Return TensorFlow's name of the layer: the first has no number."""
    return f"{name}_{number}" if number else name


if __name__ == "__main__":
    main(Musicnn)
