"""Seconds a track, a pair, a play and a run, for the estimates of --dry-run: study/rates.csv.

    python -m benchmarks.rates --root sample --where "two cores, the sample"
    python -m benchmarks.rates --root sample --where "two cores, the sample" --stages table,report

Reads   ROOT/embeddings/*.json, ROOT/runs/*/metrics.json, ROOT/data/ of a finished study
Writes  study/rates.csv: what (recommender, embedding or stage), unit, seconds, where

A row that is there already is replaced, others stay: so several roots, and several machines, come
together in one table. A pair is a user and a track of train; a run's seconds include its lists.
What keeps no seconds of its own is named with --stages: it is done again, from the same inputs, in
a folder that is removed.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

from core.artifacts import atomic_path, read_json
from core.options import InputError, option, run
from study.checks import options_of
from study.config import StudyConfig
from study.forecast import RATES, rates_of
from study.stages import plan

UNITS = {"sample": "track", "plays": "play", "split": "play", "table": "run", "report": "run"}
CLIPS = 100  # of a sample that is made to time it


@dataclass(frozen=True, kw_only=True)
class RatesConfig:
    root: Path = option(Path("sample"), "folder of a finished study")
    where: str = option(help="machine and data, for whoever reads the table")
    audio: Path | None = option(None, "the study's folder of audio; auto: ROOT/audio")
    stages: tuple[str, ...] = option((), f"to do again and time: {', '.join(UNITS)}")
    out: Path = option(RATES, "the table")

    def __post_init__(self):
        for name in self.stages:
            if name not in UNITS:
                raise InputError(f"--stages knows {', '.join(UNITS)}, got '{name}'")


def main(config: RatesConfig) -> None:
    found = rates_of(config.root) | timed(config)
    if not found:
        raise InputError(f"{config.root} has no finished embedding and no run; finish one first")
    rows = {}
    if config.out.exists():
        with open(config.out, encoding="utf-8", newline="") as file:
            rows = {row["what"]: row for row in csv.DictReader(file)}
    for what, (unit, seconds) in found.items():
        rows[what] = {
            "what": what,
            "unit": unit,
            "seconds": f"{seconds:.3g}",
            "where": config.where,
        }
    with atomic_path(config.out) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, ["what", "unit", "seconds", "where"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[what] for what in sorted(rows))
    print(f"{config.out}: {len(found)} rates of {config.root}, {len(rows)} in all")


def timed(config: RatesConfig) -> dict[str, tuple[str, float]]:
    """Return the rates of the stages that are done again, in seconds of a processor.

    So that other work on the machine does not count; nor does the start of Python.
    """
    if not config.stages:
        return {}
    log = Path(read_json(config.root / "data" / "plays.json", "stage 0")["log"]["path"])
    audio, found = config.audio or config.root / "audio", {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(config.root, root, ignore=shutil.ignore_patterns("audio", "report"))
        runs = len(list(root.glob("runs/*/metrics.json")))
        plays = pyarrow.parquet.read_metadata(root / "data" / "plays.pqt").num_rows
        count = {"track": CLIPS, "play": plays, "run": max(1, runs)}
        study = StudyConfig(root=root, log=log, audio=audio, embeddings=())
        commands = {stage.name: (stage.script[0], stage.flags) for stage in plan(study)}
        small = ("--root", f"{root}/made", "--tracks", str(CLIPS))
        commands["sample"] = ("make_sample.py", small)
        for name in config.stages:
            script, flags = commands[name]
            again = ("--overwrite",) if name in ("plays", "split") else ()
            module, options = options_of(script, (*flags, *again))
            before = sum(os.times()[:4])
            with contextlib.redirect_stdout(sys.stderr):
                module.main(options)
            unit = UNITS[name]
            found[name] = (unit, (sum(os.times()[:4]) - before) / count[unit])
            print(f"{name}: {found[name][1]:.3g} s a {unit}, {count[unit]:,} of them", flush=True)
    return found


if __name__ == "__main__":
    run(main, RatesConfig, __doc__)
