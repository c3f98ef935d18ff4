"""Tables larger than memory: parquet files written piece by piece, scratch folders, limits."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.options import InputError

MOST_THREADS = 8  # more do not help: one thread reads and one writes
OWN = 200_000_000  # bytes that the interpreter, its libraries and what is being written take
LEAST = OWN + 100_000_000  # bytes: with less the work does not go on
ROW_GROUP = 1 << 18  # rows; fixed, because the bytes of a file depend on it


class TableFile:
    """Writes tables one after the other; equal rows give equal bytes, however they were cut.

    Example:
        >>> with TableFile(path, schema) as file:
        ...     file.append(table)
    """

    def __init__(self, path: Path, schema: pa.Schema):
        # Packed differences are as small as compressed values, and faster both ways.
        self.writer = pq.ParquetWriter(
            path,
            schema,
            compression="none",
            use_dictionary=False,
            column_encoding=dict.fromkeys(schema.names, "DELTA_BINARY_PACKED"),
        )
        self.waiting: list[pa.Table] = []
        self.rows = 0  # that wait

    def __enter__(self) -> TableFile:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None and self.rows:
            self._write_group(pa.concat_tables(self.waiting))
        self.writer.close()

    def append(self, table: pa.Table) -> None:
        """Take the rows; they are written as soon as they fill a row group."""
        self.waiting.append(table)
        self.rows += len(table)
        if self.rows >= ROW_GROUP:
            table = pa.concat_tables(self.waiting)
            while len(table) >= ROW_GROUP:
                self._write_group(table.slice(0, ROW_GROUP))
                table = table.slice(ROW_GROUP)
            self.waiting, self.rows = [table], len(table)

    def _write_group(self, table: pa.Table) -> None:
        # One chunk a column: pages are cut at the ends of chunks.
        self.writer.write_table(table.combine_chunks(), row_group_size=ROW_GROUP)


def map_in_threads(function: Callable, items: Iterable, threads: int) -> Iterator:
    """Yield function(item) in the order of the items, of which few are held at a time."""
    waiting: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextlib.contextmanager
def scratch_folder(data: Path) -> Iterator[Path]:
    """Yield an empty folder below `data` that is removed at the end.

    Its name is fixed and its user alone (see core.artifacts.exclusive), so that what a killed
    process left in it is removed by the next one, whichever stage that is.
    """
    path = data / ".scratch.tmp"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def memory_bytes(text: str) -> int:
    """Return the bytes of a size such as '2GB', '500 MB' or '1.5GiB'."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", text.strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"--memory must be a size such as 2GB or 500MB, got {text!r}")
    number, unit, binary = match.groups()
    size = int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit.upper()) + 1))
    if size < LEAST:
        raise InputError(f"--memory must be at least {LEAST // 10**6}MB, got {text}")
    return size


def thread_count(threads: int | None) -> int:
    """Return the number of threads to use: as many as asked for, or without that one a core."""
    if threads is not None and threads < 1:
        raise InputError(f"--threads must be at least 1, got {threads}")
    return min(threads or len(os.sched_getaffinity(0)), MOST_THREADS)
