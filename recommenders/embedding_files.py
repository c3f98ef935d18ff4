"""embeddings/NAME.npy, read once: mapped, and compared with what its json tells of it."""

from __future__ import annotations

import difflib
import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.artifacts import NO_ARRAY, read_json, sha256
from core.cores import by_parts
from core.names import check_name
from core.options import InputError, refuse_special

HERE = Path(__file__).resolve().parents[1]
BLOCK = 1 << 12  # rows that are read together


@dataclass(frozen=True)
class Matrix:
    """An embedding's file.

    Attributes:
        vectors: floating point (n_tracks, width), mapped from the very file that was hashed, also
            if another has taken its name since.
        sha256: of the file.
        facts: what its json tells; nothing of a matrix of one's own.
    """

    vectors: np.ndarray
    sha256: str
    facts: dict

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Return the rows asked for, float32 (n, width), in memory of their own.

        What was mapped to read them is let go block by block: memory holds a wide embedding once.
        """
        rows = np.empty((len(chosen), self.vectors.shape[1]), np.float32)

        def read(part: slice) -> None:
            for start in range(part.start, part.stop, BLOCK):
                of = slice(start, min(start + BLOCK, part.stop))
                rows[of] = self.vectors[chosen[of]]
                if isinstance(self.vectors.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                    self.vectors.base.madvise(mmap.MADV_DONTNEED)

        by_parts(read, len(chosen))
        return rows


def read_matrix(root: Path, name: str) -> Matrix:
    """Return an embedding's matrix.

    Raises:
        InputError: there is none, it is no matrix of numbers, or not the one that its json tells
            of, or was made for other tracks.
    """
    path = find_matrix(root, name)
    maker = _maker(name)
    refuse_special(path, str(path))
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            vectors = _mapped(path, file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; run {maker}") from error
    record = path.with_suffix(".json")
    facts = read_json(record, maker) if record.exists() else {}
    if facts.get("sha256") not in (None, digest):
        raise InputError(f"{path} is not the file {record.name} describes; run {maker} again")
    if facts.get("trackids_sha256") not in (None, sha256(root / "trackid_sorted.csv")):
        raise InputError(f"{path} was made for another trackid_sorted.csv; run {maker} --overwrite")
    return Matrix(vectors, digest, facts)


def matrix_shape(root: Path, name: str) -> tuple[int, int]:
    """Return rows and width of an embedding, from its file's first bytes."""
    path = find_matrix(root, name)
    refuse_special(path, str(path))
    with open(path, "rb") as file:
        return _mapped(path, file).shape


def find_matrix(root: Path, name: str) -> Path:
    """Return the path of an embedding that is there.

    Raises:
        InputError: it is not; the message names those that are, and what makes it.
    """
    check_name("embedding", name)
    path = root / "embeddings" / f"{name}.npy"
    if path.exists():
        return path
    here = sorted([p.stem for p in path.parent.glob("*.npy")] + ["noise", "random"])
    near = difflib.get_close_matches(name, here, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise InputError(
        f"{path} is missing; {hint}there are {', '.join(here)}; make it with "
        f"{_maker(name, f'--root {root} --audio DIR', f'--root {root} --table FILE')}"
    )


def check_rows(root: Path, name: str, matrix: Matrix, n_tracks: int) -> None:
    """Raise InputError unless a matrix has a row for each track."""
    if len(matrix.vectors) != n_tracks:
        raise InputError(
            f"{root}/embeddings/{name}.npy has {len(matrix.vectors):,} rows, trackid_sorted.csv "
            f"has {n_tracks:,}; make it again with {_maker(name)} --overwrite"
        )


def _maker(name: str, extracting: str = "", importing: str = "") -> str:
    """Return the command that makes an embedding, with flags for either: extracted or imported."""
    if (HERE / "extract_item_embeddings" / f"{name}.py").exists():
        return f"python -m extract_item_embeddings.{name} {extracting}".rstrip()
    return f"python import_embedding.py {importing} --name {name}".replace("  ", " ")


def _mapped(path: Path, file) -> np.ndarray:
    """Return the array of an open file, which numpy's own reader would open a second time."""
    try:
        if file.read(2) == b"PK":
            raise InputError(f"{path} is an archive of arrays, expected one array; use np.save")
        file.seek(0)
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the format")
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, is_fortran, kind = read[version[0]](file)
        if kind.hasobject:
            raise ValueError("it holds Python's objects")
        if len(shape) != 2 or not np.issubdtype(kind, np.floating):
            raise InputError(f"{path} holds {kind} {shape}, expected float32 (n, width)")
        order = "F" if is_fortran else "C"
        return np.memmap(file, kind, "r", file.tell(), shape, order)
    except InputError:
        raise
    except NO_ARRAY as error:
        what = f"{path} cannot be read as a numpy array ({error})"
        raise InputError(f"{what}; save one array of numbers by np.save") from error
