"""MATPAC++ of music: a 12-layer vision transformer, trained without labels on hidden patches.

    python -m extract_item_embeddings.matpac --root R --audio DIR --weights FOLDER
    python -m extract_item_embeddings.matpac --root R --audio DIR --weights FOLDER --layer 6

Writes embeddings/matpac.npy, float32 (n_tracks, 3840): the last layer, whose 5 bands of frequency
stand one after another, averaged over the first 30 s, which the model hears in pieces of 6.08 s,
the last one shorter. Other choices extend the name: matpac_l6_meanstd. A file under 1 s is repeated
until 1 s.

The weights (no licence is stated; ask before any use but research) are one file, of which the
authors' page of releases on GitHub is the source:

    mkdir -p ~/.cache/matpac && cd ~/.cache/matpac        # or any folder, with --weights
    curl -L -O https://github.com/aurianworld/matpac/releases/download/MATPAC%2B%2B/matpac_plus_music_6s_2048_enconly.pt

Source: Quelennec et al., "MATPAC++: enhanced masked latent prediction for self-supervised audio
representation learning", 2025, arXiv 2508.12709. The network is written here, and agrees with the
authors' "precise" inference (github.com/aurianworld/matpac).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import librosa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.options import option
from extract_item_embeddings.bases.checkpoint_backbone import (
    SIZES,
    CheckpointBackbone,
    filled,
    read_checkpoint,
)
from extract_item_embeddings.bases.transformer_backbone import TransformerConfig
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks import vit

CACHE = Path("~/.cache/matpac")
ADDRESS = "https://github.com/aurianworld/matpac/releases/download/MATPAC%2B%2B"
RATE = 16_000
N_FFT, HOP, MELS = 400, 160, 80
PATCH = 16  # mels x frames
BANDS = MELS // PATCH
PIECE = 38  # patches in time
MEAN, SPREAD = -7.056, 4.193  # of the training data's log-mel
FLOOR = 1.1920928955078125e-07  # added to a mel band's power


@dataclass(frozen=True, kw_only=True)
class MatpacConfig(TransformerConfig):
    weights: Path | None = option(
        None, f"folder of the weights' file; auto: {CACHE}", outcome=False
    )


class Matpac(CheckpointBackbone):
    name = "matpac"
    licence = "no stated licence, non-commercial"
    sample_rate = RATE
    clip_seconds = 30.0  # 188 patches in time
    embedding_size = 3840  # 5 bands of 768
    layers = 12
    batch_size = 4
    config_class = MatpacConfig
    packages = ("torch", "librosa")
    repository = ADDRESS
    revision = "MATPAC++"
    weight_files = ("matpac_plus_music_6s_2048_enconly.pt",)
    files = (SIZES, *weight_files)
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}

    def download(self) -> Path:
        self.local = True  # recorded by the file's hash: there is no revision
        return CACHE.expanduser()

    @property
    def advice(self) -> str:
        address = f"{ADDRESS}/{self.weight_files[0]}"
        return f"fetch {address} into {CACHE} or into a folder named with --weights"

    def read_sizes(self) -> tuple[int, int]:
        width, layers = super().read_sizes()
        return BANDS * width, layers

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        state = read_checkpoint(folder / self.weight_files[0])
        return filled(MatpacNetwork(self.read_config()), state)

    def load(self, device: str) -> None:
        super().load(device)
        self.log_mel = LogMel().to(device)

    def prepare(self, audio: Tensor) -> Tensor:
        return (self.log_mel(audio) - MEAN) / SPREAD


class LogMel(nn.Module):
    """Mono audio (batch, samples) -> log-mel power (batch, 80, frames) of whole windows alone."""

    def __init__(self):
        super().__init__()
        filters = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=MELS, fmin=50.0)
        self.register_buffer("filters", torch.from_numpy(filters))
        self.register_buffer("window", torch.hann_window(N_FFT))

    def forward(self, audio: Tensor) -> Tensor:
        waves = torch.stft(audio, N_FFT, HOP, window=self.window, center=False, return_complex=True)
        return torch.log(self.filters @ (waves.real**2 + waves.imag**2) + FLOOR)


class MatpacNetwork(nn.Module):
    def __init__(self, sizes: dict[str, int]):
        super().__init__()
        width = sizes["hidden_size"]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + BANDS * PIECE, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, width, PATCH, stride=PATCH)})
        norm = nn.LayerNorm(width, eps=vit.EPS)
        self.student_encoder = nn.ModuleDict({"blocks": vit.blocks(sizes), "norm": norm})

    def layers(self, mel: Tensor) -> Iterator[Tensor]:
        """Normalised log-mel (batch, 80, frames) -> the input and each layer.

        They are (batch, patches in time, 5 width): a patch's bands one after another.
        """
        mel = F.pad(mel, (0, -mel.shape[2] % PATCH))
        parts = [self.piece_layers(piece) for piece in vit.pieces(mel, PIECE * PATCH)]
        return vit.joined(parts, len(mel))

    def piece_layers(self, mel: Tensor) -> Iterator[Tensor]:
        patches = self.patch_embed["proj"](mel[:, None])  # (pieces, width, bands, time)
        positions = self.pos_embed[:, 1:].unflatten(1, (BANDS, PIECE))[:, :, : patches.shape[3]]
        x = (patches.permute(0, 2, 3, 1) + positions).flatten(1, 2)
        token = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([token, x], dim=1)
        for out in vit.run(self.student_encoder["blocks"], self.student_encoder["norm"], x):
            yield out[:, 1:].unflatten(1, (BANDS, -1)).transpose(1, 2).flatten(2)


if __name__ == "__main__":
    main(Matpac)
