"""The nearest tracks of every track: looked for on a few axes, and compared on all.

All tracks against all cost tracks x tracks x width: ten embeddings of the study's 56,512 tracks
take 7.6e13 operations, most of them for wide ones, whose vectors lie near few directions. So they
are first compared on their widest axes, then each track's best candidates by whole vectors. Whether
the axes suffice is tested, on tracks that are compared with all others: where one neighbour is
missed, there are twice as many axes, and beyond half the width whole vectors are compared. Every
two tracks are multiplied once, and the product is looked at for both while the cache holds it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.cores import by_parts, one_core_a_product
from recommenders.best import Best
from recommenders.compiled import compiled, fetch_ahead
from recommenders.lists import top_k
from recommenders.vectors import unit_rows

BLOCK = 2048  # tracks of one file
TRACKS = 512  # tracks compared with all at a time
AXES = 64  # that a search begins with
CANDIDATES = 6  # for each neighbour that is wanted, by a few axes
SPARE = 2  # the same by whole vectors, of whose products the last digit may differ
CHECKED = 512  # tracks on which a search by axes is tested
FEW = 16_384  # tracks up to which whole vectors are compared: it takes seconds
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
        float32 (m, k), 0 there. Equal cosines are in order of place; where more are equal than
        candidates are kept, those are not always the first places.
    """
    units = vectors if unit else unit_rows(np.asarray(vectors, dtype=np.float32))
    known = units.any(axis=1)
    k = min(k, len(units) - 1)
    many = of is None and len(units) > 2 * TRACKS
    if many:
        axes = narrowed(units, known, k)
        compared, wanted = (units, SPARE * k) if axes is None else (axes, CANDIDATES * k)
        candidates = _candidates(compared, known, wanted)
    else:  # by rows: as many of them at a time as a product is quick for, and memory holds
        sought = np.arange(len(units)) if of is None else np.unique(of)
        places = np.full((len(units), k), -2)
        cosines = np.zeros((len(units), k), np.float32)
        for part in np.array_split(sought, -(-len(sought) // TRACKS) or 1):
            if len(part):
                places[part], cosines[part] = _nearest(units, known, part, k, None)
    for start in range(0, len(units), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(units)))
        if many:
            yield _best_of(units, rows, candidates[rows], k)
        else:
            yield places[rows], cosines[rows]


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


def _candidates(vectors: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    """Return for every track the k others whose products with it are largest, in no order.

    A product serves both its tracks, so each pair of blocks is multiplied once. In a round every
    block has one partner, as in a tournament of all against all: no two threads write to one block.

    Args:
        vectors: float32 (n, axes).
        known: bool (n,), False for a track that is nobody's candidate and has none.

    Returns:
        int32 (n, k), -1 where there are no more.
    """
    blocks = [slice(at, min(at + TRACKS, len(vectors))) for at in range(0, len(vectors), TRACKS)]
    best = [Best(block.stop - block.start, k, np.float32) for block in blocks]

    def meet(pairs: list[tuple[int, int]]) -> None:
        memory = np.empty(TRACKS * TRACKS, np.float32)
        for one, other in pairs:
            rows, columns = blocks[one], blocks[other]
            shape = rows.stop - rows.start, columns.stop - columns.start
            near = memory[: shape[0] * shape[1]].reshape(shape)
            np.matmul(vectors[rows], vectors[columns].T, out=near)
            near[~known[rows]] = -np.inf
            near[:, ~known[columns]] = -np.inf
            if one == other:
                np.fill_diagonal(near, -np.inf)
            else:
                best[other].add_columns(near, rows.start)
            best[one].add(near, columns.start)

    with one_core_a_product():
        for pairs in _rounds(len(blocks)):
            by_parts(lambda part, pairs=pairs: meet(pairs[part]), len(pairs))
    return np.concatenate([each.lists()[0].astype(np.int32) for each in best])


def _rounds(n: int) -> Iterator[list[tuple[int, int]]]:
    """Yield pairs of 0 .. n - 1: each with itself, then each two once, nobody twice in a round.

    By the circle method of tournaments: one stays, all others move on a place a round.
    """
    yield [(each, each) for each in range(n)]
    others = n - 1 + n % 2  # a number that is odd; where n is odd, the one who stays is nobody
    for turn in range(others):
        pairs = [((turn + i) % others, (turn - i) % others) for i in range(1, (others + 1) // 2)]
        yield pairs if n % 2 else [(others, turn), *pairs]


def _best_of(units, rows, candidates, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return places and cosines of the nearest of each row's candidates, see all_nearest."""

    def best(part: slice) -> tuple[np.ndarray, np.ndarray]:
        found = np.sort(candidates[part], axis=1)
        cosines = np.empty(found.shape, np.float32)
        _cosines(units, rows[part], found, cosines)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(cosines, order, axis=1)

    return _joined(by_parts(best, len(rows)))


def _nearest(units, known, rows, k: int, on_axes) -> tuple[np.ndarray, np.ndarray]:
    """Return places and cosines of the nearest tracks of some rows, compared with all."""
    compared, wanted = (units, k) if on_axes is None else (on_axes, CANDIDATES * k)
    near = compared[rows] @ compared.T
    near[:, ~known] = -np.inf
    near[~known[rows]] = -np.inf

    def best(part: slice) -> tuple[np.ndarray, np.ndarray]:
        found = top_k(near[part], list(rows[part, None]), wanted)
        return found, np.take_along_axis(near[part], found, axis=1)

    found, cosines = _joined(by_parts(best, len(rows)))
    return (found, cosines) if on_axes is None else _best_of(units, rows, found, k)


def _joined(parts: list) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 places, -1 where nobody is, and cosines, 0 there, of parts of rows."""
    found, cosines = (np.concatenate(each) for each in zip(*parts, strict=True))
    there = (found >= 0) & np.isfinite(cosines)
    return np.where(there, found, np.int64(-1)), np.where(there, cosines, np.float32(0))


@compiled
def _cosines(units, rows, others, cosines):
    """Write the cosines of each row and its others, as (n, m); -inf where one is -1.

    Args:
        others: int (n, m), ascending, so that those of tracks near each other are near in memory.
    """
    m, width = others.shape[1], units.shape[1]
    for at in range(len(rows)):
        own = units[rows[at]]
        for i in range(m):
            if i + 1 < m and others[at, i + 1] >= 0:
                fetch_ahead(units, others[at, i + 1], 0)
            if others[at, i] < 0:
                cosines[at, i] = -np.inf
                continue
            other, total = units[others[at, i]], np.float32(0)
            for j in range(width):
                total += own[j] * other[j]
            cosines[at, i] = total
