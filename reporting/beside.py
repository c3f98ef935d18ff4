"""Data beside the listening page: neighbours of every track, and every embedding's map.

A page opened from a folder may load scripts and nothing else, so each file is a script that hands
over one text: numbers, little-endian, in base64. They are loaded when somebody asks for them.

    data/near-EMBEDDING-BLOCK.js  of BLOCK tracks the nearest others: places uint32 (BLOCK, k), then
                                  100 times the cosine int8 (BLOCK, k); place 2^32 - 1 is nobody,
                                  2^32 - 2 was not looked for
    data/map-EMBEDDING.js         axes of every track, uint16 (n, 2), 0 to 65,535 over the range
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.artifacts import atomic_path
from recommenders.vectors import unit_rows
from reporting.similarity import principal_axes

BLOCK = 2048  # tracks of one file
TRACKS = 512  # tracks compared with all at a time
NOBODY, UNSOUGHT = np.uint32(2**32 - 1), np.uint32(2**32 - 2)


def write_script(path: Path, name: str, *arrays: np.ndarray) -> Path:
    """Write a script that hands the page the arrays' bytes, one after the other, under a name."""
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    text = f'take("{name}","{base64.b64encode(content).decode("ascii")}")\n'
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="ascii")
    return path


def all_nearest(
    vectors: np.ndarray, k: int, of: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for BLOCK tracks at a time the k nearest other tracks by cosine, nearest first.

    Args:
        vectors: float (n, width); a row of zeros is no vector, so it is nobody's neighbour.
        of: rows whose neighbours are looked for, int; default: all, which takes n x n x width.

    Yields:
        places int64 (m, k), -1 where there are no more, -2 where none were looked for; cosines
        float32 (m, k), 0 there. Equal cosines are in order of place.
    """
    units = unit_rows(np.asarray(vectors, dtype=np.float32))
    known = units.any(axis=1)
    k = min(k, len(units) - 1)
    for start in range(0, len(units), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(units)))
        places = np.full((len(rows), k), -2)
        cosines = np.zeros((len(rows), k), np.float32)
        sought = np.arange(len(rows)) if of is None else np.flatnonzero(np.isin(rows, of))
        for part in np.array_split(sought, -(-len(sought) // TRACKS) or 1):
            if not len(part):
                continue
            near = units[rows[part]] @ units.T
            near[:, ~known] = -np.inf
            near[~known[rows[part]]] = -np.inf
            near[np.arange(len(part)), rows[part]] = -np.inf
            found = np.argpartition(-near, k - 1, axis=1)[:, :k]
            found.sort(axis=1)
            values = np.take_along_axis(near, found, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            found = np.take_along_axis(found, order, axis=1)
            values = np.take_along_axis(values, order, axis=1)
            there = np.isfinite(values)
            places[part] = np.where(there, found, -1)
            cosines[part] = np.where(there, values, 0)
        yield places, cosines


def write_neighbours(
    folder: Path, name: str, vectors: np.ndarray, k: int, of: np.ndarray | None = None
) -> tuple[list[Path], np.ndarray]:
    """Write the neighbours of every track under an embedding; return the files and all places."""
    files, every = [], []
    for block, (places, cosines) in enumerate(all_nearest(vectors, k, of)):
        whom = np.select([places == -1, places == -2], [NOBODY, UNSOUGHT], places).astype("<u4")
        near = np.round(100 * cosines).astype(np.int8)
        path = folder / f"near-{name}-{block}.js"
        files.append(write_script(path, path.stem, whom, near))
        every.append(places)
    return files, np.concatenate(every)


def write_map(folder: Path, name: str, vectors: np.ndarray, rows: np.ndarray) -> Path:
    """Write every track's place on the two widest axes of a sample of the tracks.

    Args:
        rows: int (m,), the sample: rows of vectors.
    """
    points = principal_axes(vectors, rows)[0]
    low, high = points.min(axis=0), points.max(axis=0)
    shares = (points - low) / np.where(high > low, high - low, 1)
    path = folder / f"map-{name}.js"
    return write_script(path, path.stem, np.round(65535 * shares).astype("<u2"))
