"""MULE: a convolutional network (SF-NFNet-F0) trained without labels on 1.7 million songs.

    python -m extract_item_embeddings.mule --root R --audio DIR --weights FOLDER

FOLDER holds model.keras (251 MB, CC-BY-NC-4.0), fetched with

    curl -L -O https://media.githubusercontent.com/media/PandoraMedia/music-audio-representations/v1.1.2/supporting_data/model/model.keras

It is read as it is: neither TensorFlow nor the package of its authors is needed.

Writes embeddings/mule.npy, float32 (n_tracks, 1728): the mean over slices of 3 s, one every 2 s, of
the first 30 s. A file under 3 s is repeated until 3 s.

Differences from the package's `mule analyze`: every channel of audio counts the same, where that
hears a mono file at half the volume of the same file in stereo; and the mean is taken of this
track's slices, where that divides by the number of all slices since it started.

Source: McCallum et al., "Supervised and unsupervised learning of audio representations for music
understanding", ISMIR 2022; https://github.com/PandoraMedia/music-audio-representations
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

from torch import Tensor

from core.artifacts import sha256
from core.options import InputError, option
from extract_item_embeddings.bases.torch_backbone import TorchBackbone, embed_in_torch
from extract_item_embeddings.engine import main
from extract_item_embeddings.engine.backbone import ExtractConfig
from extract_item_embeddings.networks.keras_file import read_layers, read_width
from extract_item_embeddings.networks.mule import RATE, MuleNetwork, Slices

FILE = "model.keras"
ADDRESS = (
    "https://media.githubusercontent.com/media/PandoraMedia/music-audio-representations/v1.1.2/"
    f"supporting_data/model/{FILE}"
)
PUBLISHED_SHA256 = "1da111d619bac0d422e41f153cbfb903f7ec3c5d3b2768f5d68f04452ed18180"
POINTER = b"version https://git-lfs"  # what a clone without Git LFS holds in the file's place


@dataclass(frozen=True, kw_only=True)
class MuleConfig(ExtractConfig):
    weights: Path | None = option(None, f"folder of {FILE}; needed", outcome=False)


class Mule(TorchBackbone):
    name = "mule"
    licence = "CC-BY-NC-4.0"
    sample_rate = RATE
    clip_seconds = 30.0  # 15 slices
    min_seconds = 3.0
    embedding_size = 1728
    batch_size = 4
    packages = ("torch", "librosa", "h5py")
    wants_gpu = True
    config_class = MuleConfig
    folder: Path | None = None

    @classmethod
    def from_config(cls, config: MuleConfig) -> Mule:
        backbone = cls()
        backbone.folder = config.weights
        if config.weights:
            backbone.embedding_size = backbone.read(read_width)
        return backbone

    def weights(self) -> dict:
        digest = sha256(self.find_weights())
        source = ADDRESS if digest == PUBLISHED_SHA256 else "--weights"
        return {"source": source, "sha256": digest}

    def find_weights(self) -> Path:
        """Return the path of the weights, or raise InputError that says what to fetch."""
        advice = f"fetch {ADDRESS} into a folder and name it with --weights"
        if self.folder is None:
            raise InputError(f"mule needs its weights; {advice}")
        path = self.folder / FILE
        if not path.is_file():
            raise InputError(f"{path} is missing; {advice}")
        with open(path, "rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise InputError(f"{path} is a pointer of Git LFS, not the weights; {advice}")
        return path

    def read(self, what):
        """Return what a function makes of the path of the weights."""
        path = self.find_weights()
        try:
            return what(path)
        except ValueError as error:
            raise InputError(f"{path} cannot be loaded ({error}); fetch {ADDRESS} again") from error

    def load(self, device: str) -> None:
        self.slices = Slices().to(device)
        self.model = self.read(lambda path: MuleNetwork(read_layers(path))).eval().to(device)

    @embed_in_torch
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, 1728)."""
        slices = self.slices(audio)  # (batch, slices, 96, 300)
        vectors = self.model(slices.flatten(0, 1))
        return vectors.unflatten(0, slices.shape[:2]).mean(dim=1)


if __name__ == "__main__":
    main(Mule)
