"""The embeddings compared, each read once: for pages and figures.

What the pages say of an embedding depends on its file and on the tracks, not on the runs, and takes
most of the time: a report that is made again because there are more runs keeps it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from core.artifacts import sha256
from core.names import WITHOUT_FILE
from recommenders.vectors import make_unit_rows, unit_rows
from reporting.beside import read_places, write_map, write_neighbours
from reporting.neighbours import all_nearest
from reporting.similarity import cka_matrix, on_axes, overlap_matrix, principal_axes
from reporting.study import Study

HERE = Path(__file__).resolve().parents[1]
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
        files: of the pages: {embedding: [path]}.
        made_from: {embedding: fingerprint of all that decides its files}.
    """

    rows: np.ndarray
    maps: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    places: set[int] = field(default_factory=set)
    files: dict[str, list[Path]] = field(default_factory=dict)
    made_from: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Earlier:
    """What a report that is there holds of each embedding, as its report.json tells.

    Attributes:
        folder: the report's.
        embeddings: {name: {made_from, files}}, names of files inside the folder.
        sha256: of every file, by name.
    """

    folder: Path
    embeddings: dict[str, dict] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    def of(self, name: str, made_from: str) -> list[Path]:
        """Return an embedding's files if they were made from this and are what was written."""
        known = self.embeddings.get(name, {})
        if known.get("made_from") != made_from:
            return []
        paths = {each: self.folder / each for each in known["files"]}
        whole = all(p.exists() and sha256(p) == self.sha256.get(each) for each, p in paths.items())
        return list(paths.values()) if whole else []


def compare_embeddings(
    study: Study,
    candidates: np.ndarray,
    on_map: np.ndarray,
    queries: np.ndarray,
    *,
    of_all: bool,
    folder: Path,
    earlier: Earlier,
) -> Compared:
    """Compare the tracks under each embedding, and the embeddings.

    Args:
        candidates: track_idx, ascending.
        on_map: places among them of the sample; they decide on a map's axes, all are on it.
        queries: places among them whose neighbours are on the page without a search.
        of_all: look for the neighbours of every candidate, and not only of the queries.
        folder: of the files beside the page, see reporting.beside.
        earlier: of what it holds, nothing is made again.
    """
    found = Compared(candidates[on_map])
    sought = None if of_all else queries
    same = _fingerprint(candidates, on_map, queries if sought is None else sought, of_all)
    samples, neighbours = [], []
    for name in tqdm(study.embeddings, "embeddings", unit=" embeddings", disable=None, leave=False):
        width = study.embeddings[name]["width"]
        vectors = study.matrices[name].sha256 if name in study.matrices else f"{name} {width}"
        found.made_from[name] = f"{vectors} {same}"
        found.files[name] = earlier.of(name, found.made_from[name])
        samples.append(study.vectors(name, found.rows))
        units = unit_rows(samples[-1])
        near = all_nearest(units, SHARED, unit=True)
        neighbours.append(np.concatenate([places for places, _ in near]))
        axes = None
        if name not in WITHOUT_FILE:
            axes, shares = principal_axes(units)
            found.maps[name] = on_axes(units, axes), shares
        if not found.files[name]:
            vectors = study.vectors(name, candidates)
            make_unit_rows(vectors)  # where they are: a wide embedding is a gigabyte
            found.files[name] = write_neighbours(folder, name, vectors, SHOWN, sought)
            if axes:
                found.files[name].append(write_map(folder, name, on_axes(vectors, axes)))
            del vectors  # before the next one is read
        places = read_places(folder, name, len(candidates), SHOWN)[queries]
        found.places |= set(places[places >= 0].tolist())
    if len(samples) > 1:
        title = f"Shared of {neighbours[0].shape[1]} neighbours"
        found.matrices = {"Linear CKA": cka_matrix(samples), title: overlap_matrix(neighbours)}
    return found


def _fingerprint(*values) -> str:
    """Return a hash of arrays and values, and of the code that compares vectors."""
    digest = hashlib.sha256(repr([SHOWN, SHARED]).encode())
    for value in values:
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    code = [*(HERE / "reporting").glob("*.py"), *(HERE / "recommenders").glob("*.py")]
    digest.update(sha256(*sorted(code)).encode())
    return digest.hexdigest()
