"""Tables of vectors that are no text: parquet, one .npy with a list of ids, one .npy a track."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.artifacts import NO_ARRAY
from core.options import InputError
from open_data.blocks import Block, find_id

BLOCK = 32 << 20  # bytes of vectors read at a time


class ParquetTable:
    """A column of ids beside columns of numbers, or beside one column of lists.

    Args:
        vector_column: which column of lists, where there are several.
    """

    where = "row"

    def __init__(self, path: Path, id_column: str | None, vector_column: str | None):
        self.path, self.size = path, path.stat().st_size
        try:
            # One page at a time: a row group may be the whole file.
            self.file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"--table {path} is no parquet file: {error}") from error
        self.schema = self.file.schema_arrow
        self.id_name = self.schema.names[find_id(path, self.schema.names, id_column)]
        lists = [n for n in self.schema.names if _is_list(self.schema.field(n).type)]
        if vector_column and vector_column not in lists:
            raise InputError(
                f"--table {path} has no column of lists '{vector_column}'; it has {lists}"
            )
        if len(lists) > 1 and not vector_column:
            raise InputError(
                f"--table {path} has several columns of lists ({', '.join(lists)}); choose one "
                "with --vector-column"
            )
        self.list_name = vector_column or (lists[0] if lists else None)
        self.columns = [self.list_name] if self.list_name else self._numbers()
        self.names = [] if self.list_name else self.columns
        self.position = 0

    def _numbers(self) -> list[str]:
        others = [name for name in self.schema.names if name != self.id_name]
        for name in others:
            kind = self.schema.field(name).type
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
                raise InputError(f"--table {self.path}: column '{name}' is {kind}, no number")
        return others

    def __enter__(self) -> ParquetTable:
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def blocks(self) -> Iterator[Block]:
        row, width = 0, len(self.names) or self._width()
        rows = max(1, BLOCK // (4 * width))
        total = max(1, self.file.metadata.num_rows)
        for batch in self.file.iter_batches(rows, columns=[self.id_name, *self.columns]):
            ids = batch.column(self.id_name)
            if ids.null_count:
                raise InputError(f"--table {self.path}: {self.id_name} has missing values")
            vectors = self._lists(batch, row, width) if self.list_name else self._beside(batch)
            yield Block(ids.cast(pa.string()).to_pylist(), vectors, row)
            row += len(batch)
            self.position = self.size * row // total

    def _width(self) -> int:
        kind = self.schema.field(self.list_name).type
        if pa.types.is_fixed_size_list(kind):
            return kind.list_size
        for batch in self.file.iter_batches(64, columns=[self.list_name]):
            lengths = pc.list_value_length(batch.column(0)).drop_null()
            if len(lengths):
                return max(1, lengths[0].as_py())
        return 1

    def _beside(self, batch: pa.RecordBatch) -> np.ndarray:
        vectors = np.empty((len(batch), len(self.columns)), np.float32)
        for at, name in enumerate(self.columns):
            column = batch.column(name).cast(pa.float64(), safe=False)
            vectors[:, at] = column.to_numpy(zero_copy_only=False)
        return vectors

    def _lists(self, batch: pa.RecordBatch, first: int, width: int) -> np.ndarray:
        column = batch.column(self.list_name)
        lengths = pc.fill_null(pc.list_value_length(column), width).to_numpy()
        if (lengths != width).any():
            at = int((lengths != width).argmax())
            raise InputError(
                f"--table {self.path} row {first + at}: {self.list_name} holds {lengths[at]} "
                f"numbers, the rows before it {width}"
            )
        vectors = np.full((len(batch), width), np.nan, np.float32)
        there = pc.is_valid(column).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(column.filter(pa.array(there))).cast(pa.float32(), safe=False)
        vectors[there] = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
        return vectors


class ArrayTable:
    """One .npy (n, width) and a file with an id for each of its rows."""

    names: list[str] = []
    where = "row"

    def __init__(self, path: Path, ids: Path | None):
        self.path, self.size, self.position = path, path.stat().st_size, 0
        self.array = _load(path)
        if self.array.ndim != 2 or self.array.dtype.kind not in "fiu":
            raise InputError(
                f"--table {path} holds {self.array.dtype} {self.array.shape}, expected (n, width)"
            )
        if ids is None:
            raise InputError(
                f"--table {path} does not say which row is which track; name a file with an id a "
                "line with --ids"
            )
        self.ids = read_ids(ids)
        if len(self.ids) != len(self.array):
            raise InputError(
                f"--ids {ids} has {len(self.ids):,} ids, --table {path} {len(self.array):,} rows"
            )

    def __enter__(self) -> ArrayTable:
        return self

    def __exit__(self, *error) -> None:
        pass

    def blocks(self) -> Iterator[Block]:
        rows = max(1, BLOCK // (4 * max(1, self.array.shape[1])))
        for first in range(0, len(self.array), rows):
            part = slice(first, first + rows)
            with np.errstate(over="ignore"):  # becomes infinite, which is refused by row
                yield Block(self.ids[part], self.array[part].astype(np.float32), first)
            self.position = self.size * min(first + rows, len(self.array)) // len(self.array)


class FolderTable:
    """A folder of TRACKID.npy, each one vector (width,) or (1, width)."""

    names: list[str] = []
    where = "file"

    def __init__(self, path: Path):
        self.path, self.position = path, 0
        self.files = sorted(file for file in path.glob("*.npy") if file.name[0] != ".")
        if not self.files:
            raise InputError(f"--table {path} is a folder without TRACKID.npy files")
        self.size = len(self.files)

    def __enter__(self) -> FolderTable:
        return self

    def __exit__(self, *error) -> None:
        pass

    def blocks(self) -> Iterator[Block]:
        width = self._vector(self.files[0]).size
        rows = max(1, BLOCK // (4 * max(1, width)))
        for first in range(0, len(self.files), rows):
            files = self.files[first : first + rows]
            vectors = np.empty((len(files), width), np.float32)
            for at, file in enumerate(files):
                vector = self._vector(file)
                if vector.size != width:
                    raise InputError(
                        f"{file} holds {vector.size} numbers, the files before it {width}"
                    )
                vectors[at] = vector
            yield Block([file.stem for file in files], vectors, first)
            self.position = first + len(files)

    def _vector(self, file: Path) -> np.ndarray:
        array = _load(file)
        one = array.ndim == 1 or (array.ndim == 2 and len(array) == 1)
        if not one or array.dtype.kind not in "fiu":
            raise InputError(
                f"{file} holds {array.dtype} {array.shape}, expected one vector (width,); a track "
                "with a vector a frame is averaged first"
            )
        with np.errstate(over="ignore"):
            return array.reshape(-1).astype(np.float32)


def read_ids(path: Path) -> list[str]:
    """Return the ids of a file: a .npy of texts, or a line an id (a csv's first column `id`)."""
    if path.suffix == ".npy":
        return [str(value) for value in _load(path, mapped=False)]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--ids {path} cannot be read: {error}") from error
    if lines and lines[0] in ("id", "track_id", "trackid"):
        del lines[0]
    elif lines and lines[0] == "idx,trackid":
        lines = [line.partition(",")[2] for line in lines[1:]]
    return lines


def _load(path: Path, mapped: bool = True) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r" if mapped else None)
    except NO_ARRAY as error:
        raise InputError(f"{path} cannot be read as a numpy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of arrays, expected one array")
    return array


def _is_list(kind: pa.DataType) -> bool:
    """Say whether it is a column of lists of numbers; texts have no vectors in theirs."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in kinds):
        return False
    return pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
