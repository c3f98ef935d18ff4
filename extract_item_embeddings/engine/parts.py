"""What an extraction has done so far, kept in windows of tracks, so that any kill costs little.

A window is a fixed range of track_idx. Its file holds the vectors, a mark of the audio each was
computed from, the reasons of those that failed and what is to be said of others, so the next run
knows which rows to compute: those of no file, those that failed, and those whose audio has changed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.artifacts import NO_ARRAY, atomic_path, read_json, write_json
from core.options import WorkError

PENDING = "not computed yet"
UNREADABLE = (  # what damage makes of reading a part: numpy's errors, and all that zipfile has
    *NO_ARRAY,
    *(KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error),
)


@dataclass
class Part:
    """The rows of one window."""

    vectors: np.ndarray  # float32 (rows, width); NaN where there is a reason
    marks: np.ndarray  # uint64 (rows,): the audio file each row was computed from
    reasons: list[str]  # why a row has no vector; '' where it has one
    remarks: list[str]  # what was odd about a row's audio; mostly ''
    seconds: float = 0.0  # spent on it
    peak_memory: int = 0  # bytes: the largest process that worked on it
    devices: str = ""  # that it was computed on, 'cpu' or 'cpu cuda'

    @classmethod
    def empty(cls, rows: int, width: int) -> Part:
        vectors = np.full((rows, width), np.nan, np.float32)
        return cls(vectors, np.zeros(rows, np.uint64), [PENDING] * rows, [""] * rows)

    def put(self, row: int, result: np.ndarray | str, mark: int, remark: str = "") -> None:
        """Set a row to its vector, or to NaN and the reason why there is none."""
        failed = isinstance(result, str)
        self.vectors[row] = np.nan if failed else result
        self.reasons[row] = result if failed else ""
        self.marks[row] = mark
        self.remarks[row] = remark

    def cost(self, seconds: float, peak_memory: int, device: str) -> None:
        """Add what a process spent on it."""
        self.seconds += seconds
        self.peak_memory = max(self.peak_memory, peak_memory)
        self.devices = " ".join(sorted({*self.devices.split(), device}))


class Parts:
    """The folder of an unfinished extraction: `plan.json`, and a file for each finished window."""

    def __init__(self, folder: Path, n_tracks: int, width: int, window: int, shards: int = 1):
        self.folder, self.n_tracks, self.width = Path(folder), n_tracks, width
        self.window, self.shards = window, shards

    def exist(self) -> bool:
        return (self.folder / "plan.json").exists()

    def have_rows(self) -> bool:
        """Say whether any window has been computed."""
        return any(self.folder.glob("*.npz"))

    def has(self, window: range) -> bool:
        return self._path(window).exists()

    def begin(self, plan: dict, origin: dict | None = None) -> None:
        """Write the plan, anything json holds, unless there is one: the first to come decides.

        Args:
            plan: what decides the vectors.
            origin: why there are parts, see `origin`.
        """
        path = self.folder / "plan.json"
        if path.exists():
            return
        own = self.folder / f".plan.{socket.gethostname()}.{os.getpid()}.json"
        write_json(
            own, {"window": self.window, "shards": self.shards, "origin": origin or {}, **plan}
        )
        try:
            os.link(own, path)  # unlike a rename it fails if another process was quicker
        except FileExistsError:
            pass
        finally:
            own.unlink()

    def origin(self) -> dict:
        """Return why the parts that are there were begun."""
        return self._plan().get("origin", {})

    def changed(self, plan: dict) -> list[str]:
        """Return how the plan that is there differs from this one; if not at all, follow it."""
        made = self._plan()
        window = made.pop("window")
        made.pop("origin", None)
        changed = differences(made, {"shards": self.shards, **plan})
        if not changed:
            self.window = window
        return changed

    def _plan(self) -> dict:
        keys = ("window", "shards")
        return read_json(self.folder / "plan.json", "the same command with --overwrite", keys)

    def windows(self) -> list[range]:
        """Return the track_idx of every window, in order."""
        starts = range(0, self.n_tracks, self.window)
        return [range(start, min(start + self.window, self.n_tracks)) for start in starts]

    def load(self, window: range) -> Part:
        """Return what is known of a window; a file that cannot be read counts as absent."""
        try:
            with np.load(self._path(window)) as file:
                part = Part(
                    file["vectors"],
                    file["marks"],
                    file["reasons"].tolist(),
                    file["remarks"].tolist(),
                    float(file["seconds"]),
                    int(file["peak_memory"]),
                    str(file["devices"]),
                )
        except UNREADABLE:
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
                remarks=np.array(part.remarks),
                seconds=part.seconds,
                peak_memory=part.peak_memory,
                devices=part.devices,
            )

    def pending(self, marks: np.ndarray, windows: list[range]) -> dict[range, dict[int, str]]:
        """Return, for each of the windows that is not done, {track_idx: why it is to be computed}.

        Args:
            marks: uint64 (n_tracks,): the audio file each row is to be computed from.
        """
        work = {}
        for window in windows:
            part = self.load(window)
            stale = part.marks != marks[window.start : window.stop]
            rows = {
                idx: PENDING if old else why
                for idx, old, why in zip(window, stale, part.reasons, strict=True)
                if old or why
            }
            if rows:
                work[window] = rows
        return work

    def failures(self, windows: list[range]) -> dict[int, str]:
        """Return {track_idx: reason} of every row of the windows without a vector."""
        return {
            idx: why
            for window in windows
            for idx, why in zip(window, self.load(window).reasons, strict=True)
            if why
        }

    def remarks(self, windows: list[range]) -> dict[int, str]:
        """Return {track_idx: remark} of every row of the windows that has one."""
        return {
            idx: remark
            for window in windows
            for idx, remark in zip(window, self.load(window).remarks, strict=True)
            if remark
        }

    def write_matrix(self, path: Path) -> dict:
        """Write all rows as float32 (n_tracks, width), NaN where a row failed; return the costs.

        The rows are written a window at a time and not through a memory map: on a full disk that
        would kill the process where this raises an error.

        Raises:
            WorkError: a part that was there cannot be read any more.
        """
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.n_tracks, self.width)}
        seconds, peak_memory, devices = 0.0, 0, set()
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for window in self.windows():
                part = self.load(window)
                if PENDING in part.reasons:
                    raise WorkError(f"{self._path(window)} is gone or damaged; run this once more")
                file.write(np.ascontiguousarray(part.vectors, "<f4").tobytes())
                seconds += part.seconds
                peak_memory = max(peak_memory, part.peak_memory)
                devices |= set(part.devices.split())
            file.flush()
            os.fsync(file.fileno())
        costs = {"seconds": round(seconds, 1), "peak_memory_bytes": peak_memory}
        return {"device": " ".join(sorted(devices)), **costs}

    def remove(self) -> None:
        """Remove the parts, all at once for who looks, whenever the process is killed."""
        away = self.folder.with_name(f".{self.folder.name}.removed")
        shutil.rmtree(away, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(away)
            shutil.rmtree(away)

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
