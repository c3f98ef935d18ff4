"""Plays to (user, track) pairs, ordered, in memory that does not grow with the plays.

The plays within the dates are distributed over scratch files by ranges of user ids, and each file
is sorted and counted by itself. The pairs of the files, one after the other, are then in order.

Here plays are int64 arrays (n, 3): user id, track_idx, microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from config import InputError
from play_log import PLAYS
from split_parts import PAIRS
from streaming import map_in_threads

EARLY_PAIRS = PAIRS.append(pa.field("early", pa.bool_()))
BATCH = 1 << 18  # plays read at a time
SORTED = 1_000_000  # plays sorted at a time, when memory allows
BYTES_A_PLAY = 150  # of memory, while it is sorted
SAMPLED = 64  # batches that tell how the users are spread


class PlaysTable:
    """The plays of a parquet file with user_id, track_idx and timestamp, in any order."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.file = pq.ParquetFile(path, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._wrong(str(error)) from error
        missing = [name for name in PLAYS.names if name not in self.file.schema_arrow.names]
        if missing:
            raise self._wrong(f"it lacks {missing[0]}")

    def _wrong(self, what: str) -> InputError:
        return InputError(
            f"{self.path} must be a parquet file with {', '.join(PLAYS.names)}, but {what}; "
            "make it with python 0_get_plays_pqt.py"
        )

    def groups(self, start: int, end: int) -> list[int]:
        """Return the row groups that may hold plays from `start` until `end`, in us since 1970."""
        found = []
        column = self.file.schema_arrow.names.index("timestamp")
        for group in range(self.file.metadata.num_row_groups):
            known = self.file.metadata.row_group(group).column(column).statistics
            if known is None or not known.has_min_max or not isinstance(known.min, datetime):
                found.append(group)
            elif micros(known.max) >= start and micros(known.min) < end:
                found.append(group)
        return found

    def rows(self, groups: list[int]) -> int:
        return sum(self.file.metadata.row_group(group).num_rows for group in groups)

    def read(self, groups: list[int], start: int, end: int) -> Iterator[np.ndarray]:
        """Yield the plays of the row groups from `start` until `end`."""
        for batch in self.file.iter_batches(BATCH, row_groups=groups, columns=PLAYS.names):
            table = pa.Table.from_batches([batch]).select(PLAYS.names)
            empty = [name for name in PLAYS.names if table[name].null_count]
            if empty:
                raise self._wrong(f"{empty[0]} has missing values")
            try:
                columns = table.cast(PLAYS)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise self._wrong(str(error)) from error
            times = columns["timestamp"].cast(pa.int64()).to_numpy()
            inside = (times >= start) & (times < end)
            users, tracks = columns["user_id"].to_numpy(), columns["track_idx"].to_numpy()
            yield np.stack([users[inside], tracks[inside], times[inside]], axis=1)

    def ends(self) -> tuple[datetime, datetime]:
        """Return the first and the last timestamp."""
        column = pq.read_table(self.path, columns=["timestamp"])["timestamp"].cast(PLAYS[2].type)
        found = pc.min_max(column).as_py()
        return found["min"], found["max"]


def read_pairs(
    plays: PlaysTable,
    train_from: date,
    test_from: date,
    test_until: date | None,
    scratch: Path,
    *,
    memory: int,
    threads: int,
) -> Iterator[pa.Table]:
    """Yield the pairs within the dates, ordered by user_id, track_idx, as tables `EARLY_PAIRS`.

    `timestamp` is the first play from train_from on. `early` says that it is before test_from;
    `count` are then the plays before test_from, else all plays before test_until.

    Args:
        scratch: an empty folder, which is empty again afterwards.
        memory, threads: bytes to use, about, and files sorted at a time; without influence on the
            result.
    """
    start, middle = micros(train_from), micros(test_from)
    end = micros(test_until) if test_until else np.iinfo(np.int64).max
    groups = plays.groups(start, end)
    at_once = max(1, min(SORTED, memory // (BYTES_A_PLAY * (threads + 1))))
    n_files = min(500, 1 + plays.rows(groups) // at_once)
    borders = _borders(plays.read(groups[:: 1 + len(groups) // SAMPLED], start, end), n_files)

    paths = [scratch / f"{number}.plays" for number in range(len(borders) + 1)]
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "wb")) for path in paths]
        for batch in plays.read(groups, start, end):
            number = np.searchsorted(borders, batch[:, 0], side="right").astype(np.uint16)
            batch = np.take(batch, np.argsort(number, kind="stable"), axis=0)
            ends = np.cumsum(np.bincount(number, minlength=len(files)))
            for file, first, last in zip(files, [0, *ends], ends, strict=False):
                batch[first:last].tofile(file)
    yield from map_in_threads(partial(_count_file, middle=middle), paths, threads)


def _borders(sample: Iterator[np.ndarray], n_files: int) -> np.ndarray:
    """Return the user ids, ascending, at which the next file begins: equal shares of the sample."""
    users = [np.zeros(0, np.int64), *(batch[::16, 0].copy() for batch in sample)]
    users = np.sort(np.concatenate(users))
    return np.unique(users[len(users) * np.arange(1, n_files) // n_files]) if len(users) else users


def _count_file(path: Path, middle: int) -> pa.Table:
    plays = np.fromfile(path, np.int64).reshape(-1, 3)
    path.unlink()
    return count_pairs(plays, middle)


def count_pairs(plays: np.ndarray, middle: int) -> pa.Table:
    """Return the pairs of the plays, ordered, as a table `EARLY_PAIRS`; see read_pairs."""
    if not len(plays):
        return EARLY_PAIRS.empty_table()
    order = np.argsort(_keys(plays[:, 0], plays[:, 1]))
    users, tracks, times = (np.take(column, order) for column in plays.T)
    new = (users[1:] != users[:-1]) | (tracks[1:] != tracks[:-1])
    starts = np.flatnonzero(np.append(True, new))
    first = np.minimum.reduceat(times, starts)
    before = np.add.reduceat(times < middle, starts, dtype=np.int64)
    early = first < middle
    counts = np.where(early, before, np.diff(starts, append=len(plays)))
    columns = [users[starts], tracks[starts], first, counts, early]
    return pa.table(dict(zip(EARLY_PAIRS.names, columns, strict=True))).cast(EARLY_PAIRS)


def _keys(users: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """Return int64 numbers in the order of (user, track): one sort instead of two."""
    width = int(tracks.max()) - int(tracks.min()) + 1
    if (int(users.max()) - int(users.min()) + 1) * width >= 2**63:
        users = np.unique(users, return_inverse=True)[1]
    return (users - users.min()) * width + (tracks - tracks.min())


def micros(moment: date | datetime) -> int:
    """Return microseconds since 1970."""
    return int(np.datetime64(moment, "us").astype(np.int64))
