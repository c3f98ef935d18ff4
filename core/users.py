"""data/users.pqt: the ids of users who are text, by the number that stands for them everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.artifacts import atomic_path, read_json, read_sealed
from core.options import InputError

STAGE_0 = "python 0_get_plays_pqt.py --overwrite"
STAGE_1 = "python 1_train_test_split.py"
USERS = pa.schema([("user_id", pa.int64()), ("user", pa.string())])


def users_file(root: Path) -> Path:
    return Path(root) / "data" / "users.pqt"


def write_users(root: Path, ids: list[str]) -> None:
    """Write users.pqt from ids that ascend by code point: a place is a user_id."""
    table = pa.table([pa.array(range(len(ids)), pa.int64()), pa.array(ids)], schema=USERS)
    with atomic_path(users_file(root)) as temporary:
        pq.write_table(table, temporary)


def read_users(root: Path) -> np.ndarray | None:
    """Return the ids by user_id, an array of text; None where users are numbers of their own.

    Raises:
        InputError: the file is not what stage 0 writes, or not the one that plays.json and
            split.json tell of, or gone though they do; or the split is of other plays, whose users
            had other numbers.
    """
    path, record = users_file(root), users_file(root).with_name("plays.json")
    told = read_json(record, STAGE_0) if record.exists() else {}
    seal = record.with_name("split.json")
    split = read_json(seal, f"{STAGE_1} --overwrite") if seal.exists() else {}
    if not path.exists():
        if "users_sha256" in {**told, **split}:
            raise InputError(
                f"{path}, which has the ids of the users who are numbered in {seal.parent}, is "
                f"missing; put it back, or make it with {STAGE_0}"
            )
        return None
    if "sha256" in told and split.get("plays_sha256", told["sha256"]) != told["sha256"]:
        raise InputError(
            f"{path} was made after {seal}, of other plays, and may number other users; split them "
            f"with {STAGE_1} --overwrite"
        )
    sealed = split.get("users_sha256") or told.get("users_sha256")
    content = read_sealed(path, sealed, f"make it with {STAGE_0}")
    try:
        table = pq.read_table(pa.BufferReader(content))
        numbers, ids = table["user_id"].to_numpy(), table["user"].to_numpy()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it with {STAGE_0}") from error
    if not np.array_equal(numbers, np.arange(len(numbers))):
        raise InputError(f"{path} does not number its users from 0; make it with {STAGE_0}")
    return ids


def original_users(root: Path, user_ids: np.ndarray) -> np.ndarray:
    """Return the users as the log calls them: text, or the numbers themselves.

    Raises:
        InputError: a user_id that users.pqt does not know.
    """
    ids, user_ids = read_users(root), np.asarray(user_ids)
    if ids is None or not len(user_ids):
        return user_ids
    if user_ids.min() < 0 or user_ids.max() >= len(ids):
        unknown = user_ids.max() if user_ids.max() >= len(ids) else user_ids.min()
        raise InputError(
            f"{users_file(root)} has {len(ids):,} users, and none of number {unknown}; make it "
            f"again with {STAGE_0}"
        )
    return ids[user_ids]
