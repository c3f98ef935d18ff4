"""How far a running task is: from its log, and of an extraction from what it has saved."""

from __future__ import annotations

import re
from pathlib import Path

from study.cluster import Task
from study.graph import Node
from study.on_disk import tracks_of_shard
from study.usage import duration

EPOCH = re.compile(r"^epoch +(\d+)/(\d+) .* ([\d.]+) s$", re.M)
GOING_ON = re.compile(r"^going on: ([\d,]+) of", re.M)
WIDTH = 20  # of a bar


def progress_of(node: Node, index: int, task: Task, log: Path | None) -> str:
    """Return a bar, a rate and the time left of a task that runs; '' where none is known.

    A training may end before its last epoch, so that what is left is at most.
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log else ""
    if epochs := epochs_of(text):
        done, total, seconds = epochs
        left = f"at most {duration((total - done) * seconds)} left"
        return f"{bar(done, total)} epoch {done}/{total}, {seconds:g} s each, {left}"
    if not node.stage.name.startswith("shards of "):
        return ""
    flags = dict(zip(node.stage.flags[::2], node.stage.flags[1::2], strict=False))
    name, shards = node.stage.name.split()[-1], int(flags["--shards"])
    counts = tracks_of_shard(Path(flags["--root"]), name, shards, index)
    if counts is None:
        return ""
    done, total = counts
    before = GOING_ON.findall(text)
    rate = (done - int(before[-1].replace(",", "") if before else 0)) / max(1, elapsed(task))
    said = f"{bar(done, total)} {done:,}/{total:,} tracks"
    if rate <= 0:
        return said
    return f"{said}, {rate:.3g} a second, {duration((total - done) / rate)} left"


def epochs_of(text: str) -> tuple[int, int, float] | None:
    """Return the epochs that a training has said are done, all of them, and the last one's seconds.

    None before the first.
    """
    found = EPOCH.findall(text)
    return (int(found[-1][0]), int(found[-1][1]), float(found[-1][2])) if found else None


def bar(done: int, total: int) -> str:
    full = WIDTH * done // max(1, total)
    return f"[{'#' * full}{'.' * (WIDTH - full)}]"


def elapsed(task: Task) -> int:
    """Return the seconds that Slurm says a task has run: days-hours:minutes:seconds."""
    days, _, clock = task.time.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)
