"""Data beside the listening page: neighbours of every track, and every embedding's map.

A page opened from a folder may load scripts and nothing else, so each file is a script that hands
over one text: numbers, little-endian, in base64. They are loaded when somebody asks for them.

    data/near-EMBEDDING-BLOCK.js  of BLOCK tracks the nearest others: places uint32 (BLOCK, k), then
                                  100 times the cosine int8 (BLOCK, k); place 2^32 - 1 is nobody,
                                  2^32 - 2 was not looked for
    data/lists.js                 of each user and list its first k tracks: places uint32 (users,
                                  lists, k); place 2^32 - 1 is nobody
    data/map-EMBEDDING.js         axes of every track, uint16 (n, 2), 0 to 65,535 over the range
"""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from core.artifacts import atomic_path
from reporting.neighbours import BLOCK, all_nearest

NOBODY, UNSOUGHT = np.uint32(2**32 - 1), np.uint32(2**32 - 2)


def write_script(path: Path, name: str, *arrays: np.ndarray) -> Path:
    """Write a script that hands the page the arrays' bytes, one after the other, under a name."""
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    text = f'take("{name}","{base64.b64encode(content).decode("ascii")}")\n'
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="ascii")
    return path


def write_neighbours(
    folder: Path, name: str, vectors: np.ndarray, k: int, of: np.ndarray | None = None
) -> list[Path]:
    """Write the neighbours of every track under an embedding; return the files.

    Args:
        vectors: float32 (n, width), of length 1 or zero.
        k, of: as all_nearest takes them.
    """
    files = []
    for block, (places, cosines) in enumerate(all_nearest(vectors, k, of, unit=True)):
        whom = np.select([places == -1, places == -2], [NOBODY, UNSOUGHT], places).astype("<u4")
        near = np.round(100 * cosines).astype(np.int8)
        path = folder / f"near-{name}-{block}.js"
        files.append(write_script(path, path.stem, whom, near))
    return files


def read_places(folder: Path, name: str, n: int, k: int) -> np.ndarray:
    """Return the places that write_neighbours wrote of n tracks, int64 (n, k); -1 where none is."""
    every, k = [], min(k, n - 1)
    for block, start in enumerate(range(0, n, BLOCK)):
        rows = min(BLOCK, n - start)
        text = (folder / f"near-{name}-{block}.js").read_text(encoding="ascii")
        content = base64.b64decode(text.split('"')[3])
        every.append(np.frombuffer(content, "<u4", rows * k).reshape(rows, k).astype(np.int64))
    places = np.concatenate(every)
    return np.where(places >= UNSOUGHT, -1, places)


def write_lists(folder: Path, places: np.ndarray) -> Path:
    """Write the places of every user's lists, int (users, lists, k), -1 where nobody is."""
    whom = np.where(places < 0, NOBODY, places).astype("<u4")
    return write_script(folder / "lists.js", "lists", whom)


def write_map(folder: Path, name: str, points: np.ndarray) -> Path:
    """Write every track's place on a map; return the file.

    Args:
        points: float (n, 2), of similarity.on_axes.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    shares = (points - low) / np.where(high > low, high - low, 1)
    path = folder / f"map-{name}.js"
    return write_script(path, path.stem, np.round(65535 * shares).astype("<u2"))
