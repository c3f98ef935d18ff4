"""--scale: the unit of an embedding's numbers is taken out before a recommender sees them.

The unit of an audio model's output is an accident of its training, and a network's rate of
learning, its start and the pull of its parts all depend on it: the same vectors times ten are
another result. All that follows is measured on the tracks of train, and other tracks are scaled by
the same numbers:

    none         as the audio model wrote them
    rms          divided by one number, so that the mean square of all of them is 1
    standardize  each dimension less its mean, by its standard deviation
    whiten       standardized, then times S^(-1/2), S the correlations of the dimensions, so that
                 none says what another says; of all such rotations the one that stays nearest to
                 the dimensions (ZCA-cor: Kessy, Lewin and Strimmer, The American Statistician,
                 2018). S is shrunk to the identity as far as its own noise asks for (Ledoit and
                 Wolf, 2004), so that few tracks of a wide embedding keep their likeness.

Whatever an embedding is multiplied by, the last three give the same vectors but for rounding.
A dimension that does not vary says nothing of a track: the last two leave it out, and name it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from core.options import InputError

BLOCK = 4096  # rows at a time in float64, of vectors up to WIDE wide; of wider ones, fewer
WIDE = 1024
ROUNDING = 4 * np.finfo(np.float32).eps  # a dimension that moves by less does not vary


@dataclass(frozen=True)
class Scaling:
    """What was measured on train; `apply` does the same to any tracks.

    Attributes:
        kept: int64 (n_kept,) the dimensions that are used, ascending.
        mean, deviation: float64 (n_kept,) subtracted, then divided by.
        rotation: float64 (n_kept, n), multiplied from the right; None where there is none.
        left_out: int64, the dimensions that do not vary.
    """

    kept: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    rotation: np.ndarray | None
    left_out: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, scale: str) -> Scaling | None:
        """Measure what the scale needs on vectors float32 (n, width); None for `none`.

        Raises:
            InputError: all dimensions are the same for every track, so that nothing is left.
        """
        if scale == "none":
            return None
        width = vectors.shape[1]
        if scale == "rms":
            top = np.abs(vectors).max()
            squares = sum(np.square(rows / top).sum() for rows in _blocks(vectors))
            rms = top * np.sqrt(squares / vectors.size)
            return cls(np.arange(width), np.zeros(width), np.full(width, rms), None, np.array([]))
        low, high = vectors.min(axis=0).astype(float), vectors.max(axis=0).astype(float)
        varies = high - low > ROUNDING * np.maximum(np.abs(low), np.abs(high))
        kept = np.flatnonzero(varies)
        if not len(kept):
            raise InputError(
                f"all {width} dimensions are the same for all {len(vectors):,} tracks, so that "
                f"--scale {scale} leaves nothing; extract the embedding again"
            )
        unit = (high - low)[kept]  # so that no square leaves float64
        mean = sum(rows[:, kept].sum(axis=0) for rows in _blocks(vectors)) / len(vectors)
        squares = sum(
            np.square((rows[:, kept] - mean) / unit).sum(axis=0) for rows in _blocks(vectors)
        )
        deviation = unit * np.sqrt(squares / len(vectors))
        own = cls(kept, mean, deviation, None, np.flatnonzero(~varies))
        if scale == "standardize":
            return own
        return cls(kept, mean, deviation, _whitening(vectors, own), own.left_out)

    def projected(self, vectors: np.ndarray, n: int) -> Scaling:
        """Return this scaling followed by a projection on the n axes along which train varies most.

        Those are the principal axes of the standardized vectors, of whitened ones too: whitening
        keeps the axes and makes all of them alike. One number then brings the mean square to 1, so
        that the unit stays that of the scale.

        Args:
            vectors: float32 (n_tracks, width), of train, as they were before.
            n: if as many dimensions vary, or fewer, this scaling is returned as it is.
        """
        if n >= len(self.kept):
            return self
        correlations = _correlations(vectors, replace(self, rotation=None))[0]
        axes = np.linalg.eigh(correlations)[1][:, -n:][:, ::-1]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(n)])  # either is right
        rotation = axes if self.rotation is None else self.rotation @ axes
        mean_square = np.sum(rotation * (correlations @ rotation)) / n
        return replace(self, rotation=rotation / np.sqrt(mean_square))

    def apply(self, vectors: np.ndarray, *, overwrite: bool = False) -> np.ndarray:
        """Return vectors float32 (n, width) scaled, float32 (n, n_kept), or as wide as projected.

        Args:
            overwrite: use their own memory where no dimension is left out, for matrices that fit
                the memory once.
        """
        width = len(self.kept) if self.rotation is None else self.rotation.shape[1]
        shape = (len(vectors), width)
        result = (
            vectors if overwrite and shape == vectors.shape else np.empty(shape, dtype=np.float32)
        )
        for rows in _slices(vectors):
            block = (vectors[rows][:, self.kept].astype(np.float64) - self.mean) / self.deviation
            result[rows] = block if self.rotation is None else block @ self.rotation
        return result

    def says(self) -> str:
        """Return a sentence on the dimensions that are left out; empty where none is."""
        n = len(self.left_out)
        if not n:
            return ""
        named = ", ".join(map(str, self.left_out[:8])) + (", ..." if n > 8 else "")
        return (
            f"{n} of {n + len(self.kept):,} dimensions left out, the same for every track of "
            f"train: {named}"
        )


def _blocks(vectors: np.ndarray):
    for rows in _slices(vectors):
        yield vectors[rows].astype(np.float64)


def _slices(vectors: np.ndarray) -> list[slice]:
    size = max(1, min(BLOCK, BLOCK * WIDE // vectors.shape[1]))
    return [slice(start, start + size) for start in range(0, len(vectors), size)]


def _correlations(vectors: np.ndarray, own: Scaling) -> tuple[np.ndarray, float]:
    """Return the mean of the scaled rows' products, and the sum of their lengths to the fourth."""
    total, fourth = 0.0, 0.0
    for part in _slices(vectors):
        rows = own.apply(vectors[part]).astype(np.float64)
        total = total + rows.T @ rows
        fourth += np.square(np.square(rows).sum(axis=1)).sum()
    return total / len(vectors), fourth


def _whitening(vectors: np.ndarray, own: Scaling) -> np.ndarray:
    """Return S^(-1/2) of the shrunk correlations, float64 (n_kept, n_kept)."""
    n, width = len(vectors), len(own.kept)
    correlations, fourth = _correlations(vectors, own)
    # Ledoit and Wolf's share of the identity, which has the same trace here, for n rows of mean 0.
    size = np.square(correlations).sum()
    distance = size - np.trace(correlations) ** 2 / width
    noise = (fourth / n - size) / n
    share = min(noise / distance, 1.0) if distance > 0 else 1.0
    shrunk = (1 - share) * correlations + share * np.eye(width)
    values, axes = np.linalg.eigh(shrunk)
    values = np.maximum(values, values[-1] * 1e-7)  # columns that are sums of others, without noise
    return (axes / np.sqrt(values)) @ axes.T
