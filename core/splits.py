"""The reader of the split every recommender starts from: train, val and test interactions.

It checks what it reads, because a track_idx that moved, or a pair that stands twice, changes
results without a sign.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.artifacts import sha256
from core.options import InputError
from core.trackids import read_trackids as read_trackids

PARTS = ("train", "val", "test")
LIST_LENGTH = 100  # tracks kept for each user; metrics look at the first 50
STAGE_1 = "python 1_train_test_split.py"


def read_split(root: Path) -> dict[str, pd.DataFrame]:
    """Return data/train.pqt, val.pqt and test.pqt, checked.

    The published split files are read as well: their column `track_id` holds the index (integers)
    or the id (strings, looked up in trackid_sorted.csv), and they may lack `count`.

    Returns:
        {"train": frame, "val": frame, "test": frame}; columns user_id int64, track_idx int64,
        timestamp datetime64[us] (first play), count int64 (plays; 1 where the file has none);
        one row a (user, track) pair, ordered by user_id, track_idx.

    Raises:
        InputError: a file is missing, empty or lacks a column; a track is unknown or out of range;
            a pair stands twice; a user or track of val or test is not in train. The message gives
            how many and an example.
    """
    root = Path(root)
    ids = read_trackids(root)
    frames = {part: _read_part(root / "data" / f"{part}.pqt", ids) for part in PARTS}
    for part in PARTS[1:]:
        for column in ("user_id", "track_idx"):
            strange = ~frames[part][column].isin(frames["train"][column].unique())
            if strange.any():
                example = frames[part][column][strange].iloc[0]
                raise InputError(
                    f"{root}/data/{part}.pqt: {strange.sum():,} rows have a {column} that is not "
                    f"in train.pqt, for example {example}; make the split with {STAGE_1}"
                )
    return frames


def read_part(path: Path, root: Path) -> pd.DataFrame:
    """Return one file of the split as read_split does, without looking at the others."""
    return _read_part(path, read_trackids(root))


def _read_part(path: Path, ids: list[str]) -> pd.DataFrame:
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; make it with {STAGE_1}") from error
    except (pa.ArrowInvalid, OSError) as error:
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


def split_hash(root: Path) -> str:
    """Return the fingerprint of the split: its files and the track ids they refer to."""
    files = [root / "data" / f"{name}.pqt" for name in ("train", "val", "test", "cold_test")]
    if not files[-1].exists():  # only the journal's protocol keeps cold tracks
        files.pop()
    return sha256(root / "trackid_sorted.csv", *files)
