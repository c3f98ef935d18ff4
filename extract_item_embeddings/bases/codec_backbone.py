"""What codecs share as backbones: the latents that their quantiser would round, over time.

They were trained to copy audio, not to understand it: controls for the others. A subclass sets its
facts and fills `read_model` and `latents`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from core.options import InputError, option
from extract_item_embeddings.bases.pretrained import (
    PretrainedBackbone,
    PretrainedConfig,
    first_line,
)
from extract_item_embeddings.bases.torch_backbone import embed_in_torch
from extract_item_embeddings.bases.transformer_backbone import pool


@dataclass(frozen=True, kw_only=True)
class CodecConfig(PretrainedConfig):
    pool: Literal["mean", "mean+std", "max"] = option("mean", "over time; mean+std: twice as wide")


class CodecBackbone(PretrainedBackbone):
    config_class = CodecConfig
    clip_seconds = 30.0
    batch_size = 4
    files = ("config.json", "model.safetensors")
    weight_files = files[1:]
    model_class: type  # transformers' own
    pool = "mean"

    def choose(self, config: CodecConfig) -> None:
        super().choose(config)
        self.pool = config.pool
        self.embedding_size *= 2 if self.pool == "mean+std" else 1

    def variants(self) -> list[str]:
        return [] if self.pool == "mean" else [self.pool.replace("+", "")]

    def read_sizes(self) -> tuple[int, int]:
        path = self.folder / "config.json"
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))["hidden_size"]), 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} does not give a codec's size ({first_line(error)}); {self.advice}"
            ) from error

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        return self.model_class.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )

    def load(self, device: str) -> None:
        super().load(device)
        self.model.decoder = None  # never used here, and half of the memory

    def latents(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, 1, samples) -> latents (batch, width, frames)."""
        return self.model.encoder(audio)

    @embed_in_torch
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, embedding_size)."""
        with self.autocast(audio.device.type):
            latents = self.latents(audio[:, None])
        return pool(latents.float().transpose(1, 2), self.pool)
