"""What the four taggers of PyPI's musicnn share as backbones: the wheel's weights, the mean."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from core.artifacts import sha256
from core.options import InputError, option
from extract_item_embeddings.bases.torch_backbone import TorchBackbone, embed_in_torch
from extract_item_embeddings.engine.backbone import ExtractConfig
from extract_item_embeddings.networks.tagger import HOP, PATCH, RATE, TAGS, LogMel, Tagger
from extract_item_embeddings.networks.tensor_bundle import read_tensors

PACKAGE = "musicnn==0.1.0"


@dataclass(frozen=True, kw_only=True)
class TaggerConfig(ExtractConfig):
    as_: Literal["penultimate", "tags"] = option(
        "penultimate",
        "the layer before the tags, or the 50 tags; these extend the name",
        before="penultimate",
    )


class TaggerBackbone(TorchBackbone):
    """A subclass names its network, and the checkpoint inside the wheel with its hash."""

    licence = "ISC"
    sample_rate = RATE
    clip_seconds = 30.0  # ten patches
    min_seconds = step_seconds = PATCH * HOP / RATE
    batch_size = 16
    packages = ("torch", "librosa")
    clip_a_thread = True
    front_end = LogMel
    config_class = TaggerConfig
    network: type[Tagger]
    checkpoint: str
    checkpoint_sha256: str
    tags = False

    @classmethod
    def from_config(cls, config: TaggerConfig) -> TaggerBackbone:
        backbone = cls()
        if config.as_ == "tags":
            backbone.tags = True
            backbone.name, backbone.embedding_size = f"{cls.name}_tags", TAGS
        return backbone

    def weights(self) -> dict:
        index, data = self.files()
        digest = sha256(index, data)
        if digest != self.checkpoint_sha256:
            raise InputError(
                f"{data} is not the checkpoint of {PACKAGE} (sha256 {digest[:12]}...); "
                f"pip install --force-reinstall --no-deps {PACKAGE}"
            )
        return {"source": f"PyPI {PACKAGE}, {self.checkpoint}", "sha256": digest}

    def files(self) -> tuple[Path, Path]:
        """Return the paths of the checkpoint's index and data inside the installed package.

        They are asked for by the package's name as it was installed: imported from the backbones'
        folder, `musicnn` would be the backbone.
        """
        try:
            package = metadata.distribution("musicnn")
        except metadata.PackageNotFoundError as error:
            raise InputError(
                f"{type(self).name}'s weights are not installed; pip install --no-deps {PACKAGE}"
            ) from error
        folder = package.locate_file(f"musicnn/{self.checkpoint}")
        return folder / ".index", folder / ".data-00000-of-00001"

    def load(self, device: str) -> None:
        arrays = read_tensors(*self.files())
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        self.model = self.network(tensors).eval().to(device)

    @embed_in_torch
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, embedding_size)."""
        penultimate, tags = self.model.describe(self.mel(audio))
        return (tags if self.tags else penultimate).mean(dim=1)

    def mel(self, audio: Tensor) -> Tensor:
        """Return the spectrogram; of a single clip the one of its sharers, if there are some."""
        if self.shared is None or len(audio) > 1:
            return self.model.spectrogram(audio)
        return self.shared.get(audio.cpu().numpy(), lambda: self.model.spectrogram(audio))
