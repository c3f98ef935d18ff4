"""What an extraction has done so far, kept in windows of tracks, so that any kill costs little.

A window is a fixed range of track_idx. Its file holds the vectors, a mark of the audio each was
computed from and the reasons of those that failed, so the next run knows which rows to compute:
those of no file, those that failed, and those whose audio has changed.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts import atomic_path, read_json, write_json
from config import InputError

PENDING = "not computed yet"


@dataclass
class Part:
    """The rows of one window."""

    vectors: np.ndarray  # float32 (rows, width); NaN where there is a reason
    marks: np.ndarray  # uint64 (rows,): the audio file each row was computed from
    reasons: list[str]  # why a row has no vector; '' where it has one
    seconds: float = 0.0  # spent on it

    @classmethod
    def empty(cls, rows: int, width: int) -> Part:
        vectors = np.full((rows, width), np.nan, np.float32)
        return cls(vectors, np.zeros(rows, np.uint64), [PENDING] * rows)

    def put(self, row: int, result: np.ndarray | str, mark: int) -> None:
        """Set a row to its vector, or to NaN and the reason why there is none."""
        failed = isinstance(result, str)
        self.vectors[row] = np.nan if failed else result
        self.reasons[row] = result if failed else ""
        self.marks[row] = mark


class Parts:
    """The folder of an unfinished extraction: `plan.json`, and a file for each finished window."""

    def __init__(self, folder: Path, n_tracks: int, width: int, window: int):
        self.folder, self.n_tracks, self.width = Path(folder), n_tracks, width
        self.window = window

    def begin(self, plan: dict, *, overwrite: bool, command: str) -> None:
        """Start, or go on with parts of the same plan: it says what rows are computed with.

        Args:
            plan: anything json holds.
            overwrite: throw away parts of another plan.
            command: what makes the embedding, for the error.

        Raises:
            InputError: there are parts of another plan, and they are not to be overwritten.
        """
        path = self.folder / "plan.json"
        if path.exists():
            made = read_json(path, f"{command} --overwrite")
            window = made.pop("window")
            changed = differences(made, plan)
            if not changed:
                self.window = window
                return
            if not overwrite:
                raise InputError(
                    f"{self.folder} holds an unfinished extraction, but {'; '.join(changed)}; "
                    f"{command} --overwrite starts again"
                )
        self.remove()
        write_json(path, {"window": self.window, **plan})

    def windows(self) -> list[range]:
        """Return the track_idx of every window, in order."""
        starts = range(0, self.n_tracks, self.window)
        return [range(start, min(start + self.window, self.n_tracks)) for start in starts]

    def load(self, window: range) -> Part:
        """Return what is known of a window; a file that cannot be read counts as absent."""
        try:
            with np.load(self._path(window)) as file:
                part = Part(
                    file["vectors"], file["marks"], file["reasons"].tolist(), float(file["seconds"])
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return Part.empty(len(window), self.width)
        fits = part.vectors.shape == (len(window), self.width)
        return part if fits else Part.empty(len(window), self.width)

    def save(self, window: range, part: Part) -> None:
        with atomic_path(self._path(window)) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                vectors=part.vectors,
                marks=part.marks,
                reasons=np.array(part.reasons),
                seconds=part.seconds,
            )

    def pending(self, marks: np.ndarray) -> dict[range, list[int]]:
        """Return, for each window that is not done, the track_idx that are to be computed."""
        work = {}
        for window in self.windows():
            part = self.load(window)
            stale = part.marks != marks[window.start : window.stop]
            rows = [
                idx for idx, old, why in zip(window, stale, part.reasons, strict=True) if old or why
            ]
            if rows:
                work[window] = rows
        return work

    def failures(self) -> dict[int, str]:
        """Return {track_idx: reason} of every row without a vector."""
        return {
            idx: why
            for window in self.windows()
            for idx, why in zip(window, self.load(window).reasons, strict=True)
            if why
        }

    def write_matrix(self, path: Path) -> float:
        """Write all rows as float32 (n_tracks, width), NaN where a row failed; return the seconds.

        The rows are written a window at a time and not through a memory map: on a full disk that
        would kill the process where this raises an error.
        """
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.n_tracks, self.width)}
        seconds = 0.0
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for window in self.windows():
                part = self.load(window)
                file.write(np.ascontiguousarray(part.vectors, "<f4").tobytes())
                seconds += part.seconds
        return seconds

    def exist(self) -> bool:
        return (self.folder / "plan.json").exists()

    def remove(self) -> None:
        if self.folder.exists():
            (self.folder / "plan.json").unlink(missing_ok=True)  # first: without it nothing counts
            shutil.rmtree(self.folder)

    def _path(self, window: range) -> Path:
        return self.folder / f"{window.start:08d}.npz"


def differences(made: dict, now: dict) -> list[str]:
    """Return 'KEY was OLD and is NEW' for each value that differs, one level deep."""
    now = json.loads(json.dumps(now))
    changed = []
    for key in dict.fromkeys([*made, *now]):
        old, new = made.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed += [f"{key}: {line}" for line in differences(old, new)]
        elif old != new:
            changed.append(f"{key} was {_short(old)} and is {_short(new)}")
    return changed


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "..."
