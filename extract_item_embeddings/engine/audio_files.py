"""The audio folder: each track's file, and a mark that tells when it has changed."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from core.options import InputError
from core.trackids import AUDIO

SAMPLED = 1 << 14  # bytes of a file that its mark looks at


def find_audio(folder: Path, ids: list[str]) -> list[Path | None]:
    """Return each track's file, None where there is none; of several the first kind of AUDIO.

    Raises:
        InputError: the folder is missing or holds no file of any of the tracks.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"--audio {folder} is not a folder; expected TRACKID.mp3 and such in it")
    names = {entry.name for entry in os.scandir(folder) if entry.is_file()}
    candidates = (
        [track_id + kind for kind in AUDIO if track_id + kind in names] for track_id in ids
    )
    files = [folder / found[0] if found else None for found in candidates]
    if not any(files):
        raise InputError(
            f"--audio {folder} holds no file of the {len(ids):,} tracks of trackid_sorted.csv; "
            f"expected {ids[0]}.mp3 or another of {', '.join(AUDIO)}"
        )
    return files


def fingerprint(files: list[Path | None], workers: int) -> np.ndarray:
    """Return a mark of each file, uint64 (n_tracks,), 0 where there is none.

    It covers name, size and 16 KiB from the middle: another recording or encoding changes it, and
    a copy of the folder, with new times, does not.
    """
    with ThreadPoolExecutor(workers) as pool:
        return np.fromiter(pool.map(_mark, files, chunksize=64), np.uint64, len(files))


def _mark(path: Path | None) -> int:
    if path is None:
        return 0
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, (size - SAMPLED) // 2))
            content = f"{path.name} {size} ".encode() + file.read(SAMPLED)
    except OSError:
        return 0  # decoding it will say why
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
