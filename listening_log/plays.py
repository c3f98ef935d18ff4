"""Stage 0's work: the log's plays as one parquet file, and what their makers' records hold."""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.options import InputError
from listening_log.large_tables import TableFile, map_in_threads
from listening_log.log_blocks import LogStream, read_blocks
from listening_log.lookup import GrowingIds, KnownIds
from listening_log.parser import PLAYS, LogParser, Rejected

MERGE = 1 << 20  # user ids kept until those that stand twice are dropped
SHORTEST_ROW = len("1\tA\t2020-02-20 00:00:00\n")


@dataclass(frozen=True)
class Conversion:
    """What one pass over the log found.

    Attributes:
        rows: plays written.
        users, tracks: distinct ones among them.
        first, last: their first and last timestamp; without meaning when there are none.
        lines: lines of the log that were read, without the header and the empty ones.
        rejected: those of them that hold no usable play.
        ids: the track ids in the order of their numbers.
        unchecked: the log is packed without a checksum.
    """

    rows: int
    users: int
    tracks: int
    first: str
    last: str
    lines: int
    rejected: Rejected
    ids: list[str]
    unchecked: bool = False


def convert_log(
    log: Path,
    target: Path,
    ids: list[str] | None,
    *,
    block_bytes: int,
    threads: int = 2,
    max_rejected: float = 1.0,
    progress: Callable[[int], object] = lambda position: None,
) -> Conversion:
    """Write the log's usable plays to `target`, in the log's order.

    Holds a few blocks of the log at a time, whatever its size.

    Args:
        log: see parser.py.
        target: parquet file with the schema `PLAYS`.
        ids: the track ids; track_idx is the position. Without them every id that is found gets
            a number, in no promised order (see `renumber`).
        block_bytes, threads: size of the blocks and how many are parsed at a time; without
            influence on the result.
        max_rejected: share of unusable rows; once it is certain that there are more, the rest of
            the log is not read.
        progress: called with the bytes of the log file read so far.

    Raises:
        InputError: the log cannot be read, or its header lacks a column.
    """
    track_ids = GrowingIds() if ids is None else KnownIds(ids)
    contents, rejected, lines, rows = Contents(), Rejected(), 0, 0
    with (
        LogStream(log, threads) as stream,
        closing(read_blocks(stream, block_bytes, progress)) as blocks,
        TableFile(target, PLAYS) as file,
    ):
        start = next(blocks, b"")
        if not start:
            raise InputError(f"--log {log} is empty; expected a header and a play a line")
        header, _, first = start.partition(b"\n")
        parse = LogParser(log, header, track_ids).parse
        for parsed in map_in_threads(parse, chain([first], blocks), threads):
            rejected.add_all(parsed.rejected, lines + 2)  # line 1 is the header
            lines += parsed.lines
            rows += parsed.rows
            if len(parsed.plays):
                file.append(parsed.plays)
                contents.add(parsed.plays)
            left = stream.left() + (threads + 2) * block_bytes  # those blocks wait to be parsed
            if rejected.total > max_rejected * (rows + left / SHORTEST_ROW):
                break
    return Conversion(
        rows=contents.rows,
        users=contents.count_users(),
        tracks=int(contents.heard.sum()),
        first=str(contents.first),
        last=str(contents.last),
        lines=rows,
        rejected=rejected,
        ids=[value.decode() for value in track_ids.values.to_pylist()],
        unchecked=stream.unchecked,
    )


class Contents:
    """Counts of plays seen: rows, users, tracks (bool by track_idx), first and last timestamp."""

    def __init__(self):
        self.rows = 0
        self.heard = np.zeros(0, bool)
        self.first, self.last = datetime.datetime.max, datetime.datetime.min
        self._users: list[pa.Array] = []  # those of each table, until they are put together
        self._most = MERGE  # values in them until that happens

    def add(self, plays: pa.Table) -> None:
        """Count a table with the schema `PLAYS` that is not empty."""
        self.rows += len(plays)
        self._users.append(pc.unique(plays["user_id"]))
        if sum(map(len, self._users)) > self._most:
            self._most = self.count_users() + MERGE
        tracks = plays["track_idx"].to_numpy()
        self.heard = np.pad(self.heard, (0, max(0, tracks.max() + 1 - len(self.heard))))
        self.heard[tracks] = True
        ends = pc.min_max(plays["timestamp"]).as_py()
        self.first, self.last = min(self.first, ends["min"]), max(self.last, ends["max"])

    def count_users(self) -> int:
        """Return the number of distinct users."""
        users = pa.concat_arrays([pa.array([], pa.int64()), *self._users])
        self._users = [pc.unique(users)]
        return len(self._users[0])


def renumber(source: Path, target: Path, ids: list[str]) -> list[str]:
    """Copy plays whose track_idx counts `ids`, so that it counts the sorted ids; return those."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    rank = np.empty(len(ids), np.int32)
    rank[order] = np.arange(len(ids), dtype=np.int32)
    with TableFile(target, PLAYS) as file, pq.ParquetFile(source, pre_buffer=False) as plays:
        for batch in plays.iter_batches():
            tracks = pa.array(rank[batch["track_idx"].to_numpy()])
            file.append(pa.table([batch["user_id"], tracks, batch["timestamp"]], schema=PLAYS))
    return [ids[number] for number in order]


@contextmanager
def fingerprint(path: Path) -> Iterator[Callable[[], dict]]:
    """Hash the file in a thread while the block runs; yield a function that waits for the result.

    The result is {"path", "size", "mtime_ns", "sha256"}; a file that changed meanwhile is an
    InputError.
    """
    stop = threading.Event()
    before = _identity(path)

    def digest() -> str:
        sha = hashlib.sha256()
        with open(path, "rb") as file:
            while not stop.is_set() and (block := file.read(1 << 22)):
                sha.update(block)
        return sha.hexdigest()

    def result() -> dict:
        sha = hashing.result()
        if _identity(path) != before:
            raise InputError(f"{path} changed while it was read; run the same command again")
        return {"path": str(path), **before, "sha256": sha}

    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(digest)
        try:
            yield result
        finally:
            stop.set()


def is_same_file(path: Path, recorded: dict) -> bool:
    """Say whether the file is the recorded one: by size and time if they agree, else by content."""
    now = _identity(path)
    if now["size"] != recorded["size"]:
        return False
    if now["mtime_ns"] == recorded["mtime_ns"] and str(path) == recorded["path"]:
        return True
    with fingerprint(path) as result:
        return result()["sha256"] == recorded["sha256"]


def _identity(path: Path) -> dict:
    try:
        found = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
