"""Time the table and its tests on made-up runs of the study's size, then the report.

    python -m benchmarks.bench_report                  # 10 embeddings x 3 recommenders x 5 seeds
    python -m benchmarks.bench_report --report true    # table.py and report.py too, 56,512 tracks
    python -m benchmarks.bench_report --embeddings 50 --seeds 1
    python -m benchmarks.bench_report --recommenders all --shuffled true --seeds 3 --report true
    python -m benchmarks.bench_report --keep runs150   # leave the root there

Prints the seconds of each part and the peak memory of the process. The last line is one json
object: {"runs": n, "users": n, "seconds": {"read": s, ...}, "total": s, "peak_mb": m}.

The runs are drawn, not trained (made_up_study.py), so that some embeddings differ and some do not.
"""

from __future__ import annotations

import json
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
    shuffled: bool = option(False, "a shuffled control of every row beside it")
    neighbours: str = option("all", "report.py's option")
    seeds: int = option(5, "runs of each row")
    users: int = option(6092, "of test")
    report: bool = option(False, "also run table.py and report.py, on 3 GB of data")
    keep: Path | None = option(None, "root to make the runs in and leave; else a temporary one")


def main(config: BenchConfig) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = config.keep or Path(temporary)
        wanted = list(RECOMMENDERS) if config.recommenders == ("all",) else config.recommenders
        names = [f"e{number:02d}" for number in range(config.embeddings)]
        rows = rows_of(wanted, names, shuffled=config.shuffled)
        users = np.arange(config.users)
        if config.report:
            val, users = make_data(root.absolute(), config.users)
            make_embeddings(root, names)
        make_runs(root, rows, config.seeds, users)
        clock = Clock()
        runs = read_runs(root)
        rows = average_seeds(runs)
        clock("read")
        tables = {"results": summarize_rows(rows), "beyond": summarize_lists(rows)}
        tables["chance"] = chance_levels(runs)
        beside_published(tables["results"])
        clock("results")
        tables["segments"] = summarize_segments(rows)
        clock("segments")
        metrics = [f"{name}@50" for name in METRICS]
        tables["comparisons"] = compare(rows, metrics)
        clock("comparisons")
        tables["groups"] = groups(tables["comparisons"])
        clock("groups")
        tables["shuffled"] = against_shuffled(rows, metrics)
        clock("shuffled")
        grids.tex(tables, metrics, "")
        clock("pages")
        if config.report:
            everybody = np.sort(np.concatenate([val, users]))
            for number, folder in enumerate(sorted((root / "runs").glob("*-s1"))):
                make_lists(folder, everybody, number)  # of the first seed alone
            clock.skip()
            more = {"table.py": [], "report.py": ["--neighbours", config.neighbours]}
            for script, flags in more.items():
                words = [sys.executable, script, "--root", str(root), *flags]
                subprocess.run(words, cwd=HERE, check=True)
                clock(script)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"runs": len(runs), "users": config.users, "pairs": len(tables["comparisons"])}
    total = round(sum(clock.seconds.values()), 2)
    print(json.dumps({**found, "seconds": clock.seconds, "total": total, "peak_mb": round(peak)}))


class Clock:
    """Seconds between calls, by name; each is printed."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def skip(self) -> None:
        """Leave out what was done since the last call."""
        self._last = time.monotonic()

    def __call__(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self._last = round(now - self._last, 2), now
        print(f"{name:<12}{self.seconds[name]:>8.2f} s", flush=True)


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
