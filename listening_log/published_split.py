"""The split that the extended study published, taken as it is; and its counts, to compare with.

Its four parquet files hold user_id, track_id (the row of trackid_sorted.csv), timestamp, count;
what it calls hot_test is test here. They are checked as any split is, and written with our columns
and order.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from core.artifacts import atomic_path, read_json, sha256, write_json
from core.downloads import read_download
from core.options import InputError
from core.trackids import read_trackids, write_trackids
from listening_log.rules import HELD_OUT, PARTS, PROTOCOLS
from listening_log.split_files import PAIRS, Part, describe
from listening_log.without_pandas import show_pandas

FILES = {"train": "train", "val": "val", "test": "hot_test", "cold_test": "cold_test"}
IDS = "trackid_sorted.csv"
GET = "python get_data.py --split journal"
# Rows, users and tracks of each part, from data/stats.csv beside the published files.
COUNTS = {
    "train": {"rows": 5_371_381, "users": 21_018, "tracks": 55_262},
    "val": {"rows": 48_787, "users": 2_459, "tracks": 23_625},
    "test": {"rows": 280_745, "users": 10_238, "tracks": 45_002},
    "cold_test": {"rows": 23_269, "users": 4_553, "tracks": 589},
}


def take_published(root: Path, folder: Path, *, overwrite: bool) -> str:
    """Write data/ of the split in the folder; return what to print.

    The caller holds the lock of data/. A root without trackid_sorted.csv gets the folder's.

    Raises:
        InputError: a file is missing or not what a split is; the root has other track ids; another
            split is there, and not `overwrite`.
    """
    data, files = root / "data", _files(folder)
    sources = {part: sha256(path) for part, path in files.items()}
    for part, path in files.items():
        read_download(path, sources[part])
    seal = data / "split.json"
    if not overwrite and seal.exists():
        made = read_json(seal, "python 1_train_test_split.py --overwrite", ("sha256",))
        if made.get("published") != sources:
            raise InputError(
                f"{seal} is finished, but tells of another split than the one in {folder}; "
                "--overwrite takes that one"
            )
        there = {p: sha256(path) for p in files if (path := data / f"{p}.pqt").is_file()}
        if there == made["sha256"]:
            return f"{seal} is finished; --overwrite makes it again"
    ids = _track_ids(root, folder)
    tables = _read(folder, files, ids)
    with ExitStack() as stack:
        # Left in reverse, so train.pqt, without which nothing is read, comes last.
        targets = {p: stack.enter_context(atomic_path(data / f"{p}.pqt")) for p in files}
        counts = {part: _write(targets[part], table) for part, table in tables.items()}
        for name in ("split.json", *(f"{part}.pqt" for part in (*PARTS, HELD_OUT))):
            (data / name).unlink(missing_ok=True)
    dates = asdict(PROTOCOLS["journal"])
    record = {
        "config": {"protocol": "journal", **{k: v for k, v in dates.items() if k != "cold"}},
        "counts": counts,
        "sha256": {part: sha256(data / f"{part}.pqt") for part in files},
        "plays_sha256": None,
        "trackid_sorted_sha256": sha256(root / IDS),
        "published": sources,
    }
    record["config"]["seed"] = 42
    write_json(seal, record)
    return f"{describe(counts)}\n{compare(counts)}"


def check_published(root: Path, counts: dict[str, dict]) -> str:
    """Read the split that was taken, with every check of a reader; return what to print."""
    show_pandas()
    from core.splits import read_split

    read_split(root)
    return f"ok     no fault within the files or between them, and {compare(counts)}"


def compare(counts: dict[str, dict]) -> str:
    """Return one line: whether rows, users and tracks are the published ones, else what differs."""
    differing, same = [], []
    for part, numbers in COUNTS.items():
        other = {what: n for what, n in numbers.items() if counts[part][what] != n}
        if not other:
            same.append(part)
            continue
        ours = ", ".join(f"{counts[part][what]:,} {what}" for what in other)
        theirs = ", ".join(f"{n:,}" for n in other.values())
        differing.append(f"{part} has {ours} (published {theirs})")
    if differing:
        as_published = f"; as published: {', '.join(same)}" if same else ""
        return f"not the published split: {'; '.join(differing)}{as_published}"
    return "exactly the rows, users and tracks of the published split, in all four parts"


def _files(folder: Path) -> dict[str, Path]:
    files = {}
    for part, name in FILES.items():
        names = [folder / f"{name}.pqt", folder / f"{part}.pqt"]
        found = next((path for path in names if path.is_file()), None)
        if found is None:
            raise InputError(f"--published {folder} has no {name}.pqt; get it with {GET}")
        files[part] = found
    return files


def _track_ids(root: Path, folder: Path) -> list[str]:
    """Return the root's track ids; the folder's are written there first if it has none."""
    theirs = read_trackids(folder) if (folder / IDS).exists() else None
    if (root / IDS).exists():
        ids = read_trackids(root)
        if theirs is not None and ids != theirs:
            raise InputError(
                f"{root / IDS} holds other track ids than {folder / IDS}, whose rows the published "
                "split counts; use another --root"
            )
        return ids
    if theirs is None:
        raise InputError(f"neither {root} nor {folder} has {IDS}; get it with {GET}")
    write_trackids(root, theirs)
    return theirs


def _read(folder: Path, files: dict[str, Path], ids: list[str]) -> dict:
    """Return the parts as frames, each checked by itself and against the others."""
    show_pandas()
    from core.split_parts import check_between, read_part

    tables = {part: read_part(path, path.read_bytes(), ids) for part, path in files.items()}
    check_between(folder, tables)
    return tables


def _write(path: Path, table) -> dict:
    columns = [pa.array(table[name].to_numpy()) for name in PAIRS.names]
    with Part(path) as part:
        part.append(pa.table(columns, PAIRS.names).cast(PAIRS))
    return part.counts()
