"""An audit of a finished split: what a careful reviewer would ask of the files, asked of the files.

Each check is a query (DuckDB) over the parquet files that returns what is at fault. None uses the
code that made the split: the pairs are counted anew from data/plays.pqt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from config import InputError
from listening_log.parts import PAIRS

DAY = 86_400 // 30  # plays a day that are possible: 30 s is the shortest play services record


@dataclass(frozen=True)
class Finding:
    """What a check looked for, how many it found, and one of them.

    `fault` tells a fault of the split from a peculiarity of the log.
    """

    what: str
    rows: int
    example: str
    fault: bool

    def __str__(self) -> str:
        if not self.rows:
            return f"ok     no {self.what}"
        return f"{'FAULT' if self.fault else 'note':<6} {self.rows:,} {self.what}: {self.example}"


def check_split(
    database, data: Path, n_tracks: int, parts: list[str], config: dict
) -> Iterator[Finding]:
    """Yield a finding for each check of the split in the folder `data`.

    Args:
        database: a DuckDB connection, for this alone.
        n_tracks: track ids in trackid_sorted.csv.
        parts: what the split consists of, train first.
        config: the configuration in split.json.

    Raises:
        InputError: a file is missing.
    """
    for name in ("plays", *parts):
        if not (data / f"{name}.pqt").exists():
            maker = "0_get_plays_pqt.py" if name == "plays" else "1_train_test_split.py"
            raise InputError(f"{data}/{name}.pqt is missing; make it with python {maker}")
    for part in parts:
        schema = pq.read_schema(data / f"{part}.pqt").remove_metadata()
        other = "" if schema.equals(PAIRS) else str(schema).replace("\n", ", ")
        yield Finding(f"columns of {part}.pqt of another kind", int(bool(other)), other, True)
        if other:
            return
    for name in ("plays", *parts):
        path = str(data / f"{name}.pqt").replace("'", "''")
        database.execute(
            f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}', file_row_number = true)"
        )
    database.execute(_pairs(config))
    for what, query in _of_each_file(parts, n_tracks):
        yield _find(database, what, query)
    for what, query in _between_files(parts):
        yield _find(database, what, query)
    for what, query in _against_plays(parts, config):
        yield _find(database, what, query)
    for what, query in _of_the_log():
        yield _find(database, what, query, fault=False)


def _find(database, what: str, query: str, fault: bool = True) -> Finding:
    rows = database.sql(f"SELECT count(*) OVER (), * FROM ({query}) ORDER BY ALL LIMIT 1")
    found = rows.fetchall()
    if not found:
        return Finding(what, 0, "", fault)
    n, *values = found[0]
    named = zip(rows.columns[1:], values, strict=True)
    example = ", ".join(f"{name} {value}" for name, value in named)
    return Finding(what, n, f"for example {example}", fault)


def _pairs(config: dict) -> str:
    """Count every pair of the window from the plays: in all, and before test_from."""
    test_from, until = f"TIMESTAMP '{config['test_from']}'", config["test_until"]
    return f"""
        CREATE TABLE pairs AS
        SELECT user_id, track_idx, min(timestamp) AS first, count(*) AS plays,
               sum(CASE WHEN timestamp < {test_from} THEN 1 ELSE 0 END) AS plays_before
        FROM plays
        WHERE timestamp >= TIMESTAMP '{config["train_from"]}'
              {f"AND timestamp < TIMESTAMP '{until}'" if until else ""}
        GROUP BY user_id, track_idx
    """


def _of_each_file(parts: list[str], n_tracks: int) -> Iterator[tuple[str, str]]:
    for name in ("plays", *parts):
        yield (
            f"ids of {name}.pqt missing or outside trackid_sorted.csv",
            f"""SELECT user_id, track_idx, timestamp FROM {name}
                WHERE user_id IS NULL OR track_idx IS NULL OR timestamp IS NULL
                      OR track_idx < 0 OR track_idx >= {n_tracks}""",
        )
    for part in parts:
        yield (
            f"pairs that {part}.pqt holds more than once",
            f"""SELECT user_id, track_idx, count(*) AS times FROM {part}
                GROUP BY ALL HAVING times > 1""",
        )
        yield (
            f"rows of {part}.pqt out of order",
            f"""SELECT file_row_number AS row, user_id, track_idx FROM (
                SELECT *, lag((user_id, track_idx)) OVER (ORDER BY file_row_number) AS before
                FROM {part}) WHERE before > (user_id, track_idx)""",
        )
        yield (
            f"counts of {part}.pqt below 1",
            f"SELECT user_id, track_idx, count FROM {part} WHERE count IS NULL OR count < 1",
        )


def _between_files(parts: list[str]) -> Iterator[tuple[str, str]]:
    for part in parts[1:]:
        yield (
            f"pairs of {part}.pqt that train.pqt holds too",
            f"SELECT user_id, track_idx FROM {part} SEMI JOIN train USING (user_id, track_idx)",
        )
        yield (
            f"users of {part}.pqt who are not in train.pqt",
            f"SELECT DISTINCT user_id FROM {part} ANTI JOIN train USING (user_id)",
        )
        if part != "val":
            yield (
                f"users of {part}.pqt who validate",
                f"SELECT DISTINCT user_id FROM {part} SEMI JOIN val USING (user_id)",
            )
        known = part == "cold_test"
        yield (
            f"tracks of {part}.pqt that are {'' if known else 'not '}in train.pqt",
            f"""SELECT DISTINCT track_idx FROM {part}
                {"SEMI" if known else "ANTI"} JOIN train USING (track_idx)""",
        )


def _against_plays(parts: list[str], config: dict) -> Iterator[tuple[str, str]]:
    middle = config["test_from"]
    for part in parts:
        first, end = (
            (config["train_from"], middle) if part == "train" else (middle, config["test_until"])
        )
        late = f"OR timestamp >= TIMESTAMP '{end}'" if end else ""
        yield (
            f"first plays of {part}.pqt outside its dates",
            f"""SELECT user_id, track_idx, timestamp FROM {part}
                WHERE timestamp < TIMESTAMP '{first}' {late}""",
        )
        column = "plays_before" if part == "train" else "plays"
        yield (
            f"rows of {part}.pqt whose count or first play plays.pqt contradicts",
            f"""SELECT user_id, track_idx, count, {column} AS counted, timestamp, first
                FROM {part} LEFT JOIN pairs USING (user_id, track_idx)
                WHERE count IS DISTINCT FROM {column} OR timestamp IS DISTINCT FROM first""",
        )
    yield (
        "pairs played in the time of train that train.pqt lacks",
        """SELECT user_id, track_idx FROM (SELECT * FROM pairs WHERE plays_before > 0)
           ANTI JOIN train USING (user_id, track_idx)""",
    )
    held_out = " UNION ALL ".join(f"SELECT user_id, track_idx FROM {part}" for part in parts[1:])
    hot = "" if "cold_test" in parts else "SEMI JOIN train AS t USING (track_idx)"
    yield (
        "later pairs of users (and tracks) of train that no part holds",
        f"""SELECT user_id, track_idx FROM (SELECT * FROM pairs WHERE plays_before = 0)
            SEMI JOIN train USING (user_id) {hot}
            ANTI JOIN ({held_out}) AS held USING (user_id, track_idx)""",
    )


def _of_the_log() -> Iterator[tuple[str, str]]:
    yield (
        "plays that plays.pqt holds more than once",
        """SELECT user_id, track_idx, timestamp, count(*) AS times FROM plays
           GROUP BY ALL HAVING times > 1""",
    )
    yield (
        f"days on which a user has more than {DAY:,} plays, one in 30 s",
        f"""SELECT user_id, CAST(timestamp AS DATE) AS day, count(*) AS plays FROM plays
            GROUP BY ALL HAVING plays > {DAY}""",
    )
