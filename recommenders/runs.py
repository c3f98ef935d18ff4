"""A run's folder: what it was made from, whether it is finished, and how it is closed.

A run is `runs/RECOMMENDER-EMBEDDING[-TAG]-sSEED`. Its config.yaml (options, fingerprints of split
and embedding) is written when it starts and metrics.json when everything else is there, so a
folder with metrics.json is finished, and one without is continued by the same command.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import platform
import resource
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import yaml

from core.artifacts import atomic_path, exclusive, read_record, sha256, write_table
from core.names import SHUFFLED, check_name, run_name, shuffled_tag
from core.options import ARRAY_INDEX, InputError, changed_options, option, outcome_options
from core.splits import read_split
from evaluation.measures import KS, check_lengths, describe, evaluate, per_user_metrics, summarize
from recommenders.interactions import Split
from recommenders.lists import Lists
from recommenders.vectors import WITHOUT_FILE, shuffled_rows

PACKAGES = ("numpy", "pandas", "pyarrow", "scipy", "torch", "transformers", "rs_metrics")
HERE = Path(__file__).resolve().parents[1]
ROOMS = (".", "core", "evaluation", "recommenders", "training")
CODE = [path for room in ROOMS for path in (HERE / room).glob("*.py")]  # what makes a run
MARK = ".overwritten"  # in a run's folder while a command with --overwrite is under way


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every run takes."""

    root: Path = option(Path("."), "folder of all that is read and written", outcome=False)
    seed: int = option(1, "decides every random choice of the run")
    seeds: tuple[int, ...] | None = option(None, "several runs, as 1,2,3", outcome=False)
    tag: str | None = option(None, "more for the run's name, as -TAG", outcome=False)
    overwrite: bool = option(False, "make a finished run again", outcome=False)
    k: tuple[int, ...] = option(KS, "list lengths of the metrics, at most 100", outcome=False)

    def __post_init__(self):
        check_lengths(self.k)
        if min(self.seeds or (self.seed,)) < 0:
            raise InputError(f"--seed must be at least 0, got {self.seeds or self.seed}")


@dataclass(frozen=True, kw_only=True)
class RecommenderOptions(RunOptions):
    """What every recommender over an embedding takes."""

    embedding: str = option(
        help="name of ROOT/embeddings/NAME.npy, or random, or noise; several as A,B"
    )
    missing: Literal["error", "mean"] = option(
        "error", "rows of NaN: error, or mean of the other train tracks"
    )
    width: int = option(128, "numbers a vector, of random and noise only")
    shuffle: bool = option(
        False, f"give the tracks each other's vectors, drawn by the seed; tag {SHUFFLED}"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.shuffle:
            if self.embedding == "random":
                raise InputError("--shuffle needs vectors that say something; 'random' ones do not")
            object.__setattr__(self, "tag", shuffled_tag(self.tag))
        if self.width < 1:
            raise InputError(f"--width must be at least 1, got {self.width}")

    def arranged(self, vectors: np.ndarray | None) -> np.ndarray | None:
        """Return the vectors (n_items, width) as this run's tracks have them: see --shuffle."""
        return shuffled_rows(vectors, self.seed) if self.shuffle else vectors


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
            if mark.read_text(encoding="utf-8") == _command_hash(config):
                mark.unlink()


def _command_hash(config: RunOptions) -> str:
    """Return a fingerprint of a command and of the code it runs, whatever its seeds."""
    alike = dataclasses.replace(config, seed=0, seeds=None)
    return hashlib.sha256(f"{sha256(*sorted(CODE))} {alike!r}".encode()).hexdigest()


def each_embedding(main):
    """Return main as called for every embedding of `--embedding A,B`, each with all its seeds.

    A task of a Slurm array makes one run of all these: task 0 the first embedding's first seed,
    task 1 its second seed, and so on.
    """

    def call(config: RecommenderOptions) -> None:
        embeddings, task = config.embedding.split(","), os.environ.get(ARRAY_INDEX)
        if task is None:
            for embedding in embeddings:
                main(dataclasses.replace(config, embedding=embedding))
            return
        runs = list(itertools.product(embeddings, config.seeds or (config.seed,)))
        if not task.isdecimal() or int(task) >= len(runs):
            raise InputError(
                f"{ARRAY_INDEX} is {task}, but --embedding and --seeds ask for {len(runs)} runs; "
                f"submit with --array=0-{len(runs) - 1}"
            )
        embedding, seed = runs[int(task)]
        main(dataclasses.replace(config, embedding=embedding, seed=seed, seeds=None))

    return call


class Run:
    """One run while it is made; as a context it holds the folder's lock.

    Attributes:
        folder: root/runs/NAME.
        finished: metrics.json is there and was made from the same things: nothing is to be done.
        earlier_seconds: what previous processes spent on it, if it is being continued.
    """

    def __init__(self, recommender: str, config, *, split_hash: str, embedding_hash: str):
        tag = check_name("tag", config.tag) if config.tag else None
        self.recommender, self.config = recommender, config
        self.name = run_name(recommender, config.embedding, config.seed, tag)
        self.folder = config.root / "runs" / self.name
        options = outcome_options(config)
        if config.embedding not in WITHOUT_FILE:
            options.pop("width", None)  # a file has its own
        self.made_from = {
            "options": options,
            "split": split_hash,
            "embedding_hash": embedding_hash,
        }
        self.finished = False
        self.earlier_seconds = 0.0
        self.cold: dict = {}

    def __enter__(self) -> Run:
        self._lock = exclusive(self.folder / ".lock", str(self.folder))
        self._lock.__enter__()
        self._started = time.monotonic()
        try:
            self._open()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *error) -> None:
        self._lock.__exit__(*error)

    def _open(self) -> None:
        recorded, mark = self.folder / "config.yaml", self.folder / MARK
        if self.config.overwrite and not self._was_begun_by_this_command(recorded, mark):
            self._clear()
            with atomic_path(mark) as temporary:
                temporary.write_text(_command_hash(self.config), encoding="utf-8")
        elif not self.config.overwrite:
            mark.unlink(missing_ok=True)
        if recorded.exists():
            if changed := self._changed(recorded):
                raise InputError(
                    f"{self.folder} was made from other things: {'; '.join(changed)}; "
                    "--overwrite makes it again, --tag NAME keeps both"
                )
        if (self.folder / "metrics.json").exists():
            self.finished = True
            before = "made again before an interruption" if self.config.overwrite else ""
            print(f"{self.folder} is finished; {before or '--overwrite makes it again'}")
            return
        self._write_config({})
        print(f"{self.folder}: " + " ".join(f"{k}={v}" for k, v in self.options.items()))

    @property
    def options(self) -> dict:
        return self.made_from["options"]

    def _clear(self) -> None:
        # The json that says "complete" goes first: a kill in between leaves an unfinished run.
        names = ["metrics.json", "last.pt", "best.pt", "config.yaml", "log.jsonl"]
        names += ["recs.pqt", "cold_recs.pqt"]
        files = [self.folder / name for name in names]
        files += [*self.folder.glob("per_user_*.pqt"), *self.folder.glob("segments_*.pqt")]
        for file in [*files, *self.folder.glob("events.out.tfevents*")]:
            file.unlink(missing_ok=True)

    def _was_begun_by_this_command(self, recorded: Path, mark: Path) -> bool:
        if not (mark.exists() and mark.read_text(encoding="utf-8") == _command_hash(self.config)):
            return False
        try:
            return recorded.exists() and not self._changed(recorded)
        except InputError:
            return False

    def _changed(self, path: Path) -> list[str]:
        """Return what the run in the folder was made from that is another thing now."""
        keys = ("options", "split", "embedding_hash")
        recorded = read_record(path, keys, "--overwrite makes the run again")
        options = recorded["options"] if isinstance(recorded["options"], dict) else {}
        changed = [
            f"{name} was {options.get(name)!r}, now {value!r}"
            for name, value in self.options.items()
            if options.get(name) != value
        ]
        for key, what in (("split", "the split"), ("embedding_hash", "the embedding")):
            if recorded[key] != self.made_from[key]:
                changed.append(f"{what} is another one ({str(recorded[key])[:12]} then)")
        return changed

    def _write_config(self, measured: dict) -> None:
        content = {
            "recommender": self.recommender,
            "embedding": self.config.embedding,
            "tag": self.config.tag,
            "seed": self.config.seed,
            **self.made_from,
            "changed": changed_options(self.config),
            "options_file": getattr(getattr(self.config, "config", None), "name", None),
            "versions": {"python": platform.python_version(), **_versions()},
            "commit": _commit(),
            **measured,
        }
        content["changed"].pop("seed", None)
        with atomic_path(self.folder / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def add_cold(self, lists: Lists, cold: Split) -> None:
        """Write cold_recs.pqt and per_user_cold.pqt; their numbers come into metrics.json.

        Args:
            lists: of the users of cold.test.
            cold: as cold.load_cold returns it.
        """
        recs = _named(lists, cold)
        write_table(self.folder / "cold_recs.pqt", recs)
        truth = {
            "user_id": cold.user_ids[cold.test.user_of_pair],
            "track_idx": cold.track_idx[cold.test.items],
        }
        table = per_user_metrics(pd.DataFrame(truth), recs, self.config.k)
        write_table(self.folder / "per_user_cold.pqt", table)
        self.cold = {"cold": summarize(table)}

    def finish(self, lists: Lists, split: Split, *, more: dict | None = None, **measured) -> dict:
        """Write recs.pqt, tables, config.yaml and, last, metrics.json; print the numbers.

        Args:
            lists: of every user of val and test.
            split: where the lists' dense ids come from.
            more: what metrics.json is to hold beside what is measured of the lists.
            measured: for config.yaml: device, width, parameters, ...
        """
        recs = _named(lists, split)
        write_table(self.folder / "recs.pqt", recs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._write_config({**measured, "peak_memory_mb": round(peak)})
        results = {
            "recommender": self.recommender,
            "embedding": self.config.embedding,
            "seed": self.config.seed,
            "tag": self.config.tag,
            "seconds": round(self.earlier_seconds + time.monotonic() - self._started, 3),
            **(more or {}),
            **self.cold,
        }
        evaluate(self.folder, recs, read_split(self.config.root), self.config.k, results)
        print(describe(results))
        return results


def _named(lists: Lists, split: Split) -> pd.DataFrame:
    """Return the lists as recs.pqt holds them: user_id, track_idx, rank, score."""
    return pd.DataFrame(
        {
            "user_id": split.user_ids[lists.users],
            "track_idx": split.track_idx[lists.items].astype("int32"),
            "rank": lists.ranks.astype("int32"),
            "score": lists.scores,
        }
    )


def _versions() -> dict:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit of the code, with '+' when it was edited since; None outside git."""
    try:
        git = ["git", "-C", str(HERE)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True)
    except OSError:
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout else "") if not commit.returncode else None
