"""Stage 0's work: the log's plays as one parquet file, and what their makers' records hold."""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.downloads import read_download
from core.options import InputError
from listening_log.fields import read_text_user
from listening_log.large_tables import TableFile
from listening_log.lookup import GrowingIds, KnownIds
from listening_log.parser import PLAYS, Rejected
from listening_log.readers import Reader
from listening_log.shapes import ONION, Shape
from listening_log.sources import open_source, parts_of, time_format

MERGE = 1 << 20  # user ids kept until those that stand twice are dropped


@dataclass(frozen=True)
class Conversion:
    """What one pass over the log found.

    Attributes:
        rows: plays written.
        users, tracks: distinct ones among them.
        first, last: their first and last timestamp; without meaning when there are none.
        lines: rows of the log that were read, without headers and empty lines.
        rejected: those of them that hold no usable play.
        ids: the track ids in the order of their numbers.
        unchecked: the log is packed without a checksum.
        left_out: plays of less than --min-played.
        time_format: as times.py names it.
        user_ids: where users are text, the ids by their number in the file that was written.
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
    left_out: int = 0
    time_format: str = "iso"
    user_ids: list[str] | None = None


def convert_log(
    log: Path,
    target: Path,
    ids: list[str] | None,
    *,
    block_bytes: int,
    threads: int = 2,
    max_rejected: float = 1.0,
    progress: Callable[[int], object] = lambda position: None,
    shape: Shape = ONION,
) -> Conversion:
    """Write the log's usable plays to `target`, in the log's order.

    Holds a few blocks of the log at a time, whatever its size.

    Args:
        log: a file, or a folder of parts; see parser.py.
        target: parquet file with the schema `PLAYS`.
        ids: the track ids; track_idx is the position. Without them every id that is found gets
            a number, in no promised order (see `renumber`). So do users who are text.
        block_bytes, threads: size of the blocks and how many are parsed at a time; without
            influence on the result.
        max_rejected: share of unusable rows; once it is certain that there are more, the rest of
            the log is not read.
        progress: called with the bytes of the log's files read so far.
        shape: how the log is laid out.

    Raises:
        InputError: the log cannot be read, or a column is missing.
    """
    track_ids = GrowingIds() if ids is None else KnownIds(ids)
    user_ids = GrowingIds(is_one=read_text_user) if shape.text_users else None
    parts = parts_of(log)
    kind = time_format(parts, shape)
    reader = Reader(shape, kind, track_ids.grow)
    make = {"reader": reader, "ids": track_ids, "users": user_ids}
    contents, rejected, rows, left_out = Contents(), Rejected(), 0, 0
    unchecked, before, too_many = False, 0, False
    with TableFile(target, PLAYS) as file:
        for part in parts:
            name = part.name if len(parts) > 1 else ""
            with open_source(part, shape, threads) as source:
                unchecked |= source.unchecked
                done, lines = partial(_beyond, progress, before), 0
                with closing(source.parsed(make, block_bytes, done)) as blocks:
                    for parsed in blocks:
                        rejected.add_all(parsed.rejected, lines + source.first, name)
                        lines += parsed.lines
                        rows += parsed.rows
                        left_out += parsed.left_out
                        if len(parsed.plays):
                            file.append(parsed.plays)
                            contents.add(parsed.plays)
                        left = source.left(block_bytes) if part == parts[-1] else float("inf")
                        too_many = rejected.total > max_rejected * (rows + left)
                        if too_many:
                            break
            before += part.stat().st_size
    return Conversion(
        rows=contents.rows,
        users=contents.count_users(),
        tracks=int(contents.heard.sum()),
        first=str(contents.first),
        last=str(contents.last),
        lines=rows,
        rejected=rejected,
        ids=_decoded(track_ids.values),
        unchecked=unchecked,
        left_out=left_out,
        time_format=kind,
        user_ids=None if user_ids is None else _decoded(user_ids.values),
    )


def _beyond(progress: Callable[[int], object], before: int, position: int) -> None:
    progress(before + position)


def _decoded(values) -> list[str]:
    values = values if isinstance(values, list) else values.to_pylist()
    return [value.decode() for value in values]


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


def renumber(
    source: Path,
    target: Path,
    ids: list[str] | None,
    user_ids: list[str] | None = None,
) -> list[str] | None:
    """Copy plays so that track_idx, which counts `ids`, counts the sorted ids; return those.

    Args:
        ids: None for tracks that keep their numbers.
        user_ids: where they are text, the ids that user_id counts. It then counts those of them
            that have plays, sorted; see `played_users`.
    """
    rank = None if ids is None else _ranks(ids)
    user_rank = None if user_ids is None else _ranks(played_users(source, user_ids), user_ids)
    with TableFile(target, PLAYS) as file, pq.ParquetFile(source, pre_buffer=False) as plays:
        for batch in plays.iter_batches():
            users, tracks = batch["user_id"], batch["track_idx"]
            if rank is not None:
                tracks = pa.array(rank[tracks.to_numpy()].astype(np.int32))
            if user_rank is not None:
                users = pa.array(user_rank[users.to_numpy()])
            file.append(pa.table([users, tracks, batch["timestamp"]], schema=PLAYS))
    return None if ids is None else sorted(ids)


def played_users(plays: Path, user_ids: list[str]) -> list[str]:
    """Return the ids that user_id of the plays counts and finds, by code point."""
    played = np.zeros(len(user_ids), bool)
    with pq.ParquetFile(plays, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=["user_id"]):
            played[batch["user_id"].to_numpy()] = True
    return sorted(user_ids[number] for number in np.flatnonzero(played))


def _ranks(ordered: list[str], ids: list[str] | None = None) -> np.ndarray:
    """Return for each of the ids its place among those that are ordered (int64; 0 without one)."""
    if ids is None:
        ids, ordered = ordered, sorted(ordered)
    places = {value: place for place, value in enumerate(ordered)}
    return np.array([places.get(value, 0) for value in ids], np.int64)


@contextmanager
def fingerprint(path: Path) -> Iterator[Callable[[], dict]]:
    """Hash the file in a thread while the block runs; yield a function that waits for the result.

    The result is {"path", "size", "mtime_ns", "sha256"}, of a folder of its parts, one after the
    other; what changed meanwhile is an InputError.
    """
    stop = threading.Event()
    before = _identity(path)

    def digest() -> str:
        sha = hashlib.sha256()
        for part in parts_of(path):
            with open(part, "rb") as file:
                while not stop.is_set() and (block := file.read(1 << 22)):
                    sha.update(block)
        return sha.hexdigest()

    def result() -> dict:
        sha = hashing.result()
        if _identity(path) != before:
            raise InputError(f"{path} changed while it was read; run the same command again")
        if path.is_file():
            read_download(path, sha)
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
        found = [part.stat() for part in parts_of(path)]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    size, changed = sum(f.st_size for f in found), max(f.st_mtime_ns for f in found)
    return {"size": size, "mtime_ns": changed}
