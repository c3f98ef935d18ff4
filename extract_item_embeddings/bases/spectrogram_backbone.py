"""What MAEST and AST share: transformers' ASTModel, fed windows of a mel spectrogram.

A subclass sets its facts and fills `prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from extract_item_embeddings.bases.transformer_backbone import TransformerBackbone, pick

TOKENS = 2  # in front of the patches: they stand for the labels that training asked for


class SpectrogramBackbone(TransformerBackbone):
    """Patches of a spectrogram instead of frames: pooling goes over time and frequency."""

    embedding_size = 768
    layers = 12
    batch_size = 4
    files = ("config.json", "model.safetensors", "pytorch_model.bin")
    weight_files = files[1:]

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        return transformers.ASTModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )

    def prepare(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) -> (batch, windows, frames, mels), as the model takes it."""
        raise NotImplementedError

    def frames(self, mel: Tensor) -> Tensor:
        """What `prepare` gives -> patches (batch, windows x patches, width) of the chosen layer."""
        patches = pick(layers(self.model, mel.flatten(0, 1)), self.layer)[:, TOKENS:]
        return patches.reshape(len(mel), -1, patches.shape[2])


def layers(model: nn.Module, mel: Tensor) -> Iterator[Tensor]:
    """Yield the input and each layer of an ASTModel, the last one after its final norm.

    Args:
        mel: (windows, frames, mels).
    """
    x = model.embeddings(mel)
    yield x
    for layer in model.encoder.layer[:-1]:
        x = layer(x)
        yield x
    yield model.layernorm(model.encoder.layer[-1](x))
