"""The columns of a log, and the fields of one row, as users, tracks and times.

Both ways of reading take the same rows: `columns` is fast and says only that some row is wrong,
`row` is slow and says what. Columns may be bytes, as a text has them, or of parquet's own types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.options import InputError
from listening_log import fields
from listening_log.fields import as_bytes
from listening_log.shapes import Shape
from listening_log.times import TimeReader

SHARE = re.compile(rb"-?[0-9]{1,15}(?:\.[0-9]+)?")
# What no track id may hold, and so is written otherwise in names that stand for one.
ESCAPES = {"%": "%25", ",": "%2C", '"': "%22", "/": "%2F"}


@dataclass(frozen=True)
class Columns:
    """What some rows hold.

    Attributes:
        users: int64, or binary where they are text.
        tracks: binary or integers.
        times: timestamp[us].
        kept: bool, of all rows those that --min-played leaves; None for all of them.
    """

    users: pa.Array
    tracks: pa.Array
    times: pa.Array
    kept: np.ndarray | None


class Reader:
    """Reads the rows of a shape.

    Args:
        time_format: of its times; not auto.
        any_id: whether a track may be anything that can be one, else it is looked up later.
    """

    def __init__(self, shape: Shape, time_format: str, any_id: bool):
        self.shape, self.any_id = shape, any_id
        self.time = TimeReader(time_format, shape.time_zone)
        self.roles = tuple(shape.columns())
        self.read_user = fields.read_text_user if shape.text_users else fields.read_user

    def columns(self, found: dict[str, list[pa.Array]]) -> Columns:
        """Return what the columns of each role hold; ArrowInvalid if a row holds no play."""
        kept = None
        if "played" in found:
            share = _shares(found["played"][0])
            kept = share >= self.shape.min_played
            if not kept.all():
                mask = pa.array(kept)
                found = {role: [c.filter(mask) for c in each] for role, each in found.items()}
        users, times = self._users(found["user"][0]), self.time.column(found["time"][0])
        return Columns(users, self._tracks(found), times, kept)

    def row(self, values: dict[str, list[bytes]] | None) -> tuple[int | bytes, bytes, int] | str:
        """Return (user, track, microseconds) of one row, or why it is no play, or `LEFT_OUT`.

        Args:
            values: of each role; None for a row with another number of fields.
        """
        if values is None:
            return "malformed"
        if any(mark in v for each in values.values() for v in each for mark in (b"\r", b"\0")):
            return "malformed"
        if "played" in values:
            if not SHARE.fullmatch(values["played"][0]):
                return fields.BAD_SHARE
            if float(values["played"][0]) < self.shape.min_played:
                return fields.LEFT_OUT
        track = values["track"][0]
        if "name" in values and not track:
            try:
                track = _names([pa.array([v], pa.binary()) for v in values["name"]])[0].as_py()
            except pa.ArrowInvalid:
                return "malformed"
        plain = [values["user"][0], track, values["time"][0]]
        return fields.read_fields(plain, self.any_id, self.read_user, self.time.field)

    def texts(self, role: str, column: pa.Array) -> list[bytes | None]:
        """Return a column's values as `row` takes them."""
        return self.time.texts(column) if role == "time" else as_bytes(column).to_pylist()

    def _users(self, column: pa.Array) -> pa.Array:
        if column.null_count:
            raise pa.ArrowInvalid("user")
        if self.shape.text_users:
            return column if pa.types.is_binary(column.type) else as_bytes(column)
        if pa.types.is_integer(column.type):
            return column.cast(pa.int64())
        return fields.read_users(column)

    def _tracks(self, found: dict[str, list[pa.Array]]) -> pa.Array:
        column = found["track"][0]
        if "name" in found:
            column = as_bytes(column)
            empty = pc.equal(pc.binary_length(column), 0)
            empty = pc.fill_null(empty, True)
            if pc.any(empty).as_py():
                names = _names([as_bytes(c).filter(empty) for c in found["name"]])
                column = pc.replace_with_mask(column, empty, names)
        if column.null_count:
            raise pa.ArrowInvalid("track")
        return column


def _shares(column: pa.Array) -> np.ndarray:
    """Return float64 of numbers, or of fields of the form `SHARE`; ArrowInvalid if one is none."""
    if column.null_count:
        raise pa.ArrowInvalid("played")
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = column.to_numpy().astype(np.float64)
        if not (np.abs(values) < 1e15).all():  # as many digits as SHARE has; NaN too
            raise pa.ArrowInvalid("played")
        return values
    text = as_bytes(column).view(pa.string())
    if not pc.all(pc.match_substring_regex(text, f"^(?:{SHARE.pattern.decode()})$")).as_py():
        raise pa.ArrowInvalid("played")
    return text.cast(pa.float64()).to_numpy()


def _names(columns: list[pa.Array]) -> pa.Array:
    """Return the names joined by ' - ', without what no id may hold; empty if one of them is."""
    texts = []
    for column in columns:
        text = pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
        for mark, escape in ESCAPES.items():
            text = pc.replace_substring(text, mark, escape)
        texts.append(text)
    joined = pc.binary_join_element_wise(*texts, " - ")
    empty = [pc.equal(pc.binary_length(text), 0) for text in texts]
    for other in empty[1:]:
        empty[0] = pc.or_(empty[0], other)
    return pc.if_else(empty[0], "", joined).cast(pa.binary())


def check_kind(path, name: str, kind: pa.DataType, role: str) -> None:
    """Refuse a parquet column of a type that no log has for a role."""
    is_text = pa.types.is_string(kind) or pa.types.is_binary(kind)
    fits = is_text or pa.types.is_integer(kind)
    if role == "time":
        fits = fits or pa.types.is_timestamp(kind) or pa.types.is_floating(kind)
    if role == "played":
        fits = fits or pa.types.is_floating(kind)
    if not fits:
        raise InputError(
            f"--log {path}: {name} is a column of {kind}, which is no {role}; expected integers or "
            f"text{', timestamps' if role == 'time' else ''}"
        )
