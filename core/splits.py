"""The reader of the split every recommender starts from: train, val and test interactions.

A split is one thing: its files are read once, together, and what is returned carries the
fingerprint of the very bytes that were parsed. Where data/split.json says what stage 1 made, the
files must be those; a split from elsewhere has no such record. Either is checked, because a
track_idx that moved, a pair that stands twice, or one that train holds as well changes results
without a sign. At the study's size, 5.1 million pairs in train, reading takes 0.6 s of one core:
0.1 for the fingerprints, 0.3 for what must hold between the files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from core.artifacts import read_json, shared
from core.options import InputError, refuse_special
from core.split_parts import (
    COLD,
    HELD_OUT,
    STAGE_1,
    check_between,
    read_held_out,
    read_part,
)
from core.trackids import STAGE_0, parse_trackids
from core.trackids import read_trackids as read_trackids

PARTS = ("train", "val", "test")
SEAL = ("sha256", "counts", "config")  # what split.json must hold


class SplitTables(dict):
    """The parts of one split by name, as frames, read at one time.

    Attributes:
        fingerprint: of the files they were read from, as split_hash returns it.
        cold: the frame of cold_test.pqt; None where the split has none.
        n_tracks: rows of trackid_sorted.csv.
        seen_again: tracks that users know from train may be held out, and listed.
        held_out: the frame of held_out.pqt; None where the split has none.
    """

    fingerprint: str
    cold: pd.DataFrame | None
    n_tracks: int
    seen_again: bool = False
    held_out: pd.DataFrame | None = None


@dataclass(frozen=True)
class SplitFiles:
    """The bytes of a split's files, which agree with split.json where there is one."""

    trackids: bytes
    parts: dict[str, bytes]
    fingerprint: str
    made: dict  # the content of split.json; empty without one


def read_split(root: Path) -> SplitTables:
    """Return data/train.pqt, val.pqt and test.pqt, and cold_test.pqt where it is, checked.

    The published split files are read as well: their column `track_id` holds the index (integers)
    or the id (strings, looked up in trackid_sorted.csv), and they may lack `count`.

    Returns:
        {"train": frame, "val": frame, "test": frame}; columns user_id int64, track_idx int64,
        timestamp datetime64[us] (first play), count int64 (plays; 1 where the file has none);
        one row a (user, track) pair, ordered by user_id, track_idx.

    Raises:
        InputError: a file is missing, empty or lacks a column, or is not the one that split.json
            tells of; a track is unknown or out of range; a pair stands twice, or in train as well;
            a user or track of val or test is not in train; a user validates and tests. The message
            gives how many and an example.
    """
    root = Path(root)
    files = read_files(root)
    ids = parse_trackids(root / "trackid_sorted.csv", files.trackids)
    tables = SplitTables()
    kept = files.parts.pop(HELD_OUT, None)
    for part, content in files.parts.items():
        tables[part] = read_part(root / "data" / f"{part}.pqt", content, ids)
    tables.seen_again = files.made.get("seen") == "keep"
    by_time = files.made.get("validation") == "time"
    check_between(root / "data", tables, seen_again=tables.seen_again, by_time=by_time)
    if kept is not None:
        tables.held_out = read_held_out(root / "data" / f"{HELD_OUT}.pqt", kept)
    tables.cold = tables.pop(COLD, None)
    tables.fingerprint, tables.n_tracks = files.fingerprint, len(ids)
    pa.default_memory_pool().release_unused()  # else 0.4 GB of 6.8 M rows stay
    return tables


def split_hash(root: Path) -> str:
    """Return the fingerprint of the split: its files and the track ids they refer to.

    Raises:
        InputError: a file is missing, or is not the one that split.json tells of.
    """
    return read_files(Path(root)).fingerprint


def read_files(root: Path) -> SplitFiles:
    """Read the split's files once, while no stage replaces them; refuse what is not one split.

    Raises:
        InputError: as split_hash.
    """
    data = root / "data"
    if not data.is_dir():
        raise InputError(f"{data} is missing; make it with {STAGE_0}")
    with shared(data / ".lock", str(data)):
        trackids = _read_bytes(root / "trackid_sorted.csv", STAGE_0)
        seal = data / "split.json"
        made = read_json(seal, f"{STAGE_1} --overwrite", SEAL) if seal.exists() else {}
        names = [*PARTS, *(n for n in (COLD, HELD_OUT) if (data / f"{n}.pqt").exists())]
        parts = {name: _read_bytes(data / f"{name}.pqt", STAGE_1) for name in names}
    if made:
        _compare(root, made, trackids, parts)
    digest = hashlib.sha256(trackids)
    for content in parts.values():
        digest.update(content)
    return SplitFiles(trackids, parts, digest.hexdigest(), made)


def _compare(root: Path, made: dict, trackids: bytes, parts: dict[str, bytes]) -> None:
    """Refuse files that are not those of which split.json tells."""
    sealed, data = made["sha256"], root / "data"
    found = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    if not isinstance(sealed, dict) or set(sealed) != set(found):
        told = ", ".join(sealed) if isinstance(sealed, dict) else sealed
        raise InputError(
            f"{data} holds {', '.join(found)}, but split.json tells of {told}; make the split "
            f"again with {STAGE_1} --overwrite"
        )
    for name, digest in found.items():
        if digest != sealed[name]:
            raise InputError(
                f"{data}/{name}.pqt is not the file that split.json tells of (sha256 "
                f"{digest[:12]}, expected {str(sealed[name])[:12]}); make the split again with "
                f"{STAGE_1} --overwrite, or remove split.json if the split is your own"
            )
    ids = hashlib.sha256(trackids).hexdigest()
    if made.get("trackid_sorted_sha256", ids) != ids:
        raise InputError(
            f"{root}/trackid_sorted.csv is not the file that the split was made for; put that one "
            f"back, or run {STAGE_0} --overwrite and {STAGE_1} --overwrite"
        )


def _read_bytes(path: Path, maker: str) -> bytes:
    refuse_special(path, str(path))
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; make it with {maker}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
