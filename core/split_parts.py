"""One file of a split as a frame, and what must hold between the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.options import InputError

STAGE_1 = "python 1_train_test_split.py"
COLD = "cold_test"  # only the journal's protocol keeps cold tracks
HELD_OUT = "held_out"  # and only Yambda's how much was played in the times held out
VALIDATES, TESTS = 2, 4  # windows there


def read_part(path: Path, content: bytes, ids: list[str]) -> pd.DataFrame:
    """Return the content of one file of the split as splits.read_split does.

    Args:
        path: where it was read, for messages.
        ids: the track ids of trackid_sorted.csv.
    """
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a parquet file ({error}); run {STAGE_1}") from error
    names = table.column_names
    key = "track_idx" if "track_idx" in names else "track_id"
    missing = [name for name in ("user_id", key, "timestamp") if name not in names]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]}; it holds {', '.join(names)}")
    if not len(table):
        raise InputError(f"{path} holds no rows; run {STAGE_1}")
    for name in ("user_id", key, "timestamp"):
        if table[name].null_count:
            raise InputError(f"{path}: {table[name].null_count:,} rows have no {name}")

    try:
        tracks = _track_idx(path, table[key], ids)
        frame = pd.DataFrame(
            {
                "user_id": table["user_id"].cast(pa.int64()).to_numpy(),
                "track_idx": tracks,
                "timestamp": table["timestamp"].cast(pa.timestamp("us"), safe=False).to_numpy(),
                "count": table["count"].cast(pa.int64()).to_numpy() if "count" in names else 1,
            }
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: a column has another type than expected: {error}") from error
    few = frame["count"] < 1
    if few.any():
        example = frame["count"][few].iloc[0]
        raise InputError(f"{path}: {few.sum():,} rows have a count below 1, for example {example}")
    return _ordered(path, frame)


def _track_idx(path: Path, column: pa.ChunkedArray, ids: list[str]) -> np.ndarray:
    """Return the column as int64 rows of trackid_sorted.csv."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_string())
        found = pc.index_in(column, pa.array(ids, pa.large_string()))
        if found.null_count:
            example = column.filter(pc.is_null(found))[0]
            raise InputError(
                f"{path}: {found.null_count:,} rows have a track_id that is not in "
                f"trackid_sorted.csv, for example '{example}'"
            )
        return found.to_numpy().astype(np.int64)
    tracks = column.cast(pa.int64()).to_numpy()
    outside = (tracks < 0) | (tracks >= len(ids))
    if outside.any():
        raise InputError(
            f"{path}: {outside.sum():,} rows have a track index outside trackid_sorted.csv "
            f"(0 to {len(ids) - 1:,}), for example {tracks[outside][0]}"
        )
    return tracks


def _ordered(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame by user_id, track_idx; a pair that stands twice is an InputError."""
    users, tracks = frame.user_id.to_numpy(), frame.track_idx.to_numpy()
    ascending = (users[1:] > users[:-1]) | ((users[1:] == users[:-1]) & (tracks[1:] > tracks[:-1]))
    if ascending.all():
        return frame
    frame = frame.sort_values(["user_id", "track_idx"], ignore_index=True)
    twice = frame.duplicated(["user_id", "track_idx"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise InputError(
            f"{path}: {twice.sum():,} rows repeat a (user, track) pair, for example user "
            f"{row.user_id}, track {row.track_idx}; there must be one row a pair"
        )
    return frame


def read_held_out(path: Path, content: bytes) -> pd.DataFrame:
    """Return the content of held_out.pqt: user_id, window (VALIDATES or TESTS), plays."""
    try:
        table = pq.read_table(pa.BufferReader(content))
        columns = {name: table[name].to_numpy() for name in ("user_id", "window", "plays")}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); run {STAGE_1} --overwrite") from error
    return pd.DataFrame(columns)


def check_between(
    data: Path,
    tables: dict[str, pd.DataFrame],
    *,
    seen_again: bool = False,
    by_time: bool = False,
) -> None:
    """Refuse what is held out and does not belong beside this train.pqt; see splits.read_split.

    Args:
        seen_again: pairs of train may be held out.
        by_time: users may validate and test.
    """
    train = tables["train"]
    users, starts = np.unique(train.user_id, return_index=True)
    tracks = np.bincount(train.track_idx)
    known_pairs = _Pairs(users, np.append(starts, len(train)), train.track_idx.to_numpy())
    for part in (name for name in tables if name != "train"):
        table, path = tables[part], data / f"{part}.pqt"
        at = np.searchsorted(users, table.user_id).clip(max=len(users) - 1)
        _refuse(path, table, "user_id", users[at] != table.user_id, "that is not in train.pqt")
        in_train = np.zeros(len(table), bool)
        inside = table.track_idx.to_numpy() < len(tracks)
        in_train[inside] = tracks[table.track_idx[inside]] > 0
        if part == COLD:
            _refuse(path, table, "track_idx", in_train, "that is not cold: train.pqt holds it")
        else:
            _refuse(path, table, "track_idx", ~in_train, "that is not in train.pqt")
            if not seen_again:
                heard = known_pairs.hold(at, table.track_idx.to_numpy())
                _refuse(path, table, "(user, track) pair", heard, "that train.pqt holds too")
        if part != "val" and not by_time:
            both = table.user_id.isin(tables["val"].user_id.unique()).to_numpy()
            _refuse(path, table, "user_id", both, "that val.pqt holds too")


@dataclass(frozen=True)
class _Pairs:
    """Pairs by user: tracks[offsets[i]:offsets[i + 1]] are those of users[i], ascending."""

    users: np.ndarray
    offsets: np.ndarray
    tracks: np.ndarray

    def hold(self, at: np.ndarray, tracks: np.ndarray) -> np.ndarray:
        """Return for each (position in users, track) whether it is one of the pairs (bool)."""
        span = max(self.tracks.max(), tracks.max(initial=0)) + 1
        keys = np.repeat(np.arange(len(self.users)), np.diff(self.offsets)) * span + self.tracks
        wanted = at * span + tracks
        found = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return keys[found] == wanted


def _refuse(path: Path, table: pd.DataFrame, what: str, wrong, why: str) -> None:
    wrong = np.asarray(wrong)
    if not wrong.any():
        return
    row = table[wrong].iloc[0]
    example = row[what] if what in table else f"user {row.user_id}, track {row.track_idx}"
    raise InputError(
        f"{path}: {wrong.sum():,} rows have a {what} {why}, for example {example}; make the split "
        f"with {STAGE_1}"
    )
