"""What pretrained torch models share: where their weights come from, and that they are all there.

A subclass sets its facts and fills `read_sizes` and `read_model`. Choices that change the vectors
extend the embedding's name: `mert_bf16`.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from core.artifacts import sha256
from core.options import InputError, WorkError, option
from extract_item_embeddings.bases.torch_backbone import TorchBackbone
from extract_item_embeddings.engine.backbone import ExtractConfig

UNUSED = "masked_spec_embed"  # what training hides frames with: published weights may lack it


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(ExtractConfig):
    weights: Path | None = option(
        None, "folder of the weights' files, for work offline; auto: the hub's", outcome=False
    )
    revision: str | None = option(
        None, "commit, branch or tag on the hub; auto: the module's", outcome=False
    )
    precision: Literal["float32", "bf16"] = option("float32", "bf16: faster, for a GPU alone")


class PretrainedBackbone(TorchBackbone):
    """A model whose weights are on the hub, or in a folder of the user's."""

    packages = ("torch", "transformers")
    wants_gpu = True
    config_class = PretrainedConfig
    min_seconds = 1.0
    repository: str  # on huggingface.co
    revision: str  # its commit
    # What decides the vectors, as patterns of file names: all are fetched and fingerprinted. The
    # weights are in one of `weight_files`.
    files: tuple[str, ...]
    weight_files: tuple[str, ...]
    extra_keys: tuple[str, ...] | None = None  # patterns of weights that need no use; None: any
    # The choices; `choose` sets them.
    precision = "float32"
    as_published = False
    folder: Path | None = None  # of the weights, once it is known
    local = False  # whether that is the user's

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> PretrainedBackbone:
        backbone = cls()
        if config.weights and config.revision:
            raise InputError("--revision chooses among the hub's weights, --weights is a folder")
        backbone.revision = config.revision or cls.revision
        backbone.folder, backbone.local = config.weights, config.weights is not None
        backbone.choose(config)
        backbone.name = "_".join([cls.name, *backbone.choices()])
        return backbone

    def choose(self, config: PretrainedConfig) -> None:
        """Take over the options, and what follows from them."""
        self.precision = config.precision
        self.as_published = getattr(config, "as_published", False)
        if self.local:
            self.embedding_size, self.layers = self.read_sizes()

    def choices(self) -> list[str]:
        """Return what the embedding's name says beyond the backbone's: what is no default."""
        published = ["published"] if self.as_published else []
        usual = self.precision == type(self).precision
        return published + self.variants() + ([] if usual else [self.precision])

    def variants(self) -> list[str]:
        """Return the words for choices of a subclass."""
        return []

    def pick_device(self, wanted: str) -> str:
        device = super().pick_device(wanted)
        if self.precision == "bf16" and device == "cpu":
            raise InputError("--precision bf16 needs a GPU; on the cpu use --precision float32")
        return device

    def autocast(self, device: str):
        """Return the context for the forward pass on a kind of device: cpu or cuda."""
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16")

    def weights(self) -> dict:
        """Return the hub's repository and commit, or the hash of each file of --weights."""
        folder = self.find_weights()
        if self.local:
            files = sorted({path for pattern in self.files for path in folder.glob(pattern)})
            return {"source": "--weights", "sha256": {path.name: sha256(path) for path in files}}
        return {"source": f"https://huggingface.co/{self.repository}", "revision": folder.name}

    def find_weights(self) -> Path:
        """Return the folder of the weights: the user's, or the hub's, downloaded if need be.

        Raises:
            InputError: the hub did not give them, or the folder lacks some; says what to fetch.
        """
        if self.folder is None:
            self.folder = self.download()
        if not any(path for pattern in self.weight_files for path in self.folder.glob(pattern)):
            raise InputError(f"{self.folder} holds no weights; {self.advice}")
        self.read_sizes()
        return self.folder

    def download(self) -> Path:
        """Return the hub's snapshot, a folder named after its commit; from the cache if there."""
        from huggingface_hub import errors, snapshot_download  # a folder of one's own needs no hub

        try:
            return Path(
                snapshot_download(
                    self.repository, revision=self.revision, allow_patterns=self.files
                )
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
            f"fetch {', '.join(self.files)} of https://huggingface.co/{self.repository}/tree/"
            f"{self.revision} into a folder and name it with --weights"
        )

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
        extra = [] if self.extra_keys is None else sorted(info["unexpected_keys"])
        extra = [key for key in extra if not any(re.fullmatch(p, key) for p in self.extra_keys)]
        for fault, keys in (("lacks", missing), ("also holds", extra)):
            if keys:
                raise InputError(
                    f"{folder} is not {self.repository}: it {fault} {len(keys):,} weights, for "
                    f"example {keys[0]}; {self.advice}"
                )
        try:
            self.model = model.eval().to(device)
        except torch.OutOfMemoryError as error:
            raise WorkError(
                f"{device} has no room for {self.repository}; see nvidia-smi"
            ) from error

    def read_sizes(self) -> tuple[int, int]:
        """Return (width, layers) of the weights in the folder.

        Raises:
            InputError: they cannot be read; says what to fetch.
        """
        raise NotImplementedError

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        """Return the model, and its lists `missing_keys` and `unexpected_keys`, from the folder."""
        raise NotImplementedError


def first_line(error: BaseException) -> str:
    """Return an error's first line, or its type where it says nothing: some end in a page of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
