"""Dasheng base: a 12-layer vision transformer, trained without labels on 272,000 hours of sounds.

    python -m extract_item_embeddings.dasheng --root R --audio DIR
    python -m extract_item_embeddings.dasheng --root R --audio DIR --layer 6 --precision bf16
    python -m extract_item_embeddings.dasheng --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/dasheng.npy, float32 (n_tracks, 768): the last layer, averaged over the first
30 s, which the model hears in pieces of 10.08 s, the last one shorter. Other choices extend the
name: dasheng_l6_meanstd. A file under 1 s is repeated until 1 s.

The weights (Apache-2.0) are downloaded once; the code beside them is not run. Their commit is not
pinned here, since its full hash could not be had: the newest is taken, and NAME.json records which;
--revision pins one. A general model of sounds, as `ast` is.

Source: Dinkel et al., "Scaling up masked audio encoder learning for general audio classification",
Interspeech 2024; https://huggingface.co/mispeech/dasheng-base. The network is written here, and
agrees with the authors' package (PyPI dasheng 0.0.9), whose last piece is not filled up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import librosa
import safetensors.torch
import torch
from torch import Tensor, nn

from extract_item_embeddings.bases.checkpoint_backbone import CheckpointBackbone, filled
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks import vit

RATE = 16_000
N_FFT, HOP, MELS = 512, 160, 64
PATCH = 4  # frames, of all mels
PIECE = 252  # patches
RANGE = 120.0  # dB below the loudest of a clip that count as so much


class Dasheng(CheckpointBackbone):
    name = "dasheng"
    licence = "Apache-2.0"
    sample_rate = RATE
    clip_seconds = 30.0  # 750 patches
    embedding_size = 768
    layers = 12
    batch_size = 4
    packages = ("torch", "librosa")
    repository = "mispeech/dasheng-base"
    revision = "main"
    files = ("config.json", "model.safetensors")
    weight_files = files[1:]
    extra_keys = (r"front_end\..*", r"outputlayer\..*")  # the mel filters, which are computed
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        state = safetensors.torch.load_file(folder / self.weight_files[0])
        state = {key.removeprefix("encoder."): tensor for key, tensor in state.items()}
        return filled(DashengNetwork(self.read_config()), state)

    def load(self, device: str) -> None:
        super().load(device)
        self.decibels = Decibels().to(device)

    def prepare(self, audio: Tensor) -> Tensor:
        return self.decibels(audio)


class Decibels(nn.Module):
    """Mono audio (batch, samples) -> mel power in dB (batch, 64, 1 + samples // 160)."""

    def __init__(self):
        super().__init__()
        filters = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=MELS, htk=True, norm=None)
        self.register_buffer("filters", torch.from_numpy(filters))
        self.register_buffer("window", torch.hann_window(N_FFT))

    def forward(self, audio: Tensor) -> Tensor:
        waves = torch.stft(audio, N_FFT, HOP, window=self.window, return_complex=True)
        power = self.filters @ (waves.real**2 + waves.imag**2)
        decibels = 10 * power.clamp_min(1e-10).log10()
        return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - RANGE)


class DashengNetwork(nn.Module):
    def __init__(self, sizes: dict[str, int]):
        super().__init__()
        width = sizes["hidden_size"]
        self.init_bn = nn.ModuleDict({"1": nn.BatchNorm1d(MELS)})
        projection = nn.Conv2d(1, width, (MELS, PATCH), stride=(MELS, PATCH))
        self.patch_embed = nn.ModuleDict({"proj": projection})
        self.time_pos_embed = nn.Parameter(torch.zeros(1, width, 1, PIECE))
        self.freq_pos_embed = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.blocks = vit.blocks(sizes)
        self.norm = nn.LayerNorm(width, eps=vit.EPS)

    def layers(self, decibels: Tensor) -> Iterator[Tensor]:
        """Mel in dB (batch, 64, frames) -> the input and each layer, (batch, patches, width)."""
        patches = self.patch_embed["proj"](self.init_bn["1"](decibels)[:, None]).squeeze(2)
        positions = (self.time_pos_embed + self.freq_pos_embed).squeeze(2)
        parts = [
            vit.run(self.blocks, self.norm, (x + positions[:, :, : x.shape[2]]).transpose(1, 2))
            for x in vit.pieces(patches, PIECE)
        ]
        return vit.joined(parts, len(decibels))


if __name__ == "__main__":
    main(Dasheng)
