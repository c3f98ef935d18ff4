"""A run's folder: what it was made from, whether it is finished, and how it is closed.

A run is `runs/RECOMMENDER-EMBEDDING[-TAG]-sSEED`. Its config.yaml (options, fingerprints of split
and embedding) is written when it starts and metrics.json when everything else is there, so a
folder with metrics.json is finished, and one without is continued by the same command.
"""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import yaml

from core.artifacts import atomic_path, exclusive, read_record, write_table
from core.names import NONE, WITHOUT_FILE, check_name, run_name
from core.options import (
    InputError,
    changed_options,
    options_to_record,
    outcome_options,
    recorded_options,
    yaml_files,
)
from evaluation.finished import COMPLETE, check_whole
from evaluation.measures import describe, evaluate, per_user_metrics, summarize
from recommenders.interactions import Split
from recommenders.lists import Lists
from recommenders.provenance import commit, peak_memory_mb, versions
from recommenders.run_options import MARK, command_hash


class Run:
    """One run while it is made; as a context it holds the folder's lock.

    Attributes:
        folder: root/runs/NAME.
        finished: metrics.json is there and was made from the same things: nothing is to be done.
        earlier_seconds: what previous processes spent on it, if it is being continued.
    """

    def __init__(
        self,
        recommender: str,
        config,
        *,
        split_hash: str,
        embedding_hash: str,
        also: dict | None = None,
    ):
        tag = check_name("tag", config.tag) if config.tag else None
        self.recommender, self.config = recommender, config
        self.embedding = getattr(config, "embedding", NONE)  # of one that hears nothing
        self.name = run_name(recommender, self.embedding, config.seed, tag)
        self.folder = config.root / "runs" / self.name
        self.options, written = outcome_options(config), options_to_record(config)
        if self.embedding not in WITHOUT_FILE:  # a file has a width of its own
            self.options.pop("width", None)
            written.pop("width", None)
        self.made_from = {
            "options": written,
            "split": split_hash,
            "embedding_hash": embedding_hash,
            **(also or {}),
        }
        self.also = also or {}  # fingerprints of what else it is made from, by name
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
                temporary.write_text(command_hash(self.config), encoding="utf-8")
        elif not self.config.overwrite:
            mark.unlink(missing_ok=True)
        if (self.folder / COMPLETE).exists():
            check_whole(self.folder)
        self.check()
        if (self.folder / COMPLETE).exists():
            self.finished = True
            before = "made again before an interruption" if self.config.overwrite else ""
            print(f"{self.folder} is finished; {before or '--overwrite makes it again'}")
            return
        self._write_config({})
        print(f"{self.folder}: " + " ".join(f"{k}={v}" for k, v in self.options.items()))

    def check(self) -> None:
        """Raise InputError if the folder holds a run, finished or begun, of other things."""
        recorded = self.folder / "config.yaml"
        if recorded.exists() and (changed := self._changed(recorded)):
            raise InputError(
                f"{self.folder} was made from other things: {'; '.join(changed)}; "
                "--overwrite makes it again, --tag NAME keeps both (config.yaml tells of it)"
            )

    def _clear(self) -> None:
        # The json that says "complete" goes first: a kill in between leaves an unfinished run.
        names = ["metrics.json", "last.pt", "best.pt", "config.yaml", "log.jsonl"]
        names += ["recs.pqt", "cold_recs.pqt"]
        files = [self.folder / name for name in names]
        files += [*self.folder.glob("per_user_*.pqt"), *self.folder.glob("segments_*.pqt")]
        for file in [*files, *self.folder.glob("events.out.tfevents*")]:
            file.unlink(missing_ok=True)

    def _was_begun_by_this_command(self, recorded: Path, mark: Path) -> bool:
        if not (mark.exists() and mark.read_text(encoding="utf-8") == command_hash(self.config)):
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
        options = recorded_options(options, self.config)
        changed = [
            f"{name} was {options.get(name)!r}, now {value!r}"
            for name, value in self.options.items()
            if options.get(name) != value
        ]
        file = f"embeddings/{self.embedding}.npy"
        whats = {"split": "the split, data/,", "embedding_hash": f"the embedding, {file},"}
        whats |= {key: f"its {key}" for key in self.also}
        for key, what in whats.items():
            if recorded.get(key) != self.made_from[key]:
                changed.append(f"{what} is another one ({str(recorded.get(key))[:12]} then)")
        return changed

    def _write_config(self, measured: dict) -> None:
        files = yaml_files(self.recommender, getattr(self.config, "config", None))
        content = {
            "recommender": self.recommender,
            "embedding": self.embedding,
            "tag": self.config.tag,
            "seed": self.config.seed,
            **self.made_from,
            "changed": changed_options(self.config),
            "options_file": files[-1].name if files else None,
            "versions": versions(),
            "commit": commit(),
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
        self._write_config({**measured, "peak_memory_mb": peak_memory_mb()})
        results = {
            "recommender": self.recommender,
            "embedding": self.embedding,
            "seed": self.config.seed,
            "tag": self.config.tag,
            "seconds": round(self.earlier_seconds + time.monotonic() - self._started, 3),
            **(more or {}),
            **self.cold,
        }
        evaluate(self.folder, recs, split.tables(), self.config.k, results, held_out=split.held_out)
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
