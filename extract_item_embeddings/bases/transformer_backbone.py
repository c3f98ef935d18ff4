"""What pretrained transformers share: the layer read, pooling over time.

A subclass sets its facts and fills `read_model`; `prepare` where the model wants its audio changed.
Choices that change the vectors extend the embedding's name: `mert_l6`, `mert_lmean_meanstd`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.options import InputError, option
from extract_item_embeddings.bases.pretrained import (
    PretrainedBackbone,
    PretrainedConfig,
    first_line,
)
from extract_item_embeddings.bases.torch_backbone import embed_in_torch


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(PretrainedConfig):
    layer: str = option("last", "a number, 0 the input of the first layer; last; mean of all")
    pool: Literal["mean", "mean+std", "max"] = option("mean", "over time; mean+std: twice as wide")


class TransformerBackbone(PretrainedBackbone):
    """A model of transformers' kind: audio -> frames at every layer -> one vector."""

    config_class = TransformerConfig
    files = ("config.json", "*.safetensors", "pytorch_model*.bin")
    weight_files = files[1:]
    layers: int  # the highest number of --layer
    layer = "last"
    pool = "mean"

    def choose(self, config: TransformerConfig) -> None:
        super().choose(config)
        self.layer, self.pool = config.layer, config.pool
        self.check_layer()
        self.embedding_size *= 2 if self.pool == "mean+std" else 1

    def variants(self) -> list[str]:
        layer = [] if self.layer == type(self).layer else [f"l{self.layer}"]
        pool = [] if self.pool == "mean" else [self.pool.replace("+", "")]
        return layer + pool

    def check_layer(self) -> None:
        number = re.fullmatch("0|[1-9][0-9]{0,3}", self.layer)
        if self.layer in ("last", "mean") or (number and int(self.layer) <= self.layers):
            return
        raise InputError(
            f"--layer must be 0 to {self.layers}, last or mean for {type(self).name}, "
            f"got '{self.layer}'"
        )

    def read_sizes(self) -> tuple[int, int]:
        """Return (width, layers) of the weights, from their config.json."""
        path = self.folder / "config.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return int(content["hidden_size"]), int(content["num_hidden_layers"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} does not give a model's sizes ({first_line(error)}); {self.advice}"
            ) from error

    def prepare(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> what the model was trained on."""
        return audio

    @embed_in_torch
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, embedding_size)."""
        audio = self.prepare(audio)
        with self.autocast(audio.device.type):
            frames = self.frames(audio)
        return self.summarise(frames.float())

    def frames(self, audio: Tensor) -> Tensor:
        """Prepared audio -> frames (batch, time, width) of the chosen layer, or the layers' mean.

        No attention mask: clips of a batch are equally long, and padding would change the vectors.
        """
        out = self.model(audio, output_hidden_states=self.layer != "last")
        if self.layer == "last":
            return out.last_hidden_state
        return pick(iter(out.hidden_states), self.layer)

    def summarise(self, frames: Tensor) -> Tensor:
        """Frames (batch, time, width) -> embeddings (batch, embedding_size)."""
        return pool(frames, self.pool)


def pick(layers: Iterator[Tensor], layer: str) -> Tensor:
    """Return one of a model's layers, or their mean; those above it are not computed.

    Args:
        layers: the input of the first layer, then the output of each, (batch, time, width).
        layer: a number, 0 the input; last; mean.
    """
    if layer == "last":
        return deque(layers, maxlen=1).pop()
    if layer != "mean":
        return next(itertools.islice(layers, int(layer), None))
    total, count = 0.0, 0
    for frames in layers:
        total, count = total + frames.float(), count + 1
    return total / count


def pool(frames: Tensor, how: str) -> Tensor:
    """Frames (batch, time, width) -> (batch, width), or (batch, 2 width) for mean+std."""
    if how == "max":
        return frames.amax(dim=1)
    mean = frames.mean(dim=1)
    if how == "mean":
        return mean
    # of the frames there are, so that a single one has a spread of 0
    return torch.cat([mean, frames.std(dim=1, correction=0)], dim=1)
