"""trackid_sorted.csv: every track id with its track_idx, which is its row in every embedding."""

from __future__ import annotations

import re
from pathlib import Path

from core.artifacts import atomic_path
from core.audio_folder import AUDIO, scan
from core.options import InputError, refuse_special

STAGE_0 = "python 0_get_plays_pqt.py"


def is_track_id(text: str) -> bool:
    """Say whether the text can be a track id: a field of a csv line and the stem of a file."""
    apart = not ("," in text or '"' in text or "/" in text)
    return bool(text) and apart and text.isprintable() and text == text.strip()


def read_trackids(root: Path) -> list[str]:
    """Return the track ids of trackid_sorted.csv; a position in the list is a track_idx.

    Raises:
        InputError: the file is missing, or its header, order or numbering is not what every
            embedding relies on; the message names the line.
    """
    path = Path(root) / "trackid_sorted.csv"
    if not path.exists():
        raise InputError(f"{path} is missing; make it with {STAGE_0}")
    return read_trackids_file(path)


def read_trackids_file(path: Path) -> list[str]:
    """Return the track ids of a file in the form of trackid_sorted.csv; see read_trackids."""
    refuse_special(path, str(path))
    try:
        return parse_trackids(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def parse_trackids(path: Path, content: bytes) -> list[str]:
    """Return the track ids of the file's content, as read_trackids does."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    lines = re.sub("\r\n?", "\n", text).removesuffix("\n").split("\n")
    if lines[0] != "idx,trackid":
        raise InputError(f"{path}: the first line must be 'idx,trackid', got {lines[0][:60]!r}")
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
    """Write trackid_sorted.csv from ids that are valid and ascend."""
    lines = ["idx,trackid", *(f"{idx},{track_id}" for idx, track_id in enumerate(ids))]
    with atomic_path(Path(root) / "trackid_sorted.csv") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def audio_ids(folder: Path, pattern: str | None = None) -> list[str]:
    """Return the track ids of the folder's audio files (their stems), ascending by code point.

    Raises:
        InputError: there is no folder or no audio in it, two files have one id, or a name cannot
            be an id.
    """
    found = scan(folder, pattern)
    ids = sorted({*found.files, *found.faults})
    if not ids:
        raise InputError(
            f"--audio {folder} holds no file that ends in {', '.join(AUDIO)}, but "
            f"{found.contents()}; --pattern says which files are meant"
        )
    found.require_one_each()
    wrong = [track_id for track_id in ids if not is_track_id(track_id)]
    if wrong:
        raise InputError(
            f"--audio {folder}: {len(wrong):,} file names cannot be track ids, for example "
            f"{wrong[0]!r}; a track id holds no comma, quote or control character"
        )
    return ids
