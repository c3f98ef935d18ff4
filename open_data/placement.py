"""Vectors in any order into a matrix in the order of trackid_sorted.csv, a block at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.options import InputError
from open_data.blocks import Block


@dataclass
class Found:
    """What was found in a table, beside the vectors.

    Attributes:
        rows: of the table.
        unknown: rows whose id is none of trackid_sorted.csv.
        repeated: rows that stand again with equal numbers.
        incomplete: rows that hold NaN or nothing in some columns, and were placed.
        has: bool (n_tracks,): which tracks have a row.
        zeros: rows that hold only zeros, and were placed.
        low, high: float32 (width,), of the rows that were placed; NaN where a column has no number.
    """

    has: np.ndarray
    rows: int = 0
    unknown: int = 0
    repeated: int = 0
    incomplete: int = 0
    zeros: int = 0
    low: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def constant(self) -> tuple[list[int], list[int], list[int]]:
        """Return the columns that are always zero, always another number, always missing."""
        same = self.low == self.high
        zero = same & (self.low == 0)
        places = (zero, same & ~zero, np.isnan(self.low))
        return tuple(np.flatnonzero(where).tolist() for where in places)


class Matrix:
    """float32 (n_tracks, width) on the disk, written by rows and never held in memory.

    Args:
        path: to write, as np.save does.
        ids: of trackid_sorted.csv, ascending by code point.
        where: what errors call a row of the table: line, row or file.
    """

    def __init__(self, path: Path, ids: list[str], table: Path, where: str):
        self.path, self.table, self.where = path, table, where
        # UTF-8 has the order of code points, and numpy compares bytes far faster than text.
        self.ids = np.array([track_id.encode() for track_id in ids])
        self.found = Found(has=np.zeros(len(ids), bool))
        self.width, self.file, self.start = 0, None, 0

    def place(self, block: Block) -> None:
        """Write the rows of tracks that are known.

        Raises:
            InputError: an infinite value, or a track that stands again with other numbers.
        """
        found, width = self.found, block.vectors.shape[1]
        if self.file is None:
            self._begin(width)
        infinite = np.isinf(block.vectors).any(axis=1)
        if infinite.any():
            at = int(infinite.argmax())
            raise InputError(f"{self._row(block, at)}: '{block.ids[at]}' has an infinite value")
        keys = np.array([track_id.encode() for track_id in block.ids], dtype=bytes)
        at = np.minimum(np.searchsorted(self.ids, keys), len(self.ids) - 1)
        known = self.ids[at] == keys
        found.rows += len(keys)
        found.unknown += int((~known).sum())
        vectors = block.vectors[known]
        if not len(vectors):
            return
        missing = np.isnan(vectors)
        found.incomplete += int(missing.any(axis=1).sum())
        found.zeros += int((~vectors.any(axis=1)).sum())
        found.low = np.fmin(found.low, np.fmin.reduce(vectors, axis=0))
        found.high = np.fmax(found.high, np.fmax.reduce(vectors, axis=0))
        rows = np.flatnonzero(known)
        for row, idx, vector in zip(rows, at[known], vectors, strict=True):
            self._write(block, int(row), int(idx), vector)

    def _write(self, block: Block, row: int, idx: int, vector: np.ndarray) -> None:
        content, offset = vector.tobytes(), self.start + idx * self.width * 4
        if self.found.has[idx]:
            before = np.frombuffer(os.pread(self.file.fileno(), len(content), offset), np.float32)
            if not np.array_equal(before, vector, equal_nan=True):
                raise InputError(
                    f"{self._row(block, row)}: '{block.ids[row]}' stands twice, with other numbers"
                )
            self.found.repeated += 1
            return
        self.found.has[idx] = True
        os.pwrite(self.file.fileno(), content, offset)

    def _row(self, block: Block, row: int) -> str:
        return f"--table {self.table} {self.where} {block.first + row}"

    def _begin(self, width: int) -> None:
        self.width, self.file = width, open(self.path, "w+b")
        shape = {"descr": "<f4", "fortran_order": False, "shape": (len(self.ids), width)}
        np.lib.format.write_array_header_1_0(self.file, shape)
        self.file.flush()
        self.start = self.file.tell()
        self.file.truncate(self.start + len(self.ids) * width * 4)
        self.found.low = self.found.high = np.full(width, np.nan, np.float32)

    def finish(self) -> None:
        """Write NaN for the tracks without a row, and close the file.

        Raises:
            InputError: no row of the table is of a track of trackid_sorted.csv.
        """
        if not self.found.has.any():
            self.close()
            raise InputError(
                f"--table {self.table}: none of its {self.found.rows:,} rows is of a track of "
                "trackid_sorted.csv; is --id-column the track ids, and --root the right one?"
            )
        nothing = np.full(self.width, np.nan, np.float32).tobytes()
        for idx in np.flatnonzero(~self.found.has):
            os.pwrite(self.file.fileno(), nothing, self.start + int(idx) * self.width * 4)
        self.close()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
