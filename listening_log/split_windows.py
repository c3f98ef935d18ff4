"""A split by any rule: validation by time, gaps, tracks heard again, a core of train.

Train, validation and test are windows of time, with gaps between them. A pair is held out in a
window if it is played there; with `seen` drop only if it was never played before. Its user must be
in train, and its track too. Without a time of their own, users who validate are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.options import InputError
from listening_log.large_tables import TableFile
from listening_log.pairs import WINDOW_PAIRS, PlaysTable, read_windows
from listening_log.rules import HELD_OUT, Rule
from listening_log.split_files import PAIRS, Part, contains
from listening_log.split_plays import BATCH, test_users

TRAIN, VAL, TEST = 0, 2, 4  # windows; those between are gaps
UNKNOWN = pa.schema([("user_id", pa.int64()), ("window", pa.int32()), ("plays", pa.int64())])


def split_windows(
    plays: Path, rule: Rule, targets: dict[str, Path], scratch: Path, *, memory: int, threads: int
) -> dict[str, dict]:
    """Write the parts of the split as split_plays does; see there.

    Args:
        targets: also `held_out` where the rule counts unknown tracks: user_id, window (2 validates,
            4 tests) and plays, of users of train, by user_id, window.
    """
    table, late = PlaysTable(plays), scratch / "late.pqt"
    first = scratch / "train.pqt" if rule.core else targets["train"]
    limits = {"memory": memory, "threads": threads}
    ends = (rule.windows()["train"][0], rule.windows()["test"][1])
    with Part(first) as train, TableFile(late, WINDOW_PAIRS) as later:
        for pairs in read_windows(table, ends, rule.edges(), scratch, **limits):
            window = pairs["window"].to_numpy()
            train.append(pairs.filter(pa.array(window == TRAIN)).select(PAIRS.names))
            later.append(pairs.filter(pa.array((window == VAL) | (window == TEST))))
    if rule.core and train.rows:
        train = write_core(first, targets["train"], rule.core)
    if not train.rows:
        raise InputError(f"train would be empty: {_why(table, rule)}")

    parts = {"train": train, **{name: Part(targets[name]) for name in ("val", "test")}}
    validating = np.zeros(0, np.int64)
    if not rule.by_time:
        users = [
            np.unique(pairs["user_id"].to_numpy()[hot])
            for pairs, hot in _held_out(late, train, rule)
        ]
        users = np.unique(np.concatenate([*users, np.zeros(0, np.int64)]))
        validating = np.setdiff1d(users, test_users(users, rule.val_share, rule.seed))
    with ExitStack() as files:
        for name in ("val", "test"):
            files.enter_context(parts[name])
        for pairs, hot in _held_out(late, train, rule):
            if rule.by_time:
                validates = pairs["window"].to_numpy() == VAL
            else:
                validates = contains(validating, pairs["user_id"].to_numpy())
            pairs = pairs.select(PAIRS.names)
            parts["val"].append(pairs.filter(pa.array(hot & validates)))
            parts["test"].append(pairs.filter(pa.array(hot & ~validates)))
    if rule.counts_unknown:
        _write_unknown(late, train, targets[HELD_OUT])
    empty = [name for name, part in parts.items() if not part.rows]
    if empty:
        raise InputError(f"{' and '.join(empty)} would be empty: {_why(table, rule)}")
    return {name: part.counts() for name, part in parts.items()}


def write_core(source: Path, target: Path, least: int) -> Part:
    """Write the pairs of users and tracks that have at least so many of each other.

    Users with fewer tracks and tracks with fewer users are left out in turn, until none is left.
    Holds the pairs' users and tracks: 8 bytes a pair.
    """
    with pq.ParquetFile(source, pre_buffer=False) as file:
        batches = list(file.iter_batches(BATCH, columns=["user_id", "track_idx"]))
    users = np.concatenate([batch["user_id"].to_numpy() for batch in batches])
    ids, users = np.unique(users, return_inverse=True)
    users = users.astype(np.int32)
    tracks = np.concatenate([batch["track_idx"].to_numpy() for batch in batches])
    kept = np.ones(len(users), bool)
    while True:
        of_user = np.bincount(users[kept], minlength=len(ids))
        of_track = np.bincount(tracks[kept], minlength=tracks.max() + 1)
        stay = (of_user[users] >= least) & (of_track[tracks] >= least)
        if (stay >= kept).all():
            break
        kept &= stay
    with Part(target) as part, pq.ParquetFile(source, pre_buffer=False) as file:
        start = 0
        for batch in file.iter_batches(BATCH):
            rows = pa.array(kept[start : start + len(batch)])
            part.append(pa.Table.from_batches([batch]).cast(PAIRS).filter(rows))
            start += len(batch)
    return part


def _held_out(late: Path, train: Part, rule: Rule) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yield (pairs whose user is in train, whether they are held out)."""
    with pq.ParquetFile(late, pre_buffer=False) as file:
        for batch in file.iter_batches(BATCH):
            known = contains(train.users, batch["user_id"].to_numpy())
            pairs = pa.Table.from_batches([batch]).filter(pa.array(known))
            hot = contains(train.tracks, pairs["track_idx"].to_numpy())
            if rule.seen == "drop":
                hot &= pairs["new"].to_numpy() == 1
            yield pairs, hot


def _write_unknown(late: Path, train: Part, target: Path) -> None:
    """Write how many plays of any track the users of train have in either window."""
    sums: dict[tuple[int, int], int] = {}
    with pq.ParquetFile(late, pre_buffer=False) as file, TableFile(target, UNKNOWN) as out:
        for batch in file.iter_batches(BATCH):
            users, windows = batch["user_id"].to_numpy(), batch["window"].to_numpy()
            known = contains(train.users, users)
            keys = np.stack([users[known], windows[known]], axis=1)
            keys, row = np.unique(keys, axis=0, return_inverse=True)
            plays = np.bincount(row.ravel(), batch["count"].to_numpy()[known], len(keys))
            for key, n in zip(map(tuple, keys.tolist()), plays.tolist(), strict=True):
                sums[key] = sums.get(key, 0) + int(n)
        users, windows = zip(*sorted(sums), strict=True) if sums else ((), ())
        columns = [users, windows, [sums[key] for key in sorted(sums)]]
        out.append(pa.table([pa.array(c) for c in columns], UNKNOWN.names).cast(UNKNOWN))


def _why(table: PlaysTable, rule: Rule) -> str:
    first, last = table.ends()
    if first is None:
        return f"{table.path} holds no plays; make it with python 0_get_plays_pqt.py --overwrite"
    core = f", of those with --core {rule.core}" if rule.core else ""
    return (
        f"the log has plays from {rule.said(first)} to {rule.said(last)}, the times are {rule}"
        f"{core}; choose others, or take a log of more users or more time"
    )
