"""The vectors of an embedding: loaded, checked, and averaged into user vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.cores import by_parts
from core.names import NONE, WITHOUT_FILE
from core.options import InputError
from recommenders.compiled import AHEAD, LINE, compiled, fetch_ahead
from recommenders.embedding_files import check_rows, matrix_shape, read_matrix
from recommenders.interactions import Interactions, Split

EXTREME = 1e25  # values beyond it, or below its inverse, are refused: sums of them would overflow
BLOCK = 1 << 12  # rows that are looked at together
SHORTEST = 1e-8  # of the largest number there; a row that is shorter counts as zeros
PARALLEL = 0.999  # mean cosine of two tracks above which float32 cannot tell neighbours apart
BESIDE = "+"  # between the names of embeddings that are put side by side
SHUFFLE_STREAM = 0x5F  # beside the seed, so that no other draw of a run has the same stream
NOISE_SEED = 0  # `noise` is the same matrix in every run, as a file on disk would be


def embedding_hash(root: Path, name: str, width: int) -> str:
    """Return the fingerprint of an embedding: its file's, or the recipe of one without a file.

    Raises:
        InputError: there is none, it is not the one that its json tells of, or a file has the name
            of one without.
    """
    if BESIDE in name:
        return BESIDE.join(embedding_hash(root, part, width) for part in parts_of(name))
    if name in (*WITHOUT_FILE, NONE) and (path := root / "embeddings" / f"{name}.npy").exists():
        raise InputError(f"{path} is of no use: '{name}' has a meaning; give it another name")
    if name in WITHOUT_FILE:
        return f"{name}-{width}"
    return read_matrix(root, name).sha256


def load_item_vectors(
    root: Path,
    name: str,
    split: Split,
    *,
    missing: str = "error",
    width: int = 128,
    known: np.ndarray | None = None,
    fingerprint: str | None = None,
) -> np.ndarray | None:
    """Return the vectors of the split's tracks, float32 (n_items, width); None for `random`.

    Args:
        name: an embedding under root/embeddings, several side by side as A+B, `noise` (seeded
            N(0, 1), the same in every run), or `random` (vectors that are learned from nothing, so
            there are none to load).
        missing: what a row of NaN or zeros does: `error`, or `mean` of the other train tracks.
        width: of `noise`.
        known: where the split's tracks are cold ones, the vectors of the train tracks, whose mean
            a missing one gets.
        fingerprint: embedding_hash's, where it was asked for before; another one is an error.

    Raises:
        InputError: no such embedding, another number of rows than trackid_sorted.csv, another
            list of tracks than the one it was extracted for, infinite values, missing rows.
    """
    if BESIDE in name:
        splits = [None] * len(parts_of(name))
        if known is not None:
            ends = np.cumsum(part_widths(root, name, width))[:-1]
            splits = np.split(known, ends, axis=1)
        prints = fingerprint.split(BESIDE) if fingerprint else [None] * len(splits)
        same = {"missing": missing, "width": width}
        loaded = [
            load_item_vectors(root, part, split, known=own, fingerprint=told, **same)
            for part, own, told in zip(parts_of(name), splits, prints, strict=True)
        ]
        return np.hstack(loaded)
    if name == "random":
        return None
    if name == "noise":
        rng = np.random.default_rng(NOISE_SEED)
        return rng.standard_normal((split.n_tracks, width), dtype=np.float32)[split.track_idx]
    matrix, path = read_matrix(root, name), root / "embeddings" / f"{name}.npy"
    if fingerprint not in (None, matrix.sha256):
        raise InputError(f"{path} was replaced while it was read; run the same command again")
    check_rows(root, name, matrix, split.n_tracks)
    vectors = matrix.rows(split.track_idx)
    return _fill_missing(path, vectors, split.track_idx, missing, known)


def parts_of(name: str) -> list[str]:
    """Return the embeddings that A+B puts side by side; of a plain name itself.

    Raises:
        InputError: one of them stands twice, or is `random`, which has no vectors.
    """
    parts = name.split(BESIDE)
    if len(set(parts)) < len(parts) or (len(parts) > 1 and "random" in parts):
        raise InputError(f"--embedding {name} needs different embeddings that have vectors")
    return parts


def part_widths(root: Path, name: str, width: int) -> list[int]:
    """Return how many dimensions each embedding of A+B has; `width` is that of noise."""
    return [
        width if part in WITHOUT_FILE else matrix_shape(root, part)[1] for part in parts_of(name)
    ]


def _fill_missing(path: Path, vectors, track_idx, missing: str, known) -> np.ndarray:
    """Return the vectors, missing rows filled where they are, or say what is wrong with them."""
    # NaN and rows of zeros are missing ones; see below.
    largest, nan = np.empty(len(vectors), np.float32), np.empty(len(vectors), bool)
    for start in range(0, len(vectors), BLOCK):
        rows = vectors[start : start + BLOCK]
        largest[start : start + BLOCK] = np.maximum(rows.max(axis=1), -rows.min(axis=1))
        nan[start : start + BLOCK] = np.isnan(rows).any(axis=1)
    infinite = np.isinf(largest)
    for row in np.flatnonzero(nan):  # where the largest says nothing
        infinite[row] = np.isinf(vectors[row]).any()
    if infinite.any():
        raise InputError(f"{path} row {track_idx[infinite.argmax()]} holds an infinite value")
    extreme = (largest > EXTREME) | ((largest > 0) & (largest < 1 / EXTREME))
    if extreme.any():
        row = extreme.argmax()
        raise InputError(
            f"{path} row {track_idx[row]} has values up to {largest[row]:.3g}, whose squared "
            "length does not fit into float32; scale the vectors and save them again"
        )
    gone = nan | (largest == 0)
    if not gone.any():
        return vectors
    if missing == "error" or (known is None and gone.all()):
        row = gone.argmax()
        what = "NaN" if nan[row] else "only zeros"
        raise InputError(
            f"{path} has no vector for {gone.sum():,} of {len(gone):,} "
            f"{'train' if known is None else 'cold'} tracks (row {track_idx[row]} holds {what}); "
            "extract them, or use --missing mean"
        )
    if known is None:
        vectors[gone] = 0  # add nothing to the sum
        vectors[gone] = vectors.sum(axis=0, dtype=np.float64) / (~gone).sum()
    else:
        vectors[gone] = known.mean(axis=0, dtype=np.float64)
    return vectors


def shuffled_rows(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows in another order, drawn by the seed.

    The control of an embedding: as many vectors, of the same distribution, that say nothing of
    their tracks. Only rows of train tracks are exchanged, so none is missing that was not.
    """
    return vectors[np.random.default_rng([seed, SHUFFLE_STREAM]).permutation(len(vectors))]


def mean_vectors(
    train: Interactions,
    vectors: np.ndarray,
    users: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return the mean of every user's item vectors, each item once, float (n_users, width).

    Args:
        train: the users' histories.
        vectors: float (n_items, width); the means have their type.
        users: user_idx (b,), for the means of these alone, (b, width).
        weights: float (n_items,), what each item's vector is multiplied by.
    """
    users = np.arange(len(train.offsets) - 1) if users is None else np.asarray(users, np.int64)
    weights = np.ones(len(vectors), vectors.dtype) if weights is None else weights
    means = np.empty((len(users), vectors.shape[1]), vectors.dtype)

    def part(rows: slice) -> None:
        _mean_rows(vectors, weights, train.offsets, train.items, users[rows], means[rows])

    by_parts(part, len(users))
    return means


@compiled
def _mean_rows(vectors, weights, offsets, items, users, means):
    """Write the means of the users' vectors, summed in the order of their items."""
    means[:] = 0
    for i in range(len(users)):
        first, end = offsets[users[i]], offsets[users[i] + 1]
        for at in range(first, end):
            if at + AHEAD < end:
                for d in range(0, vectors.shape[1], LINE):
                    fetch_ahead(vectors, items[at + AHEAD], d)
            item = items[at]
            weight = vectors.dtype.type(weights[item] / (end - first))
            for d in range(vectors.shape[1]):
                means[i, d] += weight * vectors[item, d]


class Cosines:
    """The cosines of users' mean vectors and tracks: user_idx (b,) -> float (b, n).

    The result is overwritten by the next call: fresh memory would cost a third of the product's
    time. nearest.py makes lists of them without ever holding those of a user to all tracks.

    Args:
        train: the users' histories.
        vectors: float (n_items, width), of what users have heard.
        items: float (n, width), of the candidates, at length 1.
        lengths: float (n_items,), what `vectors` were divided by; None where they are as they were.
    """

    def __init__(self, train: Interactions, vectors, items, lengths: np.ndarray | None = None):
        self.train, self.vectors, self.items, self.lengths = train, vectors, items, lengths
        self.buffer = np.empty((0, len(items)), dtype=items.dtype)

    def means(self, users: np.ndarray) -> np.ndarray:
        """Return the users' mean vectors at length 1, float (b, width)."""
        return unit_rows(mean_vectors(self.train, self.vectors, users, self.lengths))

    def __call__(self, users: np.ndarray) -> np.ndarray:
        if len(self.buffer) < len(users):
            self.buffer = np.empty((len(users), len(self.items)), dtype=self.items.dtype)
        return np.matmul(self.means(users), self.items.T, out=self.buffer[: len(users)])


def knn_scorer(
    train: Interactions,
    vectors: np.ndarray,
    candidates: np.ndarray | None = None,
    *,
    overwrite: bool = False,
) -> Cosines:
    """Return the cosines of every user's mean and every candidate.

    A few users at a time are all that is held, so memory follows the block, not the users.
    Vectors that are nearly parallel are said to be so and compared in float64: float32 keeps 70 %
    of the right top 50 at a mean cosine of .999, and 4 % at .999999.

    Args:
        train: the users' histories.
        vectors: float32 (n_items, width), of the train tracks.
        candidates: float32 (n, width), of other tracks; None for those of train.
        overwrite: bring `vectors` themselves to length 1, so that there is no second matrix; the
            sums of the raw ones are then taken by weights that hold the lengths.
    """
    alike = mean_cosine(vectors)
    if alike > PARALLEL:
        print(
            f"the vectors are nearly parallel, with a mean cosine of {alike:.7f}; they are "
            "compared in float64, but --scale standardize says more of what sets tracks apart"
        )
        vectors = vectors.astype(np.float64)
        candidates = None if candidates is None else candidates.astype(np.float64)
    if overwrite:
        lengths = make_unit_rows(vectors)
        return Cosines(train, vectors, vectors, lengths)
    return Cosines(train, vectors, unit_rows(vectors if candidates is None else candidates))


def make_unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale the rows to length 1 where they are; return the lengths they had, float (n,).

    They are those of the rows divided by the largest number's power of two, as unit_rows does.
    """
    top, lengths = _largest(vectors), np.empty(len(vectors), dtype=vectors.dtype)
    by_parts(lambda of: _unit(vectors[of], top, vectors[of], lengths[of]), len(vectors))
    return lengths


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return the rows scaled to length 1; a row of zeros stays zero, so its cosines are 0.

    A row shorter than 1e-8 of the largest number there is counts as zeros. The largest is divided
    by first, so that no square leaves float32's range.
    """
    vectors = np.ascontiguousarray(vectors)
    top, unit = _largest(vectors), np.empty_like(vectors)
    lengths = np.empty(len(vectors), dtype=vectors.dtype)
    by_parts(lambda of: _unit(vectors[of], top, unit[of], lengths[of]), len(vectors))
    return unit


@compiled
def _unit(vectors, top, unit, lengths):
    """Write rows over top at length 1, into their own memory too, and the lengths they had."""
    scale = vectors.dtype.type(1) / top  # of a power of two it is exact
    for i in range(len(vectors)):
        squares = vectors.dtype.type(0)
        for d in range(vectors.shape[1]):
            value = vectors[i, d] * scale
            squares += value * value
        length = vectors.dtype.type(max(np.sqrt(squares), SHORTEST))
        lengths[i] = length
        for d in range(vectors.shape[1]):
            unit[i, d] = vectors[i, d] * scale / length


@compiled
def _most(vectors):
    """Return the largest number of the rows, whatever its sign."""
    most = vectors.dtype.type(0)
    for i in range(len(vectors)):
        for d in range(vectors.shape[1]):
            most = max(most, abs(vectors[i, d]))
    return most


def _largest(vectors: np.ndarray):
    """Return the power of two that brings the largest number to between 1/2 and 1: no rounding."""
    top = max(by_parts(lambda of: float(_most(vectors[of])), len(vectors)), default=0.0)
    return vectors.dtype.type(2.0 ** min(max(np.frexp(top)[1], -126), 127) if top > 0 else 1)


def mean_cosine(vectors: np.ndarray) -> float:
    """Return the mean cosine of two rows (n, width), over all pairs, a row with itself included."""
    vectors = np.ascontiguousarray(vectors)
    top = _largest(vectors)
    total = sum(by_parts(lambda of: _sum_of_units(vectors[of], top), len(vectors))) / len(vectors)
    return float(total @ total)


@compiled
def _sum_of_units(vectors, top):
    """Return the sum of what _unit writes, float64 (width,)."""
    total = np.zeros(vectors.shape[1])
    for i in range(len(vectors)):
        squares = vectors.dtype.type(0)
        for d in range(vectors.shape[1]):
            value = vectors[i, d] / top
            squares += value * value
        length = top * max(np.sqrt(squares), SHORTEST)
        for d in range(vectors.shape[1]):
            total[d] += vectors[i, d] / length
    return total
