"""An audit of a finished split: what a careful reviewer would ask of the files, asked of the files.

None of it uses the code that made the split: the pairs are counted anew from data/plays.pqt, and
the users who validate are drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.artifacts import sha256
from core.days import RELATIVE
from core.options import InputError
from listening_log import checks
from listening_log.pairs import PlaysTable, literally
from listening_log.rules import HELD_OUT
from listening_log.split_files import PAIRS


@dataclass(frozen=True)
class Finding:
    """What a check looked for, how many it found, and one of them.

    `fault` tells a fault of the split from a peculiarity of the log.
    """

    what: str
    rows: int
    example: str
    fault: bool = True

    def __str__(self) -> str:
        if not self.rows:
            return f"ok     no {self.what}"
        return f"{'FAULT' if self.fault else 'note':<6} {self.rows:,} {self.what}: {self.example}"


def check_split(database, data: Path, n_tracks: int, made: dict) -> Iterator[Finding]:
    """Yield a finding for each check of the split in the folder `data`.

    Args:
        database: a DuckDB connection, for this alone.
        n_tracks: track ids in trackid_sorted.csv.
        made: the content of split.json: `config`, and `sha256` of each part, train first; of a
            rule that is not plain also `windows`, `validation`, `seen`, `core`.

    Raises:
        InputError: a file is missing, or plays.pqt is of another kind.
    """
    config, windows = made["config"], "windows" in made
    parts = [part for part in made["sha256"] if part != HELD_OUT]
    for name in ("plays", *parts):
        if not (data / f"{name}.pqt").exists():
            maker = "0_get_plays_pqt.py" if name == "plays" else "1_train_test_split.py"
            raise InputError(f"{data}/{name}.pqt is missing; make it with python {maker}")
    PlaysTable(data / "plays.pqt")
    changed = [
        part
        for part, digest in made["sha256"].items()
        if not (data / f"{part}.pqt").exists() or sha256(data / f"{part}.pqt") != digest
    ]
    yield Finding("files that have changed since the split was made", len(changed), str(changed))
    for part in parts:
        other = _other_columns(data / f"{part}.pqt")
        yield Finding(f"columns of {part}.pqt of another kind", int(bool(other)), other)
        if other:
            return
    for name in ("plays", *parts):
        path = literally(data / f"{name}.pqt")
        database.execute(
            f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}', file_row_number = true)"
        )
    for what, query in checks.of_each_file(parts, n_tracks):
        yield _find(database, what, query)
    by_time, seen_again = made.get("validation") == "time", made.get("seen") == "keep"
    for what, query in checks.between_files(parts, by_time=by_time, seen_again=seen_again):
        yield _find(database, what, query)
    if windows:
        found = checks.against_windows(made["windows"], by_time, seen_again, made["core"])
    else:
        database.execute(checks.count_pairs(config))
        found = checks.against_plays(parts, config)
    for what, query in found:
        yield _find(database, what, query)
    if not by_time:
        yield _drawn(database, parts, config)
    dated = made.get("times") != RELATIVE
    for what, query in checks.of_the_plays([] if windows else parts, config, dated):
        yield _find(database, what, query, fault=False)


def _other_columns(path: Path) -> str:
    """Return what the file holds in place of `PAIRS`; nothing if it holds those."""
    try:
        schema = pq.read_schema(path).remove_metadata()
    except (pa.ArrowInvalid, OSError) as error:
        return str(error)
    return "" if schema.equals(PAIRS) else str(schema).replace("\n", ", ")


def _find(database, what: str, query: str, fault: bool = True) -> Finding:
    rows = database.sql(f"SELECT count(*) OVER (), * FROM ({query}) ORDER BY ALL LIMIT 1")
    found = rows.fetchall()
    if not found:
        return Finding(what, 0, "", fault)
    n, *values = found[0]
    named = zip(rows.columns[1:], values, strict=True)
    example = ", ".join(f"{name} {value}" for name, value in named)
    return Finding(what, n, f"for example {example}", fault)


def _drawn(database, parts: list[str], config: dict) -> Finding:
    """Draw the users who validate from all who could, and compare."""
    query = "SELECT user_id FROM val UNION SELECT user_id FROM test"
    if "cold_test" in parts:
        query = f"SELECT user_id FROM ({query}) ANTI JOIN cold_test USING (user_id)"
    users = database.sql(f"{query} ORDER BY user_id").fetchnumpy()["user_id"]
    tests = math.ceil((1 - Fraction(str(config["val_share"]))) * len(users))
    # The legacy generator, because the published split was drawn from it.
    order = np.random.RandomState(config["seed"]).permutation(len(users))  # noqa: NPY002
    found = database.sql("SELECT DISTINCT user_id FROM val").fetchnumpy()["user_id"]
    other = np.setxor1d(users[order[tests:]], found)
    example = f"for example user_id {other[0]}" if len(other) else ""
    return Finding("users who validate or test against the draw of --seed", len(other), example)
