"""Stage 1's work: plays to (user, track) pairs, and pairs to train, validation and test.

The rule is the study's. Of the plays from `train_from` on, a pair has the time of its first one. A
pair that was played before `test_from` is in train, with its plays before that day. A pair whose
first play comes later is held out if its user and its track are in train, with all its plays. Of
the held-out users some validate and the others test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from config import InputError
from streaming import TableFile

PAIRS = pa.schema(
    [
        ("user_id", pa.int64()),
        ("track_idx", pa.int32()),
        ("timestamp", pa.timestamp("us")),
        ("count", pa.int64()),
    ]
)
BATCH = 1 << 17  # rows handed over at a time


@dataclass(frozen=True)
class Window:
    """The dates of a split: train from `train_from`, held out from `test_from` to `test_until`.

    The first two days are included, the last one is not; without it the window ends with the log.
    """

    train_from: date
    test_from: date
    test_until: date | None

    @classmethod
    def parse(cls, train_from: str, test_from: str, test_until: str | None) -> Window:
        """Return the window of three dates YYYY-MM-DD, or raise InputError."""
        window = cls(
            _date("--train-from", train_from),
            _date("--test-from", test_from),
            None if test_until is None else _date("--test-until", test_until),
        )
        if window.test_from <= window.train_from:
            raise InputError(
                f"--test-from {test_from} must be later than --train-from {train_from}"
            )
        if window.test_until and window.test_until <= window.test_from:
            raise InputError(
                f"--test-until {test_until} must be later than --test-from {test_from}"
            )
        return window

    def __str__(self) -> str:
        return f"train from {self.train_from}, held out from {self.test_from}" + (
            f" until {self.test_until}" if self.test_until else ""
        )


def _date(flag: str, text: str) -> date:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise InputError(f"{flag} must be a date YYYY-MM-DD, got {text!r}")


class Part:
    """One part of the split while it is written: its file and what is in it."""

    def __init__(self, path: Path):
        self.file = TableFile(path, PAIRS)
        self.rows = self.plays = 0
        self.users = self.tracks = np.zeros(0, np.int64)

    def append(self, pairs: pa.Table) -> None:
        """Write the pairs and count them."""
        self.file.append(pairs)
        self.rows += len(pairs)
        self.plays += pc.sum(pairs["count"]).as_py() or 0
        self.users = np.union1d(self.users, pairs["user_id"].to_numpy())
        self.tracks = np.union1d(self.tracks, pairs["track_idx"].to_numpy())

    def __enter__(self) -> Part:
        self.file.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.file.__exit__(*error)

    def counts(self) -> dict[str, int]:
        return {
            "rows": self.rows,
            "users": len(self.users),
            "tracks": len(self.tracks),
            "plays": self.plays,
        }


def connect(scratch: Path, memory: int, threads: int | None) -> duckdb.DuckDBPyConnection:
    """Return a database in memory that spills to `scratch` beyond `memory` bytes."""
    limits = {"memory_limit": f"{memory}B", "temp_directory": str(scratch)}
    if threads:
        limits["threads"] = threads
    return duckdb.connect(config=limits | {"preserve_insertion_order": False})


def split_plays(
    database: duckdb.DuckDBPyConnection,
    plays: Path,
    window: Window,
    targets: dict[str, Path],
    scratch: Path,
    *,
    val_share: float,
    seed: int,
) -> dict[str, dict[str, int]]:
    """Write train, val and test, each with the schema `PAIRS`, ordered by user_id, track_idx.

    Args:
        plays: parquet with user_id, track_idx, timestamp; in any order.
        targets: the files to write, by part.
        scratch: an empty folder.
        val_share, seed: see `test_users`.

    Returns:
        rows, users, tracks and plays, by part.

    Raises:
        InputError: a part is empty.

    Source:
        Tamm and Aljanaki, RecSys '24; the numbers of its parts are in `tests/test_preprocess.py`.
    """
    late = scratch / "late.pqt"
    with Part(targets["train"]) as train, TableFile(late, PAIRS) as later:
        for pairs in read_pairs(database, plays, window):
            early = pairs["early"]
            pairs = pairs.drop_columns("early")
            train.append(pairs.filter(early))
            later.append(pairs.filter(pc.invert(early)))

    users = np.zeros(0, np.int64)
    for pairs in _known(late, train):
        users = np.union1d(users, pairs["user_id"].to_numpy())
    testing = test_users(users, val_share, seed)
    with Part(targets["val"]) as val, Part(targets["test"]) as test:
        for pairs in _known(late, train):
            tests = pa.array(np.isin(pairs["user_id"].to_numpy(), testing))
            test.append(pairs.filter(tests))
            val.append(pairs.filter(pc.invert(tests)))

    parts = {"train": train, "val": val, "test": test}
    empty = [name for name, part in parts.items() if not part.rows]
    if empty:
        first, last = first_and_last(database, plays)
        raise InputError(
            f"{' and '.join(empty)} would be empty: the log has plays from {first} to {last}, the "
            f"dates are {window}; choose others with --train-from, --test-from and --test-until"
        )
    return {name: part.counts() for name, part in parts.items()}


def read_pairs(database, plays: Path, window: Window) -> Iterator[pa.Table]:
    """Yield the pairs of the window, ordered by user_id, track_idx: `PAIRS` and early (bool).

    `early` says that the first play is before test_from; `count` are then the plays before it,
    else all plays.
    """
    test_from = f"TIMESTAMP '{window.test_from}'"
    until = f"AND timestamp < TIMESTAMP '{window.test_until}'" if window.test_until else ""
    relation = database.sql(
        f"""
        SELECT user_id, track_idx, min(timestamp) AS timestamp,
               CASE WHEN min(timestamp) < {test_from}
                    THEN count(*) FILTER (timestamp < {test_from}) ELSE count(*) END AS count,
               min(timestamp) < {test_from} AS early
        FROM read_parquet($plays)
        WHERE timestamp >= TIMESTAMP '{window.train_from}' {until}
        GROUP BY user_id, track_idx
        ORDER BY user_id, track_idx
        """,
        params={"plays": str(plays)},
    )
    schema = PAIRS.append(pa.field("early", pa.bool_()))
    for batch in relation.to_arrow_reader(BATCH):
        yield pa.Table.from_batches([batch]).cast(schema)


def first_and_last(database, plays: Path) -> tuple[datetime, datetime]:
    """Return the timestamps of the first and the last play."""
    query = "SELECT min(timestamp), max(timestamp) FROM read_parquet($plays)"
    return database.sql(query, params={"plays": str(plays)}).fetchall()[0]


def test_users(users: np.ndarray, val_share: float, seed: int) -> np.ndarray:
    """Return the users who test: of n users ceil((1 - val_share) n); the others validate.

    Args:
        users: distinct ids, ascending.
        val_share: between 0 and 1, taken as the decimal number it is written as: of 10 users a
            share of 0.7 leaves 3 for the test, where float arithmetic gives 4.
        seed: of the permutation whose first users test.

    Source:
        train_test_split of scikit-learn with test_size = 1 - val_share, which the study used.
    """
    count = math.ceil((1 - Decimal(str(val_share))) * len(users))
    # The legacy generator, because the published split was drawn from it.
    order = np.random.RandomState(seed).permutation(len(users))  # noqa: NPY002
    return users[order[:count]]


def _known(late: Path, train: Part) -> Iterator[pa.Table]:
    """Yield the pairs whose user and track are in train."""
    with pq.ParquetFile(late) as file:
        for batch in file.iter_batches(BATCH):
            users = np.isin(batch["user_id"].to_numpy(), train.users)
            tracks = np.isin(batch["track_idx"].to_numpy(), train.tracks)
            yield pa.Table.from_batches([batch]).filter(pa.array(users & tracks))
