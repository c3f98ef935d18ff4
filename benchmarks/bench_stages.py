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
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from core.options import WorkError, option, run

HERE = Path(__file__).resolve().parents[1]
# A process's peak starts at what the one that forked it held, so a small one stands in between.
LEAN = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(process.pid, 0)
seconds, code = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
numbers = [code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss]
print(json.dumps(numbers), file=sys.stderr)
"""


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
    done = subprocess.run(
        [sys.executable, "-c", LEAN, sys.executable, *map(str, command)],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    *said, told = done.stderr.splitlines()
    code, seconds, processor, kilobytes = json.loads(told)
    if code:
        raise WorkError(f"{command[0]} ended with {code}: {' '.join([done.stdout, *said])[-300:]}")
    return seconds, processor, kilobytes / 1024


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
