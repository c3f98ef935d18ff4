"""What MusicFM and MuQ share as backbones: 24 kHz, the conformer's layers, the weights' file."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn

from core.options import InputError
from extract_item_embeddings.bases.pretrained import first_line
from extract_item_embeddings.bases.transformer_backbone import TransformerBackbone, pick
from extract_item_embeddings.networks.conformer import (
    EXTRA_KEYS,
    RATE,
    Conformer,
    fill,
    read_sizes,
    read_state,
)


class ConformerBackbone(TransformerBackbone):
    """A subclass names the files: the weights, and a json that `read_statistics` understands."""

    packages = ("torch", "transformers", "librosa")
    sample_rate = RATE
    clip_seconds = 30.0  # 750 frames
    embedding_size = 1024
    layers = 12
    batch_size = 4
    extra_keys = EXTRA_KEYS
    statistics: str  # the json's name

    @property
    def weights_path(self) -> Path:
        return self.folder / self.weight_files[0]

    def read_sizes(self) -> tuple[int, int]:
        """Return (width, layers) of the weights, from their shapes."""
        try:
            return read_sizes(read_state(self.weights_path, "model."))
        except Exception as error:  # whatever broken files may raise
            raise InputError(
                f"{self.weights_path} does not hold {self.repository} ({first_line(error)}); "
                f"{self.advice}"
            ) from error

    def read_statistics(self) -> dict:
        """Return the json that holds melspec_2048_mean and melspec_2048_std."""
        return json.loads((self.folder / self.statistics).read_text(encoding="utf-8"))

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        statistics = self.read_statistics()
        mean, std = (float(statistics[f"melspec_2048_{what}"]) for what in ("mean", "std"))
        state = read_state(self.weights_path, "model.")
        model = Conformer(state, mean, std)
        return model, fill(model, state)

    def load(self, device: str) -> None:
        super().load(device)
        self.model.fuse()

    def prepare(self, audio: Tensor) -> Tensor:
        return self.model.mel(audio)

    def frames(self, mel: Tensor) -> Tensor:
        """Log-mel -> frames (batch, time, width); layers above the chosen one are not computed."""
        return pick(self.model(mel), self.layer)
