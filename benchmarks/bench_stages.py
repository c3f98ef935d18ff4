"""Time stages 0 and 1 against the same rule in plain pandas, on a made-up log.

    python -m benchmarks.bench_stages                       # 20 million rows
    python -m benchmarks.bench_stages --rows 1000000
    python -m benchmarks.bench_stages --pandas false --log log.tsv.bz2 --trackids trackid_sorted.csv

Every stage of both versions runs in a process of its own, in turn, and both must end with the same
rows. What the pandas version does is in plain_stages.py; the track ids are given to both. Prints
seconds, processor seconds and peak resident memory of each; the last line is one json object: rows,
seconds, peak_mb, speedup (pandas time / ours, both stages) and memory_ratio (peak of ours / of
pandas).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from core.options import WorkError, option, run

HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class BenchConfig:
    rows: int = option(20_000_000, "rows of the made-up log")
    seed: int = option(0, "of the made-up log")
    log: Path | None = option(None, "a log that is there, instead of a made-up one")
    trackids: Path | None = option(None, "trackid_sorted.csv of it; auto: made from it first")
    pandas: bool = option(True, "also run the pandas version; it holds the whole log in memory")
    repeats: int = option(1, "runs of each; the fastest counts")
    folder: Path | None = option(None, "where to work; auto: the system's temporary folder")


def main(config: BenchConfig) -> None:
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        folder = Path(name)
        log = config.log or folder / "log.tsv"
        if not config.log:
            made = ["-m", "benchmarks.make_log", "--out", log, "--rows", config.rows]
            measure([*made, "--seed", config.seed])
        log = log.resolve()

        roots = {"ours": folder / "ours", "pandas": folder / "pandas"}
        commands = {
            "ours": [
                ["0_get_plays_pqt.py", "--root", roots["ours"], "--log", log, "--overwrite"],
                ["1_train_test_split.py", "--root", roots["ours"], "--overwrite"],
            ],
            "pandas": [
                ["-m", "benchmarks.plain_stages", "--stage", stage, "--root", roots["pandas"]]
                + ["--log", log]
                for stage in (0, 1)
            ],
        }
        if not config.pandas:
            del commands["pandas"]
        # The track ids are given, as in the study.
        if not config.trackids:
            measure(commands["ours"][0])
        ids = (config.trackids or roots["ours"] / "trackid_sorted.csv").read_bytes()
        for root in roots.values():
            root.mkdir(exist_ok=True)
            (root / "trackid_sorted.csv").write_bytes(ids)
        best: dict[tuple[str, int], tuple[float, float, float]] = {}
        for _ in range(config.repeats):
            for version, stages in commands.items():
                for stage, command in enumerate(stages):
                    found = measure(command)
                    best[version, stage] = min(found, best.get((version, stage), found))
        if config.pandas:
            check_same(roots)
        rows = json.loads((roots["ours"] / "data" / "plays.json").read_text())["rows"]
        report(rows, best, list(commands))


def measure(command: list) -> tuple[float, float, float]:
    """Run python with the arguments; return (seconds, processor seconds, peak resident MB)."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=HERE, stdout=subprocess.PIPE
    )
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise WorkError(f"{command[0]} ended with {process.returncode}: {said.decode()[-300:]}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def check_same(roots: dict[str, Path]) -> None:
    """Raise WorkError unless both versions wrote the same parts."""
    for part in ("train", "val", "test"):
        ours, theirs = (pq.read_table(root / "data" / f"{part}.pqt") for root in roots.values())
        if not ours.equals(theirs.cast(ours.schema)):
            raise WorkError(f"{part}.pqt of pandas has other rows than ours")


def report(rows: int, best: dict, versions: list[str]) -> None:
    """Print a line for each stage, and the json object."""
    total = {}
    for version in versions:
        for stage in (0, 1):
            seconds, processor, peak = best[version, stage]
            print(
                f"{version:<8}stage {stage} {seconds:>9.2f} s {processor:>9.2f} s of a processor "
                f"{peak:>7,.0f} MB"
            )
        total[version] = (
            sum(best[version, stage][0] for stage in (0, 1)),
            max(best[version, stage][2] for stage in (0, 1)),
        )
    seconds, peak = total["ours"]
    result = {"rows": rows, "seconds": round(seconds, 2), "peak_mb": round(peak)}
    if "pandas" in total:
        result["speedup"] = round(total["pandas"][0] / seconds, 2)
        result["memory_ratio"] = round(peak / total["pandas"][1], 3)
    print(json.dumps(result))


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
