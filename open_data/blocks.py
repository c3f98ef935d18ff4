"""What every kind of table is read as: blocks of ids and vectors, one after the other."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.options import InputError


class Block(NamedTuple):
    """Some rows of a table.

    Attributes:
        ids: of the tracks, as text.
        vectors: float32 (len(ids), width); NaN where the table has no value.
        first: number of the first row: a text's line, from 1 for the header; else the row, from 0.
    """

    ids: list[str]
    vectors: np.ndarray
    first: int


def find_id(path: Path, columns: list[str], id_column: str | None) -> int:
    """Return the place of the column of track ids: the one given, else the first of _wanted.

    Raises:
        InputError: there is none, or nothing beside it.
    """
    found = [columns.index(name) for name in _wanted(id_column) if name in columns]
    if not found:
        wanted = f"'{id_column}'" if id_column else "'id'"
        near = difflib.get_close_matches(id_column or "id", columns, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise InputError(
            f"--table {path} has no column {wanted}; {hint}it has {len(columns):,}: "
            f"{', '.join(columns)[:80]}; name the column of track ids with --id-column"
        )
    if len(columns) == 1:
        raise InputError(f"--table {path} has ids and no column of numbers beside them")
    return found[0]


def _wanted(id_column: str | None) -> tuple[str, ...]:
    return (id_column,) if id_column else ("id", "track_id", "trackid", "item_id")
