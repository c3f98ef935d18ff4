"""The nearest tracks of every track: looked for on a few axes, and compared on all.

All tracks against all cost tracks x tracks x width: ten embeddings of the study's 56,512 tracks
take 7.6e13 operations, most of them for wide ones, whose vectors lie near few directions. So they
are first compared on their widest axes, then each track's best candidates by whole vectors. Whether
the axes suffice is tested, on tracks that are compared with all others: where one neighbour is
missed, there are twice as many axes, and beyond half the width whole vectors are compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recommenders.cores import by_parts
from recommenders.lists import top_k
from recommenders.vectors import unit_rows

BLOCK = 2048  # tracks of one file
TRACKS = 512  # tracks compared with all at a time
AXES = 64  # that a search begins with
CANDIDATES = 6  # for each neighbour that is wanted
CHECKED = 512  # tracks on which a search by axes is tested
FEW = 16_384  # tracks up to which all are compared: it takes seconds
GATHERED = 1 << 22  # numbers of candidates' vectors that are gathered at a time
SAME = 1e-5  # cosines that differ by less are one to float32


def all_nearest(
    vectors: np.ndarray, k: int, of: np.ndarray | None = None, *, unit: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for BLOCK tracks at a time the k nearest other tracks by cosine, nearest first.

    Args:
        vectors: float (n, width); a row of zeros is no vector, so it is nobody's neighbour.
        of: rows whose neighbours are looked for, int; default: all.
        unit: the vectors are float32 and at length 1, or zero, already.

    Yields:
        places int64 (m, k), -1 where there are no more, -2 where none were looked for; cosines
        float32 (m, k), 0 there. Equal cosines are in order of place.
    """
    units = vectors if unit else unit_rows(np.asarray(vectors, dtype=np.float32))
    known = units.any(axis=1)
    k = min(k, len(units) - 1)
    axes = narrowed(units, known, k) if of is None else None
    for start in range(0, len(units), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(units)))
        places = np.full((len(rows), k), -2)
        cosines = np.zeros((len(rows), k), np.float32)
        sought = np.arange(len(rows)) if of is None else np.flatnonzero(np.isin(rows, of))
        for part in np.array_split(sought, -(-len(sought) // TRACKS) or 1):
            if len(part):
                places[part], cosines[part] = _nearest(units, known, rows[part], k, axes)
        yield places, cosines


def narrowed(units: np.ndarray, known: np.ndarray, k: int) -> np.ndarray | None:
    """Return the tracks on so many of their widest axes that a search by them misses none.

    Args:
        units: float32 (n, width), rows of length 1, or of zeros where `known` is False.
        k: neighbours wanted.

    Returns:
        float32 (n, axes); None where whole vectors are to be compared: there are few tracks, or so
        many axes would be needed.
    """
    n, width = units.shape
    if n <= FEW:
        return None
    rng = np.random.default_rng(0)
    sample = units[np.sort(rng.choice(n, min(n, FEW), replace=False))]
    checked = np.sort(rng.choice(n, CHECKED, replace=False))
    exact, axes = None, AXES
    while axes <= width // 2:
        on_axes = None  # that and the next need not fit
        on_axes = units @ _widest(sample, axes, rng)
        if exact is None:
            exact = _nearest(units, known, checked, k, None)[1]
        found = _nearest(units, known, checked, k, on_axes)[1]
        if (found > exact - SAME).all():
            return on_axes
        axes *= 2
    return None


def _widest(sample: np.ndarray, axes: int, rng: np.random.Generator) -> np.ndarray:
    """Return the directions of most of the sample's length, float32 (width, axes), orthonormal.

    Source: Halko, Martinsson and Tropp, Finding Structure with Randomness, SIAM Review 2011
    (algorithm 4.4, one power iteration more than its start).
    """
    spread = sample.T @ (sample @ rng.standard_normal((sample.shape[1], axes), dtype=np.float32))
    spread = np.linalg.qr(spread)[0]
    return np.linalg.qr(sample.T @ (sample @ spread))[0]


def _nearest(units, known, rows, k: int, on_axes) -> tuple[np.ndarray, np.ndarray]:
    """Return places and cosines of the nearest tracks of some rows, see all_nearest."""
    compared, wanted = (units, k) if on_axes is None else (on_axes, CANDIDATES * k)
    near = compared[rows] @ compared.T
    near[:, ~known] = -np.inf
    near[~known[rows]] = -np.inf

    def best(part: slice) -> tuple[np.ndarray, np.ndarray]:
        found = top_k(near[part], list(rows[part, None]), wanted)
        if on_axes is None:
            return found, np.take_along_axis(near[part], found, axis=1)
        found.sort(axis=1)
        cosines = _cosines(units, rows[part], found)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(cosines, order, axis=1)

    found, cosines = (np.concatenate(each) for each in zip(*by_parts(best, len(rows)), strict=True))
    there = (found >= 0) & np.isfinite(cosines)
    return np.where(there, found, -1), np.where(there, cosines, 0)


def _cosines(units: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the cosines of each row and its others, float32 (n, m); -inf where it is -1."""
    cosines = np.empty(others.shape, np.float32)
    step = max(1, GATHERED // (others.shape[1] * units.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        # By einsum, as products of BLAS would have threads of their own within these threads.
        cosines[part] = np.einsum("ncw,nw->nc", units[others[part]], units[rows[part]])
    cosines[others < 0] = -np.inf
    return cosines
