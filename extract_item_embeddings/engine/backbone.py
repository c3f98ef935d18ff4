"""What a backbone is, and the options of every extraction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
from threadpoolctl import ThreadpoolController

from core.options import InputError, option
from extract_item_embeddings.engine.decoding import ClipLength
from extract_item_embeddings.engine.perturb import PERTURBATIONS, TRACKS
from extract_item_embeddings.engine.shared import Shared


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    root: Path = option(Path("."), "folder of trackid_sorted.csv and embeddings/", outcome=False)
    audio: Path = option(
        help="folder of TRACKID.EXT, or of such folders: mp3, ogg, opus, flac, wav, m4a ...",
        outcome=False,
    )
    pattern: str | None = option(
        None, "the files in --audio that are meant, such as '**/*.mp3'", outcome=False
    )
    device: str = option("auto", "cpu, cuda, cuda:N; auto: a GPU if there is one", outcome=False)
    batch_size: int | None = option(None, "clips at once; auto: the backbone's own", outcome=False)
    workers: int | None = option(None, "processes that decode; auto: one a core", outcome=False)
    missing: Literal["error", "nan"] = option(
        "error", "tracks that fail: exit 1 without a matrix, or a row of NaN each", outcome=False
    )
    shards: int | None = option(None, "compute one part of so many, or --join them", outcome=False)
    shard: int | None = option(
        None, "the part, from 0; auto: the SLURM_ARRAY_TASK_ID of the job", outcome=False
    )
    join: bool = option(False, "write the embedding when all --shards are finished", outcome=False)
    mend: bool = option(
        False, "compute the rows of NaN of a finished embedding, no others", outcome=False
    )
    overwrite: bool = option(False, "extract a finished embedding again", outcome=False)
    perturb: Literal[PERTURBATIONS] | None = option(
        None,
        f"the same music in another state, of {TRACKS:,} tracks drawn from all; extends the name",
        before=None,
    )

    def __post_init__(self):
        for name in ("batch_size", "workers", "shards"):
            value = getattr(self, name)
            if value is not None and value < 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be at least 1, got {value}; see --help")
        given = {
            name for name, value in vars(self).items() if value is not None and value is not False
        }
        for name in ("shard", "join"):
            if name in given and "shards" not in given:
                raise InputError(f"--{name} needs --shards N, the number of all parts; see --help")
        together = (("join", "shard"), ("mend", "shards"), ("mend", "overwrite"))
        for one, other in (*together, ("mend", "perturb")):
            if {one, other} <= given:
                raise InputError(f"--{one} and --{other} do not go together; see --help")


@functools.cache
def _blas() -> ThreadpoolController:
    """Return what holds numpy's products to the thread that asks for them.

    In threads of their own they would wait for each other and for the decoders: mfcc takes half as
    long again.
    """
    return ThreadpoolController().select(user_api="blas")


class Backbone:
    """Facts about a model, and how it turns clips into vectors.

    A subclass sets the facts, and fills `load` and `embed`. Options beyond ExtractConfig go into
    a dataclass of its own (`config_class`), and `from_config` makes of them what it needs; one
    that changes the vectors also changes `name`, and so the files' names.
    """

    name: str
    sample_rate: int  # Hz
    clip_seconds: float  # the longest clip the model gets: the start of the file
    min_seconds: float = 0.5  # the shortest it takes; a shorter file is repeated
    step_seconds: float = 0.1  # a clip shorter than clip_seconds is cut to a multiple of this
    fills_with_silence = False  # as the study did with a file shorter than clip_seconds
    embedding_size: int
    batch_size: int = 16
    licence = ""  # of the weights, where there are some
    packages: tuple[str, ...] = ()  # whose versions decide the vectors
    wants_gpu = False  # whether its batch file asks Slurm for one
    front_end: type | None = None  # which others may have too: `shared` then computes it once
    shared: Shared | None = None  # set where several run together
    config_class: type = ExtractConfig
    workers: int = 1  # threads for `map_clips`; set by the engine, as what follows
    perturb: str | None = None  # what is done to the sound before it comes here

    @classmethod
    def from_config(cls, config) -> Backbone:
        return cls()

    @classmethod
    def lacking(cls) -> list[str]:
        """Return those of its packages that are not installed here."""
        return [
            package
            for package in cls.packages
            if not list(metadata.Distribution.discover(name=package))
        ]

    def weights(self) -> dict:
        """Return where the weights come from and their revision or hash; {} without weights."""
        return {}

    def pick_device(self, wanted: str) -> str:
        """Return the device for `--device`, or raise InputError."""
        if wanted not in ("auto", "cpu"):
            raise InputError(f"--device {wanted}: {self.name} runs on the cpu; use cpu or auto")
        return "cpu"

    def load(self, device: str) -> None:
        """Get ready for `embed`."""

    @classmethod
    def is_commercial(cls) -> bool:
        """Say whether the weights' licence lets everybody use them for business too."""
        return not any(word in cls.licence for word in ("-NC-", "non-commercial"))

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """Return the vectors of equally long clips.

        Args:
            audio: float32 (batch, samples), mono in [-1, 1] at sample_rate.

        Returns:
            float32 (batch, embedding_size), finite and not all zeros; row i depends on clip i
            alone. A silent file never comes here, but silence at the end of a clip, or nearly
            nothing all through it, may. A vector of zeros or one that is not finite fails its
            track: it would look like a sound that nothing resembles.
        """
        raise NotImplementedError

    def is_out_of_memory(self, error: Exception) -> bool:
        """Say whether `embed` failed because the batch was too large for the memory."""
        return isinstance(error, MemoryError)

    def map_clips(self, function: Callable, clips: Iterable) -> list:
        """Return [function(clip), ...], computed in threads: for models small enough for one."""
        with _blas().limit(limits=1):
            return list(self._threads.map(function, clips))

    @functools.cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers)

    @property
    def clip_length(self) -> ClipLength:
        seconds = (self.clip_seconds, self.min_seconds, self.step_seconds)
        samples = (round(s * self.sample_rate) for s in seconds)
        return ClipLength(self.sample_rate, *samples, self.fills_with_silence, self.perturb)
