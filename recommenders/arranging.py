"""Vectors as a run's tracks have them: in the unit of --scale, side by side, or exchanged."""

from __future__ import annotations

import numpy as np

from recommenders.run_options import EmbeddingOptions
from recommenders.scaling import Scaling
from recommenders.vectors import BESIDE, part_widths, parts_of, shuffled_rows


def arranged(
    options: EmbeddingOptions,
    vectors: np.ndarray | None,
    others: np.ndarray | None = None,
    *,
    overwrite: bool = False,
) -> np.ndarray | None:
    """Return what EmbeddingOptions.arranged says, of these options."""
    own = vectors if others is None else others
    if vectors is not None and BESIDE in options.embedding:
        own = _side_by_side(options, vectors, own)
    elif vectors is not None:
        own = _scaled(options, options.embedding, vectors, own, overwrite)
    return shuffled_rows(own, options.seed) if options.shuffle else own


def _scaled(options, name: str, vectors, own, overwrite: bool = False) -> np.ndarray:
    scaling = Scaling.of(vectors, options.scale)
    if scaling is None:
        return own
    if options.project:
        if len(scaling.kept) <= options.project and own is vectors:
            print(f"{name}: its {len(scaling.kept):,} dimensions are within --project")
        scaling = scaling.projected(vectors, options.project)
    if scaling.says() and own is vectors:
        print(f"{name}: {scaling.says()}")
    return scaling.apply(own, overwrite=overwrite)


def _side_by_side(options, vectors: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the parts of A+B, each scaled alone and then of the same weight in a product."""
    ends = np.cumsum(part_widths(options.root, options.embedding, options.width))[:-1]
    columns = zip(np.split(vectors, ends, 1), np.split(own, ends, 1), strict=True)
    scaled = []
    for name, (known, mine) in zip(parts_of(options.embedding), columns, strict=True):
        scaled.append(_scaled(options, name, known, known if own is vectors else mine))
    if options.scale != "none":
        total = sum(part.shape[1] for part in scaled)
        scaled = [
            part * np.float32((total / len(scaled) / part.shape[1]) ** 0.5) for part in scaled
        ]
    return np.hstack(scaled)
