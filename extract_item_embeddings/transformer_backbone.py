"""What pretrained transformers share: their weights' source, the layer read, pooling over time.

A subclass sets its facts and fills `read_model`; `prepare` where the model wants its audio changed.
Choices that change the vectors extend the embedding's name: `mert_l6`, `mert_lmean_meanstd`.
"""

from __future__ import annotations

import errno
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from artifacts import sha256
from config import InputError, WorkError, option
from extract_item_embeddings.backbone import ExtractConfig
from extract_item_embeddings.torch_backbone import TorchBackbone, embed_in_torch

FILES = ("config.json", "*.py", "*.safetensors", "pytorch_model*.bin")  # what decides the vectors
UNUSED = "masked_spec_embed"  # what training hides frames with: published weights may lack it


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(ExtractConfig):
    weights: Path | None = option(
        None, "folder of the weights' files, for work offline; auto: the hub's", outcome=False
    )
    revision: str | None = option(
        None, "commit, branch or tag on the hub; auto: the module's", outcome=False
    )
    layer: str = option("last", "a number, 0 the input of the first layer; last; mean of all")
    pool: Literal["mean", "mean+std", "max"] = option("mean", "over time; mean+std: twice as wide")
    precision: Literal["float32", "bf16"] = option("float32", "bf16: faster, for a GPU alone")


class TransformerBackbone(TorchBackbone):
    """A model of transformers' kind: audio -> frames at every layer -> one vector."""

    packages = ("torch", "transformers")
    config_class = TransformerConfig
    min_seconds = 1.0
    repository: str  # on huggingface.co
    revision: str  # its commit
    layers: int  # the highest number of --layer
    # The choices; from_config sets them.
    layer = "last"
    pool = "mean"
    precision = "float32"
    folder: Path | None = None  # of the weights, once it is known
    local = False  # whether that is the user's

    @classmethod
    def from_config(cls, config: TransformerConfig) -> TransformerBackbone:
        backbone = cls()
        backbone.layer, backbone.pool = config.layer, config.pool
        backbone.precision = config.precision
        if config.weights and config.revision:
            raise InputError("--revision chooses among the hub's weights, --weights is a folder")
        if config.weights:
            backbone.folder, backbone.local = config.weights, True
            backbone.embedding_size, backbone.layers = backbone.read_sizes()
        backbone.revision = config.revision or cls.revision
        backbone.check_layer()
        backbone.embedding_size *= 2 if backbone.pool == "mean+std" else 1
        backbone.name = "_".join([cls.name, *backbone.choices()])
        return backbone

    def choices(self) -> list[str]:
        """Return what the embedding's name says beyond the backbone's: what is no default."""
        layer = [] if self.layer == "last" else [f"l{self.layer}"]
        pool = [] if self.pool == "mean" else [self.pool.replace("+", "")]
        return layer + pool + ([] if self.precision == "float32" else [self.precision])

    def check_layer(self) -> None:
        number = re.fullmatch("0|[1-9][0-9]{0,3}", self.layer)
        if self.layer in ("last", "mean") or (number and int(self.layer) <= self.layers):
            return
        raise InputError(
            f"--layer must be 0 to {self.layers}, last or mean for {type(self).name}, "
            f"got '{self.layer}'"
        )

    def pick_device(self, wanted: str) -> str:
        device = super().pick_device(wanted)
        if self.precision == "bf16" and device == "cpu":
            raise InputError("--precision bf16 needs a GPU; on the cpu use --precision float32")
        return device

    def weights(self) -> dict:
        """Return the hub's repository and commit, or the hash of each file of --weights."""
        folder = self.find_weights()
        if self.local:
            files = sorted({path for pattern in FILES for path in folder.glob(pattern)})
            return {"source": "--weights", "sha256": {path.name: sha256(path) for path in files}}
        return {"source": f"https://huggingface.co/{self.repository}", "revision": folder.name}

    def find_weights(self) -> Path:
        """Return the folder of the weights: the user's, or the hub's, downloaded if need be.

        Raises:
            InputError: the hub did not give them, or the folder lacks some; says what to fetch.
        """
        if self.folder is None:
            self.folder = self.download()
        if not any(path for pattern in FILES[2:] for path in self.folder.glob(pattern)):
            raise InputError(f"{self.folder} holds no weights; {self.advice}")
        self.read_sizes()
        return self.folder

    def download(self) -> Path:
        """Return the hub's snapshot, a folder named after its commit; from the cache if there."""
        from huggingface_hub import errors, snapshot_download  # a folder of one's own needs no hub

        try:
            return Path(
                snapshot_download(self.repository, revision=self.revision, allow_patterns=FILES)
            )
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
                raise
            cause = error.__cause__ or error
            answered = isinstance(cause, errors.HfHubHTTPError)
            why = f"refused it ({first_line(cause)})" if answered else "cannot be reached"
            raise InputError(
                f"{self.repository} at {self.revision} is not in the cache, and the hub {why}; "
                f"{self.advice}"
            ) from error

    @property
    def advice(self) -> str:
        return (
            f"fetch {', '.join(FILES)} of https://huggingface.co/{self.repository}/tree/"
            f"{self.revision} into a folder and name it with --weights"
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

    def load(self, device: str) -> None:
        import transformers

        transformers.logging.set_verbosity_error()  # what matters is checked below
        folder = self.find_weights()
        try:
            model, info = self.read_model(folder)
        except Exception as error:  # whatever broken files, or the code among them, may raise
            raise InputError(
                f"{folder} cannot be loaded as {self.repository} ({first_line(error)}); "
                f"{self.advice}"
            ) from error
        # transformers fills what is missing with random numbers
        missing = sorted(key for key in info["missing_keys"] if not key.endswith(UNUSED))
        if missing:
            raise InputError(
                f"{folder} is not {self.repository}: it lacks {len(missing):,} weights, for "
                f"example {missing[0]}; {self.advice}"
            )
        # On a GPU convolutions would otherwise round to 10 bits, also where float32 is asked for.
        torch.backends.cudnn.allow_tf32 = False
        try:
            self.model = model.eval().to(device)
        except torch.OutOfMemoryError as error:
            raise WorkError(
                f"{device} has no room for {self.repository}; see nvidia-smi"
            ) from error

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        """Return the model and transformers' loading info, from the folder alone."""
        raise NotImplementedError

    def prepare(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> what the model was trained on."""
        return audio

    @embed_in_torch
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, embedding_size).

        No attention mask: clips of a batch are equally long, and padding would change the vectors.
        """
        audio = self.prepare(audio)
        with torch.autocast(audio.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            out = self.model(audio, output_hidden_states=self.layer != "last")
        if self.layer == "last":
            return pool(out.last_hidden_state.float(), self.pool)
        layers = out.hidden_states  # each (batch, time, width); the first is the input
        if self.layer == "mean":
            return pool(sum(layer.float() for layer in layers) / len(layers), self.pool)
        return pool(layers[int(self.layer)].float(), self.pool)


def pool(frames: Tensor, how: str) -> Tensor:
    """Frames (batch, time, width) -> (batch, width), or (batch, 2 width) for mean+std."""
    if how == "max":
        return frames.amax(dim=1)
    mean = frames.mean(dim=1)
    if how == "mean":
        return mean
    # of the frames there are, so that a single one has a spread of 0
    return torch.cat([mean, frames.std(dim=1, correction=0)], dim=1)


def first_line(error: BaseException) -> str:
    """Return an error's first line, or its type where it says nothing: some end in a page of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
