"""Plays to (user, track) pairs, ordered, with DuckDB, in memory that does not grow with the plays.

The plays within the dates are first laid out on disk by ranges of user ids; then each range is
grouped and sorted by itself. The pairs of the ranges, one after the other, are in order.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from core.artifacts import is_full
from core.options import InputError
from listening_log.parser import PLAYS
from listening_log.split_files import PAIRS

EARLY_PAIRS = PAIRS.append(pa.field("early", pa.bool_()))
WINDOW_PAIRS = PAIRS.append(pa.field("window", pa.int32())).append(pa.field("new", pa.int32()))
BATCH = 1 << 17  # rows handed over at a time
RANGE = 4_000_000  # plays grouped at a time, about
# What a file that no longer is what was written makes DuckDB say.
DAMAGE = (
    *(duckdb.InvalidInputException, duckdb.ConversionException, duckdb.SerializationException),
    *(duckdb.IOException, duckdb.OutOfRangeException, duckdb.DataError),
)


class PlaysTable:
    """The plays of a parquet file with user_id, track_idx and timestamp, in any order.

    Raises:
        InputError: no parquet file, a column is missing or of another kind, or has gaps.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
        except (pa.ArrowInvalid, OSError) as error:
            raise self._wrong(str(error)) from error
        for name, is_kind in zip(PLAYS.names, (_is_integer, _is_integer, _is_time), strict=True):
            if name not in schema.names:
                raise self._wrong(f"it lacks {name}")
            if not is_kind(schema.field(name).type):
                raise self._wrong(f"{name} is of type {schema.field(name).type}")

    def _wrong(self, what: str) -> InputError:
        return InputError(
            f"{self.path} must be a parquet file with {', '.join(PLAYS.names)}, but {what}; "
            "make it with python 0_get_plays_pqt.py"
        )

    def ends(self) -> tuple[datetime, datetime]:
        """Return the first and the last timestamp."""
        with duckdb.connect() as database:
            return self._ask(
                database,
                "SELECT min(timestamp)::TIMESTAMP, max(timestamp)::TIMESTAMP "
                f"FROM read_parquet('{literally(self.path)}')",
            )

    def _ask(self, database, query: str) -> tuple:
        with self.readable():
            return database.execute(query).fetchone()

    @contextlib.contextmanager
    def readable(self):
        """Turn what DuckDB says of a damaged file into an InputError that names it."""
        try:
            yield
        except DAMAGE as error:
            if is_full(error):
                raise
            raise self._wrong(str(error)) from error

    def check_rows(self, database) -> tuple[int, int, int]:
        """Return rows, least and greatest user_id, or raise InputError for what is no play."""
        missing = ", ".join(f"count(*) - count({name})" for name in PLAYS.names)
        counts = "count(*), min(user_id), max(user_id), min(track_idx), max(track_idx)"
        query = f"SELECT {counts}, {missing} FROM read_parquet('{literally(self.path)}')"
        rows, low, high, least, most, *gaps = self._ask(database, query)
        for name, gap in zip(PLAYS.names, gaps, strict=True):
            if gap:
                raise self._wrong(f"{name} has missing values")
        if rows and not -(2**63) <= low <= high < 2**63:
            raise self._wrong(f"user_id runs from {low} to {high}, beyond 64 bits with a sign")
        if rows and not (0 <= least and most < 2**31):
            raise self._wrong(f"track_idx runs from {least} to {most}")
        return rows, low, high


def connect(scratch: Path, memory: int, threads: int) -> duckdb.DuckDBPyConnection:
    """Return a database in memory that spills to `scratch` beyond `memory` bytes."""
    return duckdb.connect(
        config={
            "memory_limit": f"{memory}B",
            "temp_directory": str(scratch),
            "threads": threads,
            "preserve_insertion_order": False,
        }
    )


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
        memory, threads: bytes and threads to use; without influence on the result.
    """
    limits = {"memory": memory, "threads": threads}
    ends = (train_from, test_until)
    yield from _by_ranges(plays, ends, _early_pairs(test_from), EARLY_PAIRS, scratch, **limits)


def read_windows(
    plays: PlaysTable,
    ends: tuple[datetime | None, datetime | None],
    edges: list[datetime],
    scratch: Path,
    *,
    memory: int,
    threads: int,
) -> Iterator[pa.Table]:
    """Yield a row for each pair and window of time, by user_id, track_idx, window: `WINDOW_PAIRS`.

    `timestamp` and `count` are the first play and the plays in the window; `new` is 1 if the pair
    was not played in an earlier one, else 0 (files are packed as integers).

    Args:
        ends: the first moment and the one after the last; None for all plays.
        edges: where windows end, which count from 0: the first before edges[0]; an empty one has
            no rows.
        scratch, memory, threads: see read_pairs.
    """
    limits = {"memory": memory, "threads": threads}
    yield from _by_ranges(plays, ends, _window_pairs(edges), WINDOW_PAIRS, scratch, **limits)


def _by_ranges(
    plays: PlaysTable,
    ends,
    select: str,
    schema: pa.Schema,
    scratch: Path,
    memory: int,
    threads: int,
) -> Iterator[pa.Table]:
    """Yield what the query finds in the plays, a range of user ids at a time."""
    with connect(scratch, memory, threads) as database:
        rows, low, high = plays.check_rows(database)
        n_ranges = max(1, -(-rows // RANGE))
        bounds = zip((">=", "<"), ends, strict=True)
        within = " AND ".join(
            f"timestamp {sign} TIMESTAMP '{end}'" for sign, end in bounds if end is not None
        )
        folder = scratch / "ranges"
        plays_between = f"""
            COPY (
                SELECT user_id::BIGINT AS user_id, track_idx::INTEGER AS track_idx,
                       timestamp::TIMESTAMP AS timestamp,
                       ((user_id::HUGEINT - {low or 0}) * {n_ranges}
                           // ({high or 0}::HUGEINT - {low or 0} + 1))::INTEGER AS range
                FROM read_parquet('{literally(plays.path)}') WHERE {within or "true"}
            ) TO '{_quoted(folder)}' (FORMAT parquet, PARTITION_BY (range), COMPRESSION snappy)
        """
        with plays.readable():
            database.execute(plays_between)
        for number in range(n_ranges):
            files = folder / f"range={number}"
            if files.exists():
                query = select.format(files=f"{literally(files)}/*.parquet")
                for batch in database.sql(query).to_arrow_reader(BATCH):
                    yield pa.Table.from_batches([batch]).cast(schema)
                shutil.rmtree(files)
        shutil.rmtree(folder, ignore_errors=True)


def _early_pairs(test_from: date) -> str:
    before = f"timestamp < TIMESTAMP '{test_from}'"
    return f"""
        SELECT user_id, track_idx, min(timestamp) AS timestamp,
               CASE WHEN bool_or({before}) THEN count(*) FILTER ({before}) ELSE count(*) END
                   AS count,
               bool_or({before}) AS early
        FROM read_parquet('{{files}}', hive_partitioning = false)
        GROUP BY user_id, track_idx ORDER BY user_id, track_idx
    """


def _window_pairs(edges: list[datetime]) -> str:
    cases = " ".join(
        f"WHEN timestamp < TIMESTAMP '{edge}' THEN {number}" for number, edge in enumerate(edges)
    )
    return f"""
        SELECT user_id, track_idx, min(timestamp) AS timestamp, count(*) AS count, span AS window,
               span = min(span) OVER (PARTITION BY user_id, track_idx) AS new
        FROM (SELECT *, CASE {cases} ELSE {len(edges)} END AS span
              FROM read_parquet('{{files}}', hive_partitioning = false))
        GROUP BY user_id, track_idx, span ORDER BY user_id, track_idx, span
    """


def _quoted(path: Path) -> str:
    """Return the path as it stands between quotes in SQL; COPY takes no parameters.

    Raises:
        InputError: DuckDB would look for it elsewhere.
    """
    if "\\" in str(path):
        raise InputError(
            f"{path} holds a backslash, which DuckDB takes for a slash; rename the folder"
        )
    return str(path).replace("'", "''")


def literally(path: Path) -> str:
    """Return the path so that read_parquet takes it for itself, not for a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", _quoted(path))


def _is_integer(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind)


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) and kind.tz is None
