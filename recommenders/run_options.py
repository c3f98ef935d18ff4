"""What the commands that make runs take, and how one command becomes several runs."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.artifacts import sha256
from core.names import (
    NONE,
    PUBLISHED,
    SHUFFLED,
    TRAINED,
    TUNED,
    is_shuffled,
    published_tag,
    shuffled_tag,
    unshuffled,
)
from core.options import ARRAY_INDEX, InputError, option
from core.registry import ALL
from evaluation.metric_options import KS, check_lengths
from recommenders.as_published import SETS, check_unchanged

if TYPE_CHECKING:
    import numpy as np

HERE = Path(__file__).resolve().parents[1]
ROOMS = (".", "core", "evaluation", "recommenders", "recommenders/networks", "training")
CODE = [path for room in ROOMS for path in (HERE / room).glob("*.py")]  # what makes a run
SCALES = ("none", "rms", "standardize", "whiten")  # recommenders/scaling.py
WIDEST = 65_536  # numbers of a vector of random and noise
MARK = ".overwritten"  # in a run's folder while a command with --overwrite is under way


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every run takes."""

    root: Path = option(Path("."), "folder of all that is read and written", outcome=False)
    seed: int = option(1, "decides every random choice of the run")
    seeds: tuple[int, ...] | None = option(None, "several runs, as 1,2,3", outcome=False)
    tag: str | None = option(None, "more for the run's name, as -TAG", outcome=False, is_name=True)
    overwrite: bool = option(False, "make a finished run again", outcome=False)
    k: tuple[int, ...] = option(KS, "list lengths of the metrics, at most 100", outcome=False)

    def __post_init__(self):
        check_lengths(self.k)
        _check_tag(self)
        if min(self.seeds or (self.seed,)) < 0:
            raise InputError(f"--seed must be at least 0, got {min(self.seeds or (self.seed,))}")


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions(RunOptions):
    """What every recommender over an embedding takes; one that hears nothing has RunOptions."""

    embedding: str = option(
        help="name of ROOT/embeddings/NAME.npy, or random, or noise; several as A,B; two side by "
        "side as A+B"
    )
    missing: Literal["error", "mean"] = option(
        "error", "rows of NaN: error, or mean of the other train tracks"
    )
    scale: Literal[SCALES] = option(
        "standardize",
        "unit of the vectors: none, as they are; rms, one number; standardize, each dimension; "
        "whiten, and none says what another says",
    )
    project: int = option(
        0,
        "numbers a vector with more is brought down to, each of A+B: those along which the scaled "
        "tracks of train vary most; 0: none is",
        before=0,
    )
    width: int = option(128, "numbers a vector, of random and noise only")
    shuffle: bool = option(
        False, f"give the tracks each other's vectors, drawn by the seed; tag {SHUFFLED}"
    )
    as_published: bool = option(
        False, f"all that the study's code did, mistakes included; tag {PUBLISHED}"
    )

    def __post_init__(self):
        if self.as_published:
            check_unchanged(self)
            take_published(self, SETS[type(self).section])
        if self.embedding == "random":
            _check_random(self)
        if self.shuffle:
            object.__setattr__(self, "tag", shuffled_tag(self.tag))
        super().__post_init__()
        if self.project < 0 or (self.project and self.scale not in ("standardize", "whiten")):
            raise InputError(
                f"--project {self.project} --scale {self.scale}: expected at least 1 number a "
                "vector, of vectors that are standardized or whitened"
            )
        if not 1 <= self.width <= WIDEST:
            raise InputError(f"--width must be between 1 and {WIDEST:,}, got {self.width}")

    def heard_width(self, vectors: np.ndarray) -> int:
        """Return how many numbers a track has: all of the vectors (n, width), or --project's.

        What --scale leaves out counts: it is of the embedding, and says nothing of a track.
        """
        from recommenders.vectors import BESIDE, part_widths  # numpy, which --help does without

        if not self.project:
            return vectors.shape[1]
        beside = BESIDE in self.embedding
        parts = part_widths(self.root, self.embedding, self.width) if beside else vectors.shape[1:]
        return sum(min(self.project, width) for width in parts)

    def arranged(
        self,
        vectors: np.ndarray | None,
        others: np.ndarray | None = None,
        *,
        overwrite: bool = False,
    ) -> np.ndarray | None:
        """Return vectors as this run's tracks have them: in the unit of --scale, see --shuffle.

        Args:
            vectors: float32 (n_items, width), of the tracks of train; None where none are loaded.
            others: (n, width), of other tracks, which are returned in place of train's and scaled
                by train's numbers.
            overwrite: the vectors may be changed, so that a matrix is held once.

        Returns:
            float32, of as many dimensions as vary; what is left out is said.
        """
        from recommenders.arranging import arranged  # numpy, which --help does without

        return arranged(self, vectors, others, overwrite=overwrite)


def _check_random(config: EmbeddingOptions) -> None:
    """Refuse vectors that are learned from nothing where nothing learns them."""
    known = ALL.get(getattr(config, "section", ""))
    if known and not known.from_nothing:
        does = "hears vectors and has" if known.learns else "learns nothing, so it has"
        raise InputError(f"{known.label} {does} no use for 'random'; try --embedding noise")
    for name in ("shuffle", "project"):
        if getattr(config, name):
            raise InputError(f"--{name} needs vectors that say something; 'random' ones do not")
    if getattr(config, "train_tracks", None) is False:
        raise InputError(
            "--embedding random starts from nothing, so its tracks must be trained; "
            "--embedding noise is the frozen control"
        )


def _check_tag(config: RunOptions) -> None:
    """Refuse a tag with a meaning to a run that lacks it: tables and report believe tags."""
    tag = config.tag or ""
    if is_shuffled(tag) and not getattr(config, "shuffle", False):
        raise InputError(f"--tag {tag} is given by --shuffle, the control; choose another tag")
    chosen, given = f"searches/{_own_search(config)}/chosen.yaml", getattr(config, "config", None)
    makers = {
        TRAINED: ("--train-tracks true", getattr(config, "train_tracks", None) is True),
        PUBLISHED: ("--as-published", getattr(config, "as_published", False)),
        TUNED: (
            f"sweep.py, for --config {config.root / chosen}",
            given is not None and given.resolve() == (config.root / chosen).resolve(),
        ),
    }
    maker, is_made = makers.get(unshuffled(tag), ("", True))
    if not is_made:
        raise InputError(f"--tag {tag} is for runs made by {maker} only; choose another tag")


def _own_search(config: RunOptions) -> str:
    return f"{getattr(config, 'section', NONE)}-{getattr(config, 'embedding', NONE)}"


def take_published(config: RunOptions, values: dict) -> None:
    """Give frozen options, while they are made, the published values and the tag that says so.

    Args:
        values: by option; one that was asked for, in a yaml or by a flag, stays as it is.
    """
    defaults = {f.name: f.default for f in dataclasses.fields(config)}
    for name, value in values.items():
        if getattr(config, name) == defaults[name]:
            object.__setattr__(config, name, value)
    object.__setattr__(config, "tag", published_tag(config.tag))


def each_seed(config: RunOptions):
    """Yield the options of every run that the command asks for.

    With --overwrite each run leaves a mark of the command, and all of them go when the last run
    is finished: so the same command, after an interruption, keeps what it has made again.
    """
    seeds = config.seeds or (config.seed,)
    for seed in seeds:
        yield dataclasses.replace(config, seed=seed, seeds=None)
    if config.overwrite:
        for mark in (config.root / "runs").glob(f"*/{MARK}"):
            if mark.read_text(encoding="utf-8") == command_hash(config):
                mark.unlink()


def command_hash(config: RunOptions) -> str:
    """Return a fingerprint of a command and of the code it runs, whatever its seeds."""
    alike = dataclasses.replace(config, seed=0, seeds=None)
    return hashlib.sha256(f"{sha256(*sorted(CODE))} {alike!r}".encode()).hexdigest()


def each_run(main):
    """Return main as called for every embedding of `--embedding A,B`, each with all its seeds.

    Options without an embedding are those of one embedding, called none.

    A task of a Slurm array makes one run of all these: task 0 the first embedding's first seed,
    task 1 its second seed, and so on.
    """

    def call(config: RunOptions) -> None:
        over = isinstance(config, EmbeddingOptions)
        embeddings = config.embedding.split(",") if over else [NONE]
        task = os.environ.get(ARRAY_INDEX)
        if task is None:
            for embedding in embeddings:
                main(one_embedding(config, embedding))
            return
        runs = list(itertools.product(embeddings, config.seeds or (config.seed,)))
        if not task.isdecimal() or int(task) >= len(runs):
            raise InputError(
                f"{ARRAY_INDEX} is {task}, but --embedding and --seeds ask for {len(runs)} runs; "
                f"submit with --array=0-{len(runs) - 1}"
            )
        embedding, seed = runs[int(task)]
        main(dataclasses.replace(one_embedding(config, embedding), seed=seed, seeds=None))

    def one_embedding(config: RunOptions, embedding: str) -> RunOptions:
        over = isinstance(config, EmbeddingOptions)
        return dataclasses.replace(config, embedding=embedding) if over else config

    return call
