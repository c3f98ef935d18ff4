"""The queries of the audit: each returns what is at fault, with enough of it for an example.

They read the views `plays` and one for each part, with a file_row_number, and the table `pairs`.
"""

from __future__ import annotations

from collections.abc import Iterator

DAY = 86_400 // 30  # plays a day that are possible: 30 s is the shortest play services record
UNSET = "1971-01-01"  # a play before it was dated by a clock that had not been set


def count_pairs(config: dict) -> str:
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


def of_each_file(parts: list[str], n_tracks: int) -> Iterator[tuple[str, str]]:
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
            f"users of {part}.pqt with more tracks than trackid_sorted.csv has",
            f"""SELECT user_id, count(*) AS tracks FROM {part}
                GROUP BY user_id HAVING tracks > {n_tracks}""",
        )
        yield (
            f"counts of {part}.pqt below 1",
            f"SELECT user_id, track_idx, count FROM {part} WHERE count IS NULL OR count < 1",
        )


def between_files(
    parts: list[str], *, by_time: bool = False, seen_again: bool = False
) -> Iterator[tuple[str, str]]:
    for part in parts[1:]:
        if not seen_again:
            yield (
                f"pairs of {part}.pqt that train.pqt holds too",
                f"SELECT user_id, track_idx FROM {part} SEMI JOIN train USING (user_id, track_idx)",
            )
        yield (
            f"users of {part}.pqt who are not in train.pqt",
            f"SELECT DISTINCT user_id FROM {part} ANTI JOIN train USING (user_id)",
        )
        if part != "val" and not by_time:
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


def against_plays(parts: list[str], config: dict) -> Iterator[tuple[str, str]]:
    for part in parts:
        first, end = _dates(part, config)
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


def against_windows(
    windows: dict, by_time: bool, seen_again: bool, core: int
) -> Iterator[tuple[str, str]]:
    """What the plays of each window of time say against its part, both ways."""
    known = "SEMI JOIN train USING (user_id) SEMI JOIN train AS t USING (track_idx)"
    held = {"val": "val", "test": "test"}
    if not by_time:
        held = {"test": "(SELECT * FROM val UNION ALL SELECT * FROM test)"}
    for part, table in {"train": "train", **held}.items():
        start, end = windows[part]
        expected = f"""SELECT user_id, track_idx, min(timestamp)::TIMESTAMP AS timestamp,
                              count(*) AS count
                       FROM plays WHERE {_within(start, end)} GROUP BY user_id, track_idx"""
        if part != "train":
            expected = f"SELECT * FROM ({expected}) {known}"
            if not seen_again:
                before = _within(windows["train"][0], start)
                expected += f""" ANTI JOIN (SELECT user_id, track_idx FROM plays WHERE {before})
                                 AS before USING (user_id, track_idx)"""
        elif core:
            expected = f"SELECT * FROM ({expected}) {known}"
        columns = f"SELECT user_id, track_idx, timestamp, count FROM {table} AS part"
        yield f"rows of {part} that plays.pqt contradicts", f"{columns} EXCEPT ({expected})"
        yield f"pairs of plays.pqt that {part} lacks", f"({expected}) EXCEPT {columns}"
    for one, other in (("user_id", "track_idx"), ("track_idx", "user_id")):
        yield (
            f"values of {one} in train.pqt below --core {core}",
            f"""SELECT {one}, count(DISTINCT {other}) AS n FROM train
                GROUP BY {one} HAVING n < {core}""",
        )


def _within(start: str | None, end: str | None) -> str:
    bounds = ((">=", start), ("<", end))
    given = [f"timestamp {sign} TIMESTAMP '{when}'" for sign, when in bounds if when]
    return " AND ".join(given) or "true"


def of_the_plays(parts: list[str], config: dict, dated: bool = True) -> Iterator[tuple[str, str]]:
    """What is odd in a log, and may be so."""
    yield (
        "plays that plays.pqt holds more than once",
        """SELECT user_id, track_idx, timestamp, count(*) AS times FROM plays
           GROUP BY ALL HAVING times > 1""",
    )
    if dated:
        yield (
            f"plays dated before {UNSET}",
            f"""SELECT user_id, track_idx, timestamp FROM plays
                WHERE timestamp < TIMESTAMP '{UNSET}'""",
        )
    yield (
        f"days on which a user has more than {DAY:,} plays, one in 30 s",
        f"""SELECT user_id, CAST(timestamp AS DATE) AS day, count(*) AS plays FROM plays
            GROUP BY ALL HAVING plays > {DAY}""",
    )
    for part in parts:
        first, end = _dates(part, config)
        end = f"DATE '{end}'" if end else "(SELECT max(timestamp)::DATE + 1 FROM plays)"
        possible = f"{DAY} * date_diff('day', DATE '{first}', {end})"
        yield (
            f"users of {part}.pqt with more plays than fit into its dates",
            f"""SELECT user_id, sum(count) AS plays FROM {part}
                GROUP BY user_id HAVING plays > {possible}""",
        )
        yield (
            f"tracks of {part}.pqt with more plays than its users can fit into its dates",
            f"""SELECT track_idx, sum(count) AS plays, count(DISTINCT user_id) AS users FROM {part}
                GROUP BY track_idx HAVING plays > users * {possible}""",
        )


def _dates(part: str, config: dict) -> tuple[str, str | None]:
    """Return the part's first day and the day after its last."""
    if part == "train":
        return config["train_from"], config["test_from"]
    return config["test_from"], config["test_until"]
