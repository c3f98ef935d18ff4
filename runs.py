"""A run's folder: what it was made from, whether it is finished, and how it is closed.

A run is `runs/RECOMMENDER-EMBEDDING[-TAG]-sSEED`. Its config.yaml (options, fingerprints of split
and embedding) is written when it starts and metrics.json when everything else is there, so a
folder with metrics.json is finished, and one without is continued by the same command.
"""

from __future__ import annotations

import dataclasses
import platform
import resource
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml

from artifacts import atomic_path, check_name, exclusive, write_table
from config import InputError, changed_options, option, outcome_options
from interactions import Split
from metrics import describe, evaluate
from recommend import Lists
from splits import read_split
from vectors import WITHOUT_FILE

PACKAGES = ("numpy", "pandas", "pyarrow", "scipy", "torch", "transformers", "rs_metrics")
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every run takes."""

    root: Path = option(Path("."), "folder of all that is read and written", outcome=False)
    seed: int = option(1, "decides every random choice of the run")
    seeds: tuple[int, ...] | None = option(None, "several runs, as 1,2,3", outcome=False)
    tag: str | None = option(None, "more for the run's name, as -TAG", outcome=False)
    overwrite: bool = option(False, "make a finished run again", outcome=False)

    def __post_init__(self):
        if min(self.seeds or (self.seed,)) < 0:
            raise InputError(f"--seed must be at least 0, got {self.seeds or self.seed}")


@dataclass(frozen=True, kw_only=True)
class RecommenderOptions(RunOptions):
    """What every recommender over an embedding takes."""

    embedding: str = option(help="name of ROOT/embeddings/NAME.npy, or random, or noise")
    missing: Literal["error", "mean"] = option(
        "error", "rows of NaN: error, or mean of the other train tracks"
    )
    width: int = option(128, "numbers a vector, of random and noise only")

    def __post_init__(self):
        super().__post_init__()
        if self.width < 1:
            raise InputError(f"--width must be at least 1, got {self.width}")


def each_seed(config: RunOptions):
    """Yield the options of every run that the command asks for."""
    for seed in config.seeds or (config.seed,):
        yield dataclasses.replace(config, seed=seed, seeds=None)


class Run:
    """One run while it is made; as a context it holds the folder's lock.

    Attributes:
        folder: root/runs/NAME.
        finished: metrics.json is there and was made from the same things: nothing is to be done.
        earlier_seconds: what previous processes spent on it, if it is being continued.
    """

    def __init__(self, recommender: str, config, *, split_hash: str, embedding_hash: str):
        tag = f"-{check_name('tag', config.tag)}" if config.tag else ""
        self.recommender, self.config = recommender, config
        self.name = f"{recommender}-{config.embedding}{tag}-s{config.seed}"
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
        recorded = self.folder / "config.yaml"
        if self.config.overwrite:
            self._clear()
        if recorded.exists():
            self._compare(yaml.safe_load(recorded.read_text(encoding="utf-8")))
        if (self.folder / "metrics.json").exists():
            self.finished = True
            print(f"{self.folder} is finished; --overwrite makes it again")
            return
        self._write_config({})
        print(f"{self.folder}: " + " ".join(f"{k}={v}" for k, v in self.options.items()))

    @property
    def options(self) -> dict:
        return self.made_from["options"]

    def _clear(self) -> None:
        # The json that says "complete" goes first: a kill in between leaves an unfinished run.
        names = ["metrics.json", "last.pt", "best.pt", "config.yaml", "log.jsonl", "recs.pqt"]
        files = [self.folder / name for name in names]
        files += self.folder.glob("per_user_*.pqt")
        for file in [*files, *self.folder.glob("events.out.tfevents*")]:
            file.unlink(missing_ok=True)

    def _compare(self, recorded: dict) -> None:
        """Refuse to take up a run that was made from something else; name all that changed."""
        changed = [
            f"{name} was {recorded['options'].get(name)!r}, now {value!r}"
            for name, value in self.options.items()
            if recorded["options"].get(name) != value
        ]
        for key, what in (("split", "the split"), ("embedding_hash", "the embedding")):
            if recorded[key] != self.made_from[key]:
                changed.append(f"{what} is another one ({recorded[key][:12]} then)")
        if changed:
            raise InputError(
                f"{self.folder} was made from other things: {'; '.join(changed)}; "
                "--overwrite makes it again, --tag NAME keeps both"
            )

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

    def finish(self, lists: Lists, split: Split, **measured) -> dict:
        """Write recs.pqt, per_user_*.pqt, config.yaml and, last, metrics.json; print the numbers.

        Args:
            lists: of every user of val and test.
            split: where the lists' dense ids come from.
            measured: for config.yaml: device, width, parameters, ...
        """
        recs = pd.DataFrame(
            {
                "user_id": split.user_ids[lists.users],
                "track_idx": split.track_idx[lists.items].astype("int32"),
                "rank": lists.ranks.astype("int32"),
                "score": lists.scores,
            }
        )
        write_table(self.folder / "recs.pqt", recs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._write_config({**measured, "peak_memory_mb": round(peak)})
        results = {
            "recommender": self.recommender,
            "embedding": self.config.embedding,
            "seed": self.config.seed,
            "tag": self.config.tag,
            "seconds": round(self.earlier_seconds + time.monotonic() - self._started, 3),
        }
        evaluate(self.folder, recs, read_split(self.config.root), (50,), results)
        print(describe(results))
        return results


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
