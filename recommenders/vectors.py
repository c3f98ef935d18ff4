"""The vectors of an embedding: loaded, checked, and averaged into user vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from core.names import NONE, WITHOUT_FILE
from core.options import InputError
from recommenders.cores import by_parts
from recommenders.embedding_files import check_rows, matrix_shape, read_matrix
from recommenders.interactions import Interactions, Split

EXTREME = 1e25  # values beyond it, or below its inverse, are refused: sums of them would overflow
BLOCK = 1 << 9  # rows that are scaled together
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
    vectors = np.asarray(matrix.vectors[split.track_idx], dtype=np.float32)
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
    infinite = np.isinf(vectors).any(axis=1)
    if infinite.any():
        raise InputError(f"{path} row {track_idx[infinite.argmax()]} holds an infinite value")
    # NaN and rows of zeros are missing ones; see below.
    largest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    extreme = (largest > EXTREME) | ((largest > 0) & (largest < 1 / EXTREME))
    if extreme.any():
        row = extreme.argmax()
        raise InputError(
            f"{path} row {track_idx[row]} has values up to {largest[row]:.3g}, whose squared "
            "length does not fit into float32; scale the vectors and save them again"
        )
    nan = np.isnan(vectors).any(axis=1)
    gone = nan | ~vectors.any(axis=1)
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
    filled = vectors.copy()
    filled[gone] = (vectors[~gone] if known is None else known).mean(axis=0, dtype=np.float64)
    return filled


def shuffled_rows(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows in another order, drawn by the seed.

    The control of an embedding: as many vectors, of the same distribution, that say nothing of
    their tracks. Only rows of train tracks are exchanged, so none is missing that was not.
    """
    return vectors[np.random.default_rng([seed, SHUFFLE_STREAM]).permutation(len(vectors))]


def mean_vectors(train: Interactions, vectors: np.ndarray) -> np.ndarray:
    """Return the mean of every user's item vectors, each item once, float32 (n_users, width).

    Args:
        train: the users' histories.
        vectors: float32 (n_items, width).
    """
    return _averages(train, len(vectors)) @ vectors


class Cosines:
    """The cosines of users' mean vectors and tracks: user_idx (b,) -> float (b, n).

    The result is overwritten by the next call: fresh memory would cost a third of the product's
    time. nearest.py makes lists of them without ever holding those of a user to all tracks.

    Args:
        averages: (n_users, n_items), whose product with `vectors` gives the users' means.
        vectors: float (n_items, width), of what users have heard.
        items: float (n, width), of the candidates, at length 1.
    """

    def __init__(self, averages: csr_matrix, vectors: np.ndarray, items: np.ndarray):
        self.averages, self.vectors, self.items = averages, vectors, items
        self.buffer = np.empty((0, len(items)), dtype=items.dtype)

    def means(self, users: np.ndarray) -> np.ndarray:
        """Return the users' mean vectors at length 1, float (b, width)."""
        parts = by_parts(lambda rows: self.averages[users[rows]] @ self.vectors, len(users))
        return unit_rows(np.concatenate(parts))

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
    averages, items = _averages(train, len(vectors)), vectors
    alike = mean_cosine(vectors)
    if alike > PARALLEL:
        print(
            f"the vectors are nearly parallel, with a mean cosine of {alike:.7f}; they are "
            "compared in float64, but --scale standardize says more of what sets tracks apart"
        )
        vectors = items = vectors.astype(np.float64)
        candidates = None if candidates is None else candidates.astype(np.float64)
        lengths = np.diff(averages.indptr)
        averages.data = np.repeat(1 / lengths, lengths)
    if overwrite:
        lengths = _make_unit_rows(items)
        averages.data *= lengths[averages.indices]
    else:
        items = unit_rows(vectors if candidates is None else candidates)
    return Cosines(averages, vectors, items)


def _make_unit_rows(vectors: np.ndarray, block: int = 1 << 12) -> np.ndarray:
    """Scale the rows to length 1 where they are; return the lengths they had, float32 (n,)."""
    top = _largest(vectors)
    lengths = np.empty(len(vectors), dtype=vectors.dtype)
    for start in range(0, len(vectors), block):
        rows = vectors[start : start + block]
        rows /= top
        lengths[start : start + block] = np.linalg.norm(rows, axis=1).clip(min=1e-8)
        rows /= lengths[start : start + block, None]
    return lengths


def _averages(train: Interactions, n_items: int) -> csr_matrix:
    """Return the matrix (n_users, n_items) whose product with item vectors is the users' means."""
    lengths = np.diff(train.offsets)
    weights = np.repeat(1 / lengths, lengths).astype(np.float32)
    return csr_matrix((weights, train.items, train.offsets), shape=(len(lengths), n_items))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return the rows scaled to length 1; a row of zeros stays zero, so its cosines are 0.

    A row shorter than 1e-8 of the largest number there is counts as zeros. The largest is divided
    by first, so that no square leaves float32's range.
    """
    top, unit = _largest(vectors), np.empty_like(vectors)

    def part(of: slice) -> None:
        for start in range(of.start, of.stop, BLOCK):  # the cache holds a block for all passes
            rows = slice(start, min(start + BLOCK, of.stop))
            np.divide(vectors[rows], top, out=unit[rows])
            lengths = np.linalg.norm(unit[rows], axis=1, keepdims=True)
            unit[rows] /= np.maximum(lengths, 1e-8)

    by_parts(part, len(vectors))
    return unit


def _largest(vectors: np.ndarray):
    """Return the power of two that brings the largest number to between 1/2 and 1: no rounding."""
    top = max(float(vectors.max(initial=0)), -float(vectors.min(initial=0)))
    return vectors.dtype.type(2.0 ** min(max(np.frexp(top)[1], -126), 127) if top > 0 else 1)


def mean_cosine(vectors: np.ndarray) -> float:
    """Return the mean cosine of two rows (n, width), over all pairs, a row with itself included."""
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), 1 << 12):
        rows = unit_rows(vectors[start : start + (1 << 12)])
        total += rows.sum(axis=0, dtype=np.float64)
    total /= len(vectors)
    return float(total @ total)
