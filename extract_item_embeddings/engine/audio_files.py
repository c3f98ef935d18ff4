"""The audio folder: each track's file, and a mark that tells when it has changed."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from core.audio_folder import AUDIO, scan
from core.options import InputError

SAMPLED = 1 << 14  # bytes of a file that its mark looks at


def find_audio(folder: Path, ids: list[str], pattern: str | None = None) -> list[Path | str]:
    """Return each track's file, or the reason why there is none.

    Raises:
        InputError: the folder is missing, holds no file of any of the tracks, or two of one.
    """
    found = scan(folder, pattern)
    if not any(track_id in found.files or track_id in found.faults for track_id in ids):
        raise InputError(
            f"--audio {folder} holds no file of the {len(ids):,} tracks of trackid_sorted.csv, but "
            f"{found.contents()}; expected {ids[0]}.mp3 or another of {', '.join(AUDIO)}, in it or "
            "in the folders in it; --pattern names others"
        )
    found.require_one_each(set(ids))
    return [found.files.get(track_id) or found.reason(track_id) for track_id in ids]


def fingerprint(files: list[Path | str], workers: int) -> np.ndarray:
    """Return a mark of each file, uint64 (n_tracks,), 0 where there is none.

    It covers name, size and 16 KiB from the middle: another recording or encoding changes it, and
    a copy of the folder, with new times, does not.
    """
    with ThreadPoolExecutor(workers) as pool:
        return np.fromiter(pool.map(_mark, files, chunksize=64), np.uint64, len(files))


def _mark(path: Path | str) -> int:
    if isinstance(path, str):
        return 0
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, (size - SAMPLED) // 2))
            content = f"{path.name} {size} ".encode() + file.read(SAMPLED)
    except OSError:
        return 0  # decoding it will say why
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
