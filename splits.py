"""The tables every recommender starts from: track ids, and the train, val and test interactions.

Both readers check what they read, because a row of trackid_sorted.csv that moved, or a pair that
stands twice, changes results without a sign. Neither needs DuckDB.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from artifacts import atomic_path
from config import InputError

PARTS = ("train", "val", "test")
STAGE_0 = "python 0_get_plays_pqt.py"
STAGE_1 = "python 1_train_test_split.py"


def is_track_id(text: str) -> bool:
    """Say whether the text can be a track id: a field of a csv line and the stem of a file."""
    return bool(text) and text.isprintable() and text == text.strip() and not set(text) & set(',"/')


def read_trackids(root: Path) -> list[str]:
    """Return the track ids of trackid_sorted.csv; a position in the list is a track_idx.

    Raises:
        InputError: the file is missing, or its header, order or numbering is not what every
            embedding relies on; the message names the line.
    """
    path = Path(root) / "trackid_sorted.csv"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; make it with {STAGE_0}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not lines or lines[0] != "idx,trackid":
        raise InputError(f"{path}: the first line must be 'idx,trackid', got {lines[:1]}")
    if len(lines) == 1:
        raise InputError(f"{path} holds no track ids; remove it and run {STAGE_0}")

    ids: list[str] = []
    for idx, line in enumerate(lines[1:]):
        number, _, track_id = line.partition(",")
        if number != str(idx) or not is_track_id(track_id):
            raise InputError(f"{path} line {idx + 2}: expected '{idx},TRACKID', got {line[:60]!r}")
        if ids and track_id <= ids[-1]:
            what = "stands twice" if track_id == ids[-1] else f"stands after '{ids[-1]}'"
            raise InputError(
                f"{path} line {idx + 2}: '{track_id}' {what}; ids must ascend by code point"
            )
        ids.append(track_id)
    return ids


def write_trackids(root: Path, ids: list[str]) -> None:
    """Write trackid_sorted.csv from ids that are ascending and valid."""
    lines = ["idx,trackid", *(f"{idx},{track_id}" for idx, track_id in enumerate(ids))]
    with atomic_path(Path(root) / "trackid_sorted.csv") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


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
                raise InputError(
                    f"{root}/data/{part}.pqt: {strange.sum():,} rows have a {column} that is not in "
                    f"train.pqt, for example {frames[part][column][strange].iloc[0]}; "
                    f"make the split with {STAGE_1}"
                )
    return frames


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
