"""The embeddings compared, each read once: for pages and figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from core.names import WITHOUT_FILE
from recommenders.vectors import make_unit_rows
from reporting.beside import write_map, write_neighbours
from reporting.neighbours import all_nearest
from reporting.similarity import cka_matrix, overlap_matrix, principal_axes
from reporting.study import Study

SHOWN = 8  # neighbours of a track on the page, under each embedding
SHARED = 10  # neighbours of a track, of which two embeddings share some


@dataclass
class Compared:
    """What was found by comparing the vectors of the candidates: the tracks of train.

    Attributes:
        rows: int (m,), track_idx of the sample that maps and similarities are of.
        maps: {embedding: (points (m, 2), shares of variance (2,))}; noise has none.
        matrices: {title: float (n, n)}, how alike every two embeddings are; empty for one.
        places: places among the candidates of the neighbours of those that were asked for.
        files: what was written for the pages.
    """

    rows: np.ndarray
    maps: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    places: set[int] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)


def compare_embeddings(
    study: Study,
    candidates: np.ndarray,
    on_map: np.ndarray,
    queries: np.ndarray,
    *,
    of_all: bool,
    folder: Path,
) -> Compared:
    """Compare the tracks under each embedding, and the embeddings.

    Args:
        candidates: track_idx, ascending.
        on_map: places among them of the sample; they decide on a map's axes, all are on it.
        queries: places among them whose neighbours are on the page without a search.
        of_all: look for the neighbours of every candidate, and not only of the queries.
        folder: of the files beside the page, see reporting.beside.
    """
    found = Compared(candidates[on_map])
    samples, neighbours = [], []
    for name in tqdm(study.embeddings, "embeddings", unit=" embeddings", disable=None, leave=False):
        vectors = study.vectors(name, candidates)
        samples.append(vectors[on_map])
        make_unit_rows(vectors)  # where they are: a wide embedding is a gigabyte
        sought = None if of_all else queries
        files, near = write_neighbours(folder, name, vectors, SHOWN, sought)
        found.files += files
        found.places |= set(near[queries].ravel().tolist()) - {-1, -2}
        if name not in WITHOUT_FILE:
            points, shares = principal_axes(vectors, on_map, unit=True)
            found.files.append(write_map(folder, name, points))
            found.maps[name] = points[on_map], shares
        near = all_nearest(vectors[on_map], SHARED, unit=True)
        neighbours.append(np.concatenate([places for places, _ in near]))
    if len(samples) > 1:
        title = f"Shared of {neighbours[0].shape[1]} neighbours"
        found.matrices = {"Linear CKA": cka_matrix(samples), title: overlap_matrix(neighbours)}
    return found
