"""Audio files to mono clips at a backbone's rate, decoded ahead of the model in threads.

Threads suffice: soundfile and soxr release Python's lock, so two decode twice as much as one, and
unlike processes they copy no audio between them and leave nobody behind when the run is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from config import InputError
from trackids import AUDIO

SHORTEST = 0.1  # seconds: less is not music, and repeating it would only make a tone
MARGIN = 0.05  # seconds read beyond the clip: the resampler looks ahead 0.02
LACKING = 0.5  # seconds a file may end before the length in its header; mp3 headers are not exact
BLOCK = 1 << 17  # samples of all channels decoded at once
SAMPLED = 1 << 14  # bytes of a file that its mark looks at
NOT_AUDIO = (1, 7)  # libsndfile: format not recognised; 7 when the name promised mp3


@dataclass(frozen=True)
class ClipLength:
    """What a backbone wants, in samples: at most `longest`, at least `shortest`, whole `step`s."""

    rate: int
    longest: int
    shortest: int
    step: int

    def fit(self, wave: np.ndarray) -> np.ndarray:
        """Return the wave (samples,) at a length the backbone takes.

        A longer wave is cut. A shorter one is cut to whole steps, so that clips of nearly equal
        length share a batch, and repeated when it is shorter than the model takes: silence would
        become part of every average over time, repetition leaves it as it is.
        """
        if len(wave) >= self.longest:
            return wave[: self.longest]
        if len(wave) < self.shortest:
            return np.resize(wave, self.shortest)
        return wave[: max(self.shortest, len(wave) // self.step * self.step)]


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


@contextlib.contextmanager
def messages_to(path: Path):
    """Append what C libraries print on stderr to a file; what Python prints goes where it went.

    The mp3 decoder writes lines about files that are odd, also about those it can read: among
    thousands they would bury the bar and the one line that says what failed.
    """
    stderr, visible = sys.stderr, os.dup(2)
    with open(path, "ab") as log, open(visible, "w", buffering=1) as stream:
        if stderr is sys.__stderr__:
            sys.stderr = stream
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(visible, 2)
            sys.stderr = stderr


def read_clips(
    files: list[Path | None], rows: Iterable[int], length: ClipLength, *, workers: int, ahead: int
) -> Iterator[tuple[int, np.ndarray | str]]:
    """Yield (track_idx, clip) in the order of `rows`, float32 (samples,), decoded ahead.

    A file that fails yields the reason, a text, in place of its clip. At most `ahead` clips wait.
    """
    waiting: deque = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for row in rows:
            waiting.append((row, pool.submit(_clip_or_reason, files[row], length)))
            if len(waiting) > ahead:
                row, future = waiting.popleft()
                yield row, future.result()
        while waiting:
            row, future = waiting.popleft()
            yield row, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _clip_or_reason(path: Path | None, length: ClipLength) -> np.ndarray | str:
    if path is None:
        return "no audio file"
    try:
        return read_clip(path, length)
    except soundfile.LibsndfileError as error:
        if error.code in NOT_AUDIO:
            return "is not audio of a known kind"
        return "cannot be decoded: " + error.error_string.rstrip(".")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except Exception as error:  # whatever a decoder raises, it is this file's failure alone
        return str(error) or type(error).__name__


def read_clip(path: Path, length: ClipLength) -> np.ndarray:
    """Return the first seconds of a file, float32 (samples,): mono, resampled, at a fitting length.

    Only what the clip needs is decoded, so a long file costs no more than a short one.

    Raises:
        ValueError: no audio, less than SHORTEST, an end before the header says, NaN.
        soundfile.LibsndfileError, OSError: what the file cannot be read for.
    """
    with open(path, "rb") as file:
        if not file.read(1):
            raise ValueError("is empty (0 bytes)")
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        wanted = min(file.frames, math.ceil((length.longest / length.rate + MARGIN) * rate))
        wave = _read_mono(file, wanted)
    if len(wave) < wanted - LACKING * rate:
        raise ValueError(f"ends after {len(wave) / rate:.1f} of {wanted / rate:.1f} s")
    if len(wave) < SHORTEST * rate:
        raise ValueError(f"holds {len(wave) / rate:.3f} s of audio, at least {SHORTEST} s needed")
    if not np.isfinite(wave).all():
        raise ValueError("holds samples that are not finite")
    if rate != length.rate:
        wave = soxr.resample(wave, rate, length.rate, quality="HQ")
    return length.fit(wave)


def _read_mono(file: soundfile.SoundFile, frames: int) -> np.ndarray:
    """Return the mean of the channels of the next frames, float32; fewer where the file ends."""
    blocks = [np.empty(0, np.float32)]
    while frames > 0:
        size = min(frames, max(1, BLOCK // file.channels))
        block = file.read(size, dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(sum(block.T) / np.float32(file.channels))
        frames -= len(block)
    return np.concatenate(blocks)
