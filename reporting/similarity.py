"""How alike two embeddings are: linear CKA, and how many nearest neighbours they share."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.sparse.linalg import svds

from core.cores import by_parts

SMALL = 20  # tracks or numbers up to which all axes are computed
FEW = 256  # tracks centred at a time, which stay in the cache


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Return the linear centred kernel alignment of two embeddings of the same tracks, 0 to 1.

    With the columns of X and Y centred, ||X'Y||^2 / (||X'X|| ||Y'Y||) in Frobenius norms. It does
    not change when an embedding is rotated, shifted or scaled as a whole. With few tracks beside
    the widths, unrelated embeddings are above 0 too: compare with the value of `noise`.

    Args:
        one, other: float (n, width) each, the same track in the same row.

    Returns:
        The alignment; 0 when an embedding has the same vector for every track.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019.
    """
    return float(cka_matrix([one, other])[0, 1])


def cka_matrix(embeddings: list[np.ndarray]) -> np.ndarray:
    """Return linear CKA of every two embeddings, float64 (n, n); see linear_cka."""
    centred = [_centred(vectors) for vectors in embeddings]
    cross = np.eye(len(embeddings))
    norms = [np.linalg.norm(x.T @ x) for x in centred]
    for i, j in itertools.combinations(range(len(centred)), 2):
        lengths = float(norms[i]) * float(norms[j])
        product = float(np.linalg.norm(centred[i].T @ centred[j])) ** 2
        cross[i, j] = cross[j, i] = product / lengths if lengths else 0.0
    return cross


def _centred(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors with columns of mean 0, scaled as a whole so that float32 holds them."""
    mean, centred = vectors.mean(axis=0, dtype=np.float64), np.empty(vectors.shape, np.float32)

    def differences(part: slice):
        for start in range(part.start, part.stop, FEW):
            of = slice(start, min(start + FEW, part.stop))
            yield of, vectors[of] - mean

    def squares(part: slice) -> float:
        return sum(float((each**2).sum()) for _, each in differences(part))

    length = np.sqrt(sum(by_parts(squares, len(vectors)))) or 1.0

    def scale(part: slice) -> None:
        for of, each in differences(part):
            centred[of] = each / length

    by_parts(scale, len(vectors))
    return centred


def overlap_matrix(neighbours: list[np.ndarray]) -> np.ndarray:
    """Return the mean share of common neighbours of every two embeddings, float64 (n, n).

    |A & B| / k for the k nearest tracks A and B of a track, averaged over tracks: 1 when both
    name the same k tracks, in any order; k / (tracks - 1) is expected of unrelated embeddings.

    Args:
        neighbours: int (m, k) of each embedding, the same tracks in the same rows.
    """
    overlap = np.eye(len(neighbours))
    for i, j in itertools.combinations(range(len(neighbours)), 2):
        one, other = neighbours[i], neighbours[j]
        same = (one[:, :, None] == other[:, None, :]) & (one >= 0)[:, :, None]
        common = same.sum(axis=(1, 2))
        overlap[i, j] = overlap[j, i] = float((common / one.shape[1]).mean())
    return overlap


def principal_axes(units: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return the first two principal axes of unit vectors, for on_axes, and what they show.

    Unit vectors, because neighbours and KNN compare by cosine. Each axis points to where its
    largest weight is positive, so the same vectors always give the same map.

    Args:
        units: float (n, width), rows of length 1 or zero.

    Returns:
        The mean float64 (width,) and the axes float64 (width, 1 or 2); and the share of the
        variance on each axis, float64 (2,).

    Source: principal component analysis by the singular values of the centred matrix.
    """
    centred = units.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean  # in its own memory: 5,000 tracks of 4,800 numbers are 192 MB
    if min(centred.shape) > SMALL:  # two axes alone, by iteration: minutes less at width 4,800
        start = np.random.default_rng(0).normal(size=min(centred.shape))
        _, values, right = svds(centred, k=2, v0=start)
        axes = right[np.argsort(-values)].T
    else:
        axes = np.linalg.svd(centred, full_matrices=False)[2][:2].T
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, [0, 1][: axes.shape[1]]] < 0, -1, 1)
    total = max(float((centred**2).sum()), 1e-300)
    shares = np.zeros(2)
    shares[: axes.shape[1]] = ((centred @ axes) ** 2).sum(axis=0) / total
    return (mean, axes), shares


def on_axes(units: np.ndarray, axes: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the coordinates of unit vectors (n, width) on principal_axes, float64 (n, 2)."""
    mean, axes = axes
    points = np.zeros((len(units), 2))
    points[:, : axes.shape[1]] = units @ axes.astype(units.dtype)
    points[:, : axes.shape[1]] -= mean @ axes
    return points
