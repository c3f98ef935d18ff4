"""A search for options: trials of a recommender over one embedding, judged on validation.

A trial is the recommender's own command in a process of its own, under the root
SEARCH/trials/NNNN, whose data and embeddings are links to the study's: so a trial is a run like any
other, continues after a kill as a run does, and stays out of the study's runs and tables. Optuna
proposes the options, keeps the record in SEARCH/study.db and says which trials are hopeless. The
record's fingerprint is in study.json, which is away while a search is at it; after a kill the
record is compared with the trials' own runs, as it always is.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import optuna
import yaml
from optuna.exceptions import StorageInternalError
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from core.artifacts import disk_full, read_json, read_sealed, sha256, write_json
from core.options import InputError, WorkError, refuse_special
from core.registry import RECOMMENDERS
from core.yamls import PLAIN, is_plain, load_yaml
from evaluation.finished import read_finished

FORGET = "sweep.py --overwrite forgets the search and begins it again"
HERE = Path(__file__).resolve().parents[1]
LINKED = ("data", "embeddings", "trackid_sorted.csv")
POLL = 0.2  # seconds between looks at a trial's log
REPEATS = "repeats"  # attribute of a proposal that was made before: the number of that trial
MOST_REPEATS = 200  # proposals in a row that were made before, after which a search ends
UNWRITTEN = (  # what SQLite says of a disk, and not of the file
    *("disk is full", "readonly database", "unable to open database", "database is locked"),
    "disk I/O error",
)
INTERRUPTED = (130, 143, -2, -15)
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Choice:
    """What an option may be: one of `values`, or from low to high (whole numbers if both are)."""

    values: tuple = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    def suggest(self, trial: Trial, name: str):
        if self.values:
            return trial.suggest_categorical(name, self.values)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    @property
    def points(self) -> float:
        """How many values there are; infinity for a range of floats without a step."""
        if self.values:
            return len(set(map(repr, self.values)))
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        step = self.step or (1 if whole else None)
        return math.inf if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1


def points(space: dict[str, Choice]) -> float:
    """Return how many different trials a space allows."""
    return math.prod(choice.points for choice in space.values())


def open_storage(path: Path) -> optuna.storages.RDBStorage:
    """Return Optuna's record in a file, whatever the path's characters mean in a database's URL."""
    connect = partial(sqlite3.connect, path.resolve(), timeout=60, check_same_thread=False)
    return optuna.storages.RDBStorage(
        "sqlite://", engine_kwargs={"creator": connect, "poolclass": NullPool}
    )


def read_space(path: Path, recommender: str) -> dict[str, Choice]:
    """Return what the yaml's section of the recommender lets vary, {option: Choice}.

    Without a section, what the registry says. A list is a set of values,
    `{low: 1e-4, high: 1e-2, log: true}` a range, with `step` if wanted.

    Raises:
        InputError: no such file or section, or an entry that is neither.
    """
    refuse_special(path, f"--space {path}")
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--space {path} cannot be read as yaml ({error})") from error
    section = content.get(recommender) if isinstance(content, dict) else None
    section = section or dict(RECOMMENDERS[recommender].space)
    if not isinstance(section, dict) or not section:
        raise InputError(f"--space {path} has no section '{recommender}:' of options to vary")
    return {str(name): _choice(path, name, entry) for name, entry in section.items()}


def _choice(path: Path, name: str, entry) -> Choice:
    what = f"{path}: '{name}'"
    if isinstance(entry, list) and entry:
        for value in entry:
            if not is_plain(value):
                raise InputError(f"{what}: {PLAIN} are tried, got {value!r}")
        return Choice(values=tuple(entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry):
        raise InputError(f"{what} must be a list of values or {{low: x, high: y}}, got {entry!r}")
    strange = set(entry) - {"low", "high", "step", "log"}
    if strange:
        raise InputError(f"{what} knows low, high, step and log, got '{strange.pop()}'")
    bounds = {}
    for key in {"low", "high", "step"} & set(entry):
        value = entry[key]
        value = float(value) if isinstance(value, str) and _is_number(value) else value  # 1e-4
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_plain(value):
            raise InputError(f"{what}: {key} must be a finite number, got {entry[key]!r}")
        bounds[key] = value
    if not isinstance(entry.get("log", False), bool):
        raise InputError(f"{what}: log must be true or false, got {entry['log']!r}")
    if bounds.get("step", 1) <= 0:
        raise InputError(f"{what}: step must be above 0, got {entry['step']!r}")
    choice = Choice(**bounds, log=entry.get("log", False))
    if choice.low > choice.high or (choice.log and (choice.low <= 0 or choice.step)):
        raise InputError(
            f"{what}: low must not be above high, and with log above 0 and without step; got "
            f"{entry!r}"
        )
    return choice


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text))


@dataclass
class Search:
    """One search: a recommender, an embedding, and how it is gone about.

    Attributes:
        root: of the study.
        folder: of the search; study.db, study.json, trials/, search.json (written last).
        flags: of every trial, beside those of its own options.
        script: that makes a trial; None: the recommender's.
        metric: of the validation users, as NDCG@50; larger is better.
        trials: how many, complete, pruned and failed ones all counted.
    """

    root: Path
    folder: Path
    recommender: str
    embedding: str
    space: dict[str, Choice]
    flags: list[str]
    script: Path | None = None
    metric: str = "NDCG@50"
    trials: int = 20
    sampler: str = "tpe"
    pruner: str = "median"
    seed: int = 1
    workers: int = 1
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> dict:
        """Make the trials that are missing, `workers` at a time, and return what came of all.

        Returns:
            {"chosen": options, "value": of the metric, "number": of the trial, "trials": n,
            "complete": n, "pruned": n, "failed": n, "seconds": of all trials together}. Trials
            are counted by their options: none is made twice, and there are no more than the space
            has.

        Raises:
            InputError: the first trial is refused by its script; the message is the script's.
            WorkError: a trial was killed, or none was completed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        study = self._open_study()
        self.seal.unlink(missing_ok=True)  # from here on the study changes
        path = self.folder / "study.db"
        try:
            return self._search(study)
        except (SQLAlchemyError, StorageInternalError) as error:
            raise _unwritten(path, error) from error
        finally:
            write_json(self.seal, {"sha256": sha256(path)})

    @property
    def seal(self) -> Path:
        """The fingerprint of study.db, while no search is at it and none was killed."""
        return self.folder / "study.json"

    def _search(self, study) -> dict:
        # A process that was killed left trials unfinished: they are continued first.
        left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        unfinished = [Trial(study, trial._trial_id) for trial in left]
        lock = threading.Lock()

        def work() -> None:
            while not self._stop.is_set():
                with lock:
                    trial = self._next(study, unfinished)
                if trial is None:
                    return
                self._make(study, *trial)

        workers = int(min(self.workers, self.trials, points(self.space)))
        with ThreadPoolExecutor(workers) as pool:
            tasks = [pool.submit(work) for _ in range(workers)]
            try:
                for task in tasks:
                    task.result()
            finally:
                self._stop.set()  # the others end their trials, which can be continued
        return self._outcome(study)

    def _open_study(self):
        """Return the study of study.db, new or as it was left.

        Raises:
            InputError: the file is damaged, or tells of other trials than the folder holds.
        """
        path = self.folder / "study.db"
        if self.seal.exists():
            read_sealed(path, read_json(self.seal, FORGET, ("sha256",))["sha256"], FORGET)
        pruners = {"median": optuna.pruners.MedianPruner, "none": optuna.pruners.NopPruner}
        try:
            study = optuna.create_study(
                storage=open_storage(path),
                study_name=f"{self.recommender}-{self.embedding}",
                direction="maximize",
                pruner=pruners[self.pruner](),
                load_if_exists=True,
            )
            known = study.get_trials()
        except (SQLAlchemyError, StorageInternalError, ValueError, KeyError) as error:
            if any(words in str(error) for words in UNWRITTEN):
                raise _unwritten(path, error) from error
            said = str(error).splitlines()[0]
            raise InputError(f"{path} is damaged ({said}); {FORGET}") from error
        there = {int(each.name) for each in self.folder.glob("trials/[0-9]*")}
        if unknown := there - {trial.number for trial in known}:
            raise InputError(
                f"{path} does not tell of trial {min(unknown)}: it is damaged; {FORGET}"
            )
        for trial in known:
            if trial.state == TrialState.COMPLETE and REPEATS not in trial.user_attrs:
                self._compare(path, trial)
        return study

    def _compare(self, path: Path, trial) -> None:
        """Refuse a trial of which the study says something else than its own run."""
        root = self.folder / "trials" / f"{trial.number:04d}"
        value, options = self._value(root), dict(trial.params)
        for folder in root.glob("runs/*"):
            if (folder / "config.yaml").exists():
                options |= read_finished(folder)["options"]  # a later option may not stand there
        other = [
            name
            for name, told in trial.params.items()
            if options.get(name) != told and _text(options.get(name)) != _text(told)
        ]
        if value != trial.value or other:
            raise InputError(
                f"{path} and the run in {root} differ in trial {trial.number}: one is damaged; "
                f"{FORGET}"
            )

    def _next(self, study, unfinished: list[Trial]) -> tuple[Trial, dict] | None:
        """Return a trial and its options, or None when as many were made as were asked for."""
        if unfinished:
            trial = unfinished.pop(0)
            return trial, self._propose(study, trial.number, trial)
        for _ in range(MOST_REPEATS):
            made = study.get_trials(deepcopy=False)
            distinct = {_spelled(t.params): t for t in made if REPEATS not in t.user_attrs}
            if len(distinct) >= min(self.trials, points(self.space)):
                return None
            trial = study.ask()
            options = self._propose(study, trial.number, trial)
            earlier = distinct.get(_spelled(options))
            if earlier is None:
                return trial, options
            # It is known, or being made: the study learns what came of it, and no time is spent.
            trial.set_user_attr(REPEATS, earlier.number)
            done = earlier.state == TrialState.COMPLETE
            study.tell(trial, earlier.value if done else None, None if done else TrialState.FAIL)
        return None

    def _propose(self, study, number: int, trial: Trial) -> dict:
        # Seeded by the trial's number: a search that was interrupted draws as one that was not.
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        study.sampler = samplers[self.sampler](seed=(self.seed * 1_000_003 + number) % 2**32)
        return {name: choice.suggest(trial, name) for name, choice in self.space.items()}

    def _make(self, study, trial: Trial, options: dict) -> None:
        """Run the trial's command to its end, or to where it is hopeless, and tell the study."""
        root = self.folder / "trials" / f"{trial.number:04d}"
        process, started = self._start(root, options), time.monotonic()
        pruned = False
        while True:
            ended = process.poll() is not None  # asked first: what it wrote before is then read
            if not pruned and self._report(trial, root):
                pruned = not ended
                process.terminate()
            if ended:
                break
            if self._stop.wait(POLL):
                process.terminate()
                process.wait()
                return
        trial.set_user_attr("seconds", round(time.monotonic() - started, 3))
        if pruned:
            study.tell(trial, state=TrialState.PRUNED)
            said = "pruned"
        elif process.returncode == 0:
            value = self._value(root)
            study.tell(trial, value)
            said = f"{self.metric} {value:.4f}"
        elif process.returncode in INTERRUPTED:
            raise WorkError(f"trial {trial.number} was interrupted; the same command goes on")
        else:
            said = _last_line(root / "output.txt")
            study.tell(trial, state=TrialState.FAIL)
            good = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
            if process.returncode == 2 and not good:
                raise InputError(f"trial {trial.number} with {_spoken(options)}: {said}")
        for name in ("best.pt", "last.pt", "recs.pqt"):  # what a trial leaves is its numbers
            for file in root.glob(f"runs/*/{name}"):
                file.unlink()
        print(f"trial {trial.number + 1:>3}/{self.trials}  {_spoken(options)}: {said}", flush=True)

    def _start(self, root: Path, options: dict) -> subprocess.Popen:
        root.mkdir(parents=True, exist_ok=True)
        for name in LINKED:
            link, target = root / name, os.path.relpath(self.root / name, root)
            if (self.root / name).exists() and not link.is_symlink():
                link.symlink_to(target)
        flags = [x for name, value in options.items() for x in (_flag(name), _text(value))]
        fixed = ["--root", root, "--embedding", self.embedding, "--k", self.metric.split("@")[1]]
        script = self.script or HERE / RECOMMENDERS[self.recommender].script
        command = [
            sys.executable,
            script,
            *fixed,
            *self.flags,
            *flags,
        ]
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        with open(root / "output.txt", "a") as output:
            return subprocess.Popen(
                list(map(str, command)), stdout=output, stderr=subprocess.STDOUT, env=environment
            )

    def _report(self, trial: Trial, root: Path) -> bool:
        """Tell the study of new epochs; return whether the trial should not go on."""
        known = trial.storage.get_trial(trial._trial_id).intermediate_values
        news = False
        for log in root.glob("runs/*/log.jsonl"):
            for line in log.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # its last line is being written
                value = record.get(self.metric)
                if value is not None and math.isfinite(value) and record["epoch"] not in known:
                    trial.report(value, record["epoch"])
                    news = True
        return news and trial.should_prune()

    def _value(self, root: Path) -> float:
        path = next(root.glob("runs/*/metrics.json"), root / "runs" / "metrics.json")
        return read_json(path, "its search; " + FORGET, ("val",))["val"][self.metric]["mean"]

    def _outcome(self, study) -> dict:
        trials = [t for t in study.get_trials(deepcopy=False) if REPEATS not in t.user_attrs]
        counts = {
            name: sum(t.state == state for t in trials)
            for name, state in (
                ("complete", TrialState.COMPLETE),
                ("pruned", TrialState.PRUNED),
                ("failed", TrialState.FAIL),
            )
        }
        if not counts["complete"]:
            raise WorkError(
                f"none of {len(trials)} trials was completed; see {self.folder}/trials/*/output.txt"
            )
        best = study.best_trial
        seconds = round(sum(t.user_attrs.get("seconds", 0) for t in trials), 1)
        chosen = {"chosen": best.params, "value": best.value, "number": best.number}
        return {**chosen, "trials": len(trials), **counts, "seconds": seconds}


def _unwritten(path: Path, error: Exception) -> WorkError:
    """Return the error for a record that the database could not write."""
    while error.__cause__ and not isinstance(error, sqlite3.Error):
        error = error.__cause__
    if UNWRITTEN[0] in str(error):
        return disk_full(path)
    return WorkError(f"{path} cannot be written ({error}); mend that, and the same command goes on")


def write_outcome(path: Path, made_from: dict, outcome: dict) -> None:
    """Write search.json: what the search was made from, and what came of it."""
    write_json(path, {**made_from, "outcome": outcome})


def _spelled(options: dict) -> str:
    return repr(sorted(options.items()))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _text(value) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _spoken(options: dict) -> str:
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in options.items()
    )


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
