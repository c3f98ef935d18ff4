"""MULE: a convolutional network (SF-NFNet-F0) trained without labels on 1.7 million songs.

    python3.11 -m venv .venv-mule && .venv-mule/bin/pip install -r requirements-mule.txt
    .venv-mule/bin/python -m extract_item_embeddings.mule --root R --audio DIR --weights FOLDER

is `python -m extract_item_embeddings.mule` in an environment of its own: TensorFlow 2.13 and the
main environment exclude each other. FOLDER holds model.keras (251 MB, CC-BY-NC-4.0; the package's
code is GPL-3), fetched with

    curl -L -O https://media.githubusercontent.com/media/PandoraMedia/music-audio-representations/v1.1.2/supporting_data/model/model.keras

Writes embeddings/mule.npy, float32 (n_tracks, 1728): the mean over slices of 3 s, one every 2 s, of
the first 30 s. A file under 3 s is repeated until 3 s.

Differences from the package's `mule analyze`: every channel of audio counts the same, where that
hears a mono file at half the volume of the same file in stereo; and the mean is taken of this
track's slices, where that divides by the number of all slices since it started.

Measured: 4 clips of 30 s in 9 s on two busy cores, 2.1 GB (a batch of 4, random weights in the real
network, which agree with the package's own analysis to 1e-7); no GPU was at hand.

Source: McCallum et al., "Supervised and unsupervised learning of audio representations for music
understanding", ISMIR 2022; https://github.com/PandoraMedia/music-audio-representations
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import numpy as np

from core.artifacts import sha256
from core.options import InputError, option
from extract_item_embeddings.engine import main
from extract_item_embeddings.engine.backbone import Backbone, ExtractConfig

FILE = "model.keras"
ADDRESS = (
    "https://media.githubusercontent.com/media/PandoraMedia/music-audio-representations/v1.1.2/"
    f"supporting_data/model/{FILE}"
)
PUBLISHED_SHA256 = "1da111d619bac0d422e41f153cbfb903f7ec3c5d3b2768f5d68f04452ed18180"
POINTER = b"version https://git-lfs"  # what a clone without Git LFS holds in the file's place
RATE = 16_000
HOP = 160  # samples a frame: 10 ms
SLICE, EVERY = 300, 200  # frames
QUIET = 0.01  # the smallest spread that a slice is divided by


@dataclass(frozen=True, kw_only=True)
class MuleConfig(ExtractConfig):
    weights: Path | None = option(None, f"folder of {FILE}; needed", outcome=False)


class Mule(Backbone):
    name = "mule"
    licence = "CC-BY-NC-4.0"
    sample_rate = RATE
    clip_seconds = 30.0  # 15 slices
    min_seconds = 3.0
    embedding_size = 1728
    batch_size = 4
    packages = ("sxmp-mule", "tensorflow", "librosa")
    own_environment = True
    config_class = MuleConfig
    folder: Path | None = None

    @classmethod
    def from_config(cls, config: MuleConfig) -> Mule:
        backbone = cls()
        backbone.folder = config.weights
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

    def pick_device(self, wanted: str) -> str:
        """Return the device for `--device`: auto takes a GPU that TensorFlow sees."""
        if wanted == "cpu":
            return wanted
        n_gpus = len(_tensorflow().config.list_physical_devices("GPU"))
        if wanted == "auto":
            return "cuda:0" if n_gpus else "cpu"
        kind, _, number = wanted.partition(":")
        if kind != "cuda" or not (number.isdigit() or wanted == "cuda"):
            raise InputError(f"--device must be auto, cpu, cuda or cuda:N, got '{wanted}'")
        if int(number or 0) >= n_gpus:
            raise InputError(
                f"--device {wanted}: TensorFlow sees {n_gpus} GPUs here; use --device cpu or auto"
            )
        return f"cuda:{number or 0}"

    def load(self, device: str) -> None:
        tensorflow = _tensorflow()
        from mule.models.layers import ScalarMultiply, StochDepth, WeightStandardization

        path = self.find_weights()
        kind, _, number = device.partition(":")
        self.device = f"/GPU:{number}" if kind == "cuda" else "/CPU:0"
        with tensorflow.device(self.device):
            try:
                self.model = tensorflow.keras.models.load_model(
                    path,
                    custom_objects={
                        layer.__name__: layer
                        for layer in (ScalarMultiply, StochDepth, WeightStandardization)
                    },
                    compile=False,
                )
            except Exception as error:  # whatever a broken file may raise
                why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                raise InputError(
                    f"{path} cannot be loaded ({why}); fetch {ADDRESS} again"
                ) from error

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, 1728)."""
        slices = np.stack(self.map_clips(_slices, audio))  # (batch, slices, 96, 300)
        with _tensorflow().device(self.device):
            vectors = self.model(slices.reshape(-1, *slices.shape[2:], 1), training=False).numpy()
        return vectors.reshape(*slices.shape[:2], -1).mean(axis=1)

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, (MemoryError, _tensorflow().errors.ResourceExhaustedError))


def _slices(clip: np.ndarray) -> np.ndarray:
    """Mono audio (samples,) -> slices (n, 96, 300) of its log-mel power, each of mean 0, spread 1.

    A slice is centred every 2 s from 2 s on; those that would reach beyond an end are moved inside.
    """
    import librosa

    power = librosa.feature.melspectrogram(
        y=clip,
        sr=RATE,
        n_fft=2048,
        hop_length=HOP,
        win_length=400,
        pad_mode="reflect",
        n_mels=96,
        fmax=RATE / 2,
        htk=True,
        norm=2.0,  # each filter's squares sum to 1
    )
    mel = np.log10(1 + 10_000 * power)
    centres = np.arange(EVERY, mel.shape[1], EVERY)
    starts = np.clip(centres - SLICE // 2, 0, mel.shape[1] - SLICE)
    slices = np.stack([mel[:, start : start + SLICE] for start in starts])
    slices -= slices.mean(axis=(1, 2), keepdims=True)
    return slices / np.maximum(slices.std(axis=(1, 2), keepdims=True), QUIET)


def _tensorflow():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its greetings
    import tensorflow

    return tensorflow


if __name__ == "__main__":
    main(Mule)
