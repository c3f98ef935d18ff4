"""An extraction in N shards, which may run at the same time on machines that share the root.

A shard is a block of neighbouring windows. Three locks keep shards out of each other's way:

    embeddings/.NAME.lock             shared by shards; a whole run or a join has it alone
    embeddings/.NAME.begin.lock       one shard at a time makes sure that there is one plan
    embeddings/NAME.parts/I.lock      one process works on shard I

The kernel frees them when their process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.artifacts import exclusive, lock
from core.options import ARRAY_INDEX, InputError


def shard_index(shards: int, shard: int | None) -> int:
    """Return the number of the shard, from 0: the one given, else that of the Slurm array's job."""
    source = "--shard"
    if shard is None:
        source, text = ARRAY_INDEX, os.environ.get(ARRAY_INDEX)
        if text is None:
            raise InputError(
                f"--shards {shards} needs --shard I (0 to {shards - 1}), --join, or a Slurm array "
                f"(sbatch --array=0-{shards - 1}), which sets {ARRAY_INDEX}; it is not set"
            )
        if not text.isdecimal():
            raise InputError(f"{ARRAY_INDEX} must be a whole number, got '{text}'; use --shard I")
        shard = int(text)
    if not 0 <= shard < shards:
        raise InputError(
            f"{source} must be from 0 to {shards - 1} with --shards {shards}, got {shard}"
        )
    return shard


def shard_windows(windows: list[range], shards: int, shard: int) -> list[range]:
    """Return the windows of one shard; their numbers differ by one at most."""
    first, end = (len(windows) * i // shards for i in (shard, shard + 1))
    return windows[first:end]


def array_expression(indices: list[int]) -> str:
    """Return ascending numbers as `sbatch --array` takes them: [0, 3, 7, 8, 9] is '0,3,7-9'."""
    ranges: list[list[int]] = []
    for i in indices:
        if ranges and ranges[-1][1] == i - 1:
            ranges[-1][1] = i
        else:
            ranges.append([i, i])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)


@contextlib.contextmanager
def shard_lock(
    matrix: Path, folder: Path, shard: int, begin: Callable[[bool], bool]
) -> Iterator[bool]:
    """Hold the locks of a shard while it is computed.

    Args:
        matrix: embeddings/NAME.npy.
        folder: of the parts.
        begin: called with whether no other shard runs, while none can begin; says whether there
            is anything to do. If not, the locks are free when the block is entered.

    Yields:
        what `begin` said.

    Raises:
        InputError: a whole run, a join, or another process with the same shard is at work.
    """
    with contextlib.ExitStack() as held:
        with _turn(matrix.parent / f".{matrix.stem}.begin.lock"):
            file = held.enter_context(open(matrix.parent / f".{matrix.stem}.lock", "a+"))
            alone = lock(file, fcntl.LOCK_EX)
            if not alone and not lock(file, fcntl.LOCK_SH):
                raise _busy(matrix)
            needed = begin(alone)
            if not needed:
                held.close()
            else:
                if not lock(file, fcntl.LOCK_SH):  # a join or a whole run was quicker
                    raise _busy(matrix)
                what = f"shard {shard} of {matrix}"
                held.enter_context(exclusive(folder / f"{shard}.lock", what))
        yield needed


@contextlib.contextmanager
def _turn(path: Path):
    """Hold a lock that others hold for moments only: wait for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        while not lock(file, fcntl.LOCK_EX):
            time.sleep(0.05)
        yield


def _busy(matrix: Path) -> InputError:
    return InputError(f"another process is working on all of {matrix}; wait for it")
