"""Time the table and its tests on made-up runs of the study's size, then the report.

    python -m benchmarks.bench_report                  # 10 embeddings x 3 recommenders x 5 seeds
    python -m benchmarks.bench_report --report true    # table.py and report.py too, 56,512 tracks
    python -m benchmarks.bench_report --embeddings 50 --seeds 1
    python -m benchmarks.bench_report --recommenders all --more 2 --shuffled true --seeds 3 \\
        --report true                                  # 10 x 9 x 3 x 2 runs
    python -m benchmarks.bench_report --keep runs150   # leave the root there

Prints the seconds of each part, on the clock and of a processor, and the peak memory. The last line
is one json object: {"runs": n, "users": n, "pairs": n, "seconds": {"read": s, ...}, "processor":
{"read": s, ...}, "total": s, "peak_mb": {"here": m, "table.py": m, ...}}; of the scripts alone with
--parts false.

The runs are drawn, not trained (made_up_study.py), so that some embeddings differ and some do not.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.made_up_study import make_data, make_embeddings, make_lists, make_runs, rows_of
from core.options import option, run
from core.registry import RECOMMENDERS
from evaluation import grids
from evaluation.comparisons import against_shuffled, compare, groups
from evaluation.measures import METRICS
from evaluation.published import beside_published
from evaluation.results import (
    average_seeds,
    chance_levels,
    read_runs,
    summarize_lists,
    summarize_rows,
    summarize_segments,
)

HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class BenchConfig:
    embeddings: int = option(10, "rows of each recommender, one of them shuffled")
    recommenders: tuple[str, ...] = option(
        tuple(name for name, each in RECOMMENDERS.items() if each.by_default), "names, or all"
    )
    more: int = option(0, "recommenders of one's own beside them")
    shuffled: bool = option(False, "a shuffled control of every row beside it")
    neighbours: str = option("all", "report.py's option")
    seeds: int = option(5, "runs of each row")
    users: int = option(6092, "of test")
    parts: bool = option(True, "time the parts of table.py, one by one")
    report: bool = option(False, "also run table.py and report.py, on 3 GB of data")
    keep: Path | None = option(None, "root to make the runs in and leave; else a temporary one")


def main(config: BenchConfig) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = config.keep or Path(temporary)
        wanted = list(RECOMMENDERS) if config.recommenders == ("all",) else [*config.recommenders]
        wanted += [f"own{number}" for number in range(config.more)]
        names = [f"e{number:02d}" for number in range(config.embeddings)]
        rows = rows_of(wanted, names, shuffled=config.shuffled)
        users = np.arange(config.users)
        if config.report:
            val, users = make_data(root.absolute(), config.users)
            make_embeddings(root, names)
        make_runs(root, rows, config.seeds, users)
        clock = Clock()
        if config.parts:
            time_parts(root, clock)
        if config.report:
            everybody = np.sort(np.concatenate([val, users]))
            for number, folder in enumerate(sorted((root / "runs").glob("*-s1"))):
                make_lists(folder, everybody, number)  # of the first seed alone
            clock.skip()
            more = {"table.py": [], "report.py": ["--neighbours", config.neighbours]}
            for script, flags in more.items():
                clock.of_script(script, [sys.executable, script, "--root", str(root), *flags])
        runs = sum(1 for _ in (root / "runs").iterdir())
    found = {"runs": runs, "users": config.users, "pairs": clock.pairs, "seconds": clock.seconds}
    found |= {"processor": clock.processor, "total": round(sum(clock.seconds.values()), 2)}
    print(json.dumps(found | {"peak_mb": clock.peak_mb}))


def time_parts(root: Path, clock: Clock) -> None:
    """Time what table.py does, part by part."""
    runs = read_runs(root)
    rows = average_seeds(runs)
    clock("read")
    tables = {"results": summarize_rows(rows), "beyond": summarize_lists(rows)}
    tables["chance"] = chance_levels(runs)
    beside_published(tables["results"])
    clock("results")
    tables["segments"] = summarize_segments(rows)[0]
    clock("segments")
    metrics = [f"{name}@50" for name in METRICS]
    tables["comparisons"] = compare(rows, metrics)
    clock.pairs = len(tables["comparisons"])
    clock("comparisons")
    tables["groups"] = groups(tables["comparisons"])
    clock("groups")
    tables["shuffled"] = against_shuffled(rows, metrics)
    clock("shuffled")
    grids.tex(tables, metrics, "")
    clock("pages")
    clock.peak_mb["here"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class Clock:
    """Seconds between calls, by name, on the clock and of a processor; each is printed."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self.peak_mb: dict[str, int] = {}
        self.pairs = 0  # of rows and metrics that were tested
        self.skip()

    def skip(self) -> None:
        """Leave out what was done since the last call."""
        self._last, self._busy = time.monotonic(), time.process_time()

    def __call__(self, name: str) -> None:
        wall, busy = time.monotonic() - self._last, time.process_time() - self._busy
        self._tell(name, wall, busy)
        self.skip()

    def of_script(self, name: str, words: list[str]) -> None:
        """Run a command in the project's folder and tell of it, its own processes included."""
        self.skip()
        child = subprocess.Popen(words, cwd=HERE)
        _, status, used = os.wait4(child.pid, 0)
        if status:
            raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), words)
        self.peak_mb[name] = round(used.ru_maxrss / 1024)
        self._tell(name, time.monotonic() - self._last, used.ru_utime + used.ru_stime)

    def _tell(self, name: str, wall: float, busy: float) -> None:
        self.seconds[name], self.processor[name] = round(wall, 2), round(busy, 2)
        print(f"{name:<12}{wall:>8.2f} s {busy:>8.2f} s of a processor", flush=True)


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
