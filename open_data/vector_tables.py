"""A table of vectors of any kind, opened by what it is."""

from __future__ import annotations

from pathlib import Path

from core.options import InputError
from open_data.binary_tables import ArrayTable, FolderTable, ParquetTable
from open_data.text_tables import TextTable


def open_table(
    path: Path, id_column: str | None, vector_column: str | None, ids: Path | None, threads: int
) -> TextTable | ParquetTable | ArrayTable | FolderTable:
    """Return the table, a context manager with `names`, `size`, `position` and `blocks()`.

    The kind is told by the first bytes, not by the name.

    Raises:
        InputError: it cannot be read as any kind.
    """
    if path.is_dir():
        return FolderTable(path)
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise InputError(f"--table {path} cannot be read: {error}") from error
    if start.startswith(b"\x93NUMPY"):
        for flag, value in (("--id-column", id_column), ("--vector-column", vector_column)):
            if value is not None:
                raise InputError(f"{flag} is for a table with columns; {path} has none")
        return ArrayTable(path, ids)
    if ids is not None:
        raise InputError(f"--ids is for a .npy table; {path} names its tracks itself")
    if start.startswith(b"PAR1"):
        return ParquetTable(path, id_column, vector_column)
    if vector_column is not None:
        raise InputError(f"--vector-column is for a parquet table; {path} is none")
    return TextTable(path, id_column, threads)
