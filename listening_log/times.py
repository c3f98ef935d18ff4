"""Times of a log: written dates, numbers since 1970, or seconds since a day that is not told.

All become microseconds since 1970; relative ones count from its first second, so that a play's time
is a number from the start. As fields.py, each reader stands twice: fast for a column, which says
only that something is wrong, and slow for one field. Both take the same fields.

- iso: as fields.py has it; without a zone it is of `zone`, or UTC. An hour that a zone has twice is
  taken as the first, one that it leaves out as its end.
- s, ms, us: whole numbers as usually written, or with as many digits of fraction as microseconds
  need; from 1990 to 2099.
- relative: the same in seconds, from 0 to 20 years.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.options import InputError
from listening_log.fields import (
    EPOCH,
    FIRST_YEAR,
    LAST_YEAR,
    MICROSECOND,
    as_bytes,
    read_time,
    read_timestamps,
    read_users,
)

UNITS = {"s": 6, "ms": 3, "us": 0, "relative": 6}  # digits after which microseconds count
NAMES = {
    "iso": "dates",
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "relative": "seconds since a day that is not told",
}
FIRST = (datetime.datetime(1990, 1, 1) - EPOCH) // MICROSECOND
END = (datetime.datetime(2100, 1, 1) - EPOCH) // MICROSECOND
BOUNDS = {"relative": (0, FIRST), **dict.fromkeys(("s", "ms", "us"), (FIRST, END))}
NUMBER = r"(?:0|[1-9][0-9]{{0,15}})(?:\.[0-9]{{1,{}}})?"
EXACT = 2.0**53  # from here on floating numbers are not every whole one
WHOLE = r"(?:0|[1-9][0-9]{0,15})"


class TimeReader:
    """Reads times of one format (not auto) and zone."""

    def __init__(self, kind: str, zone: str | None = None):
        self.kind, self.zone = kind, zone
        if kind != "iso":
            digits = UNITS[kind]
            self.form = NUMBER.format(digits) if digits else WHOLE
            self.whole = re.compile(self.form.encode())
            if zone:
                raise InputError(f"--time-zone is for written dates; the times are {NAMES[kind]}")
        elif zone:
            try:
                _in_utc(pa.array([0], pa.timestamp("us")), zone)
            except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
                raise InputError(
                    f"--time-zone {zone} is not known; expected a name such as Europe/Vienna"
                ) from error

    def column(self, column: pa.Array) -> pa.Array:
        """Return timestamp[us] of fields, numbers or timestamps; ArrowInvalid if one is none."""
        kind = column.type
        dates = pa.types.is_timestamp(kind)
        if column.null_count or not (pa.types.is_binary(kind) or dates == (self.kind == "iso")):
            raise pa.ArrowInvalid("time")
        if dates:
            # Of nanoseconds the last digits go; of seconds too large for microseconds none may.
            times = _in_years(column.cast(pa.timestamp("us", kind.tz), safe=kind.unit != "ns"))
            if kind.tz is None and self.zone:
                return _in_years(_in_utc(times, self.zone))
            return times.cast(pa.timestamp("us"))
        if self.kind == "iso":
            return self._dates(column)
        if pa.types.is_integer(kind):
            return self._within(column.cast(pa.int64()), 10 ** UNITS[self.kind])
        if pa.types.is_floating(kind):
            values = _scaled(column, UNITS[self.kind])
            if not (np.abs(values) < EXACT).all():  # NaN too
                raise pa.ArrowInvalid("time")
            return self._within(pa.array(values.astype(np.int64)), 1)
        return self._numbers(column)

    def field(self, text: bytes) -> int | None:
        """Return the microseconds of one field, None if it is no such time."""
        if self.kind == "iso":
            micros, told = read_time(text)
            if micros is None or told or not self.zone:
                return micros
            naive = pa.array([micros], pa.int64()).cast(pa.timestamp("us"))
            micros = _in_utc(naive, self.zone).cast(pa.int64())[0].as_py()
            return micros if FIRST_YEAR <= micros <= LAST_YEAR else None
        if not self.whole.fullmatch(text):
            return None
        micros = int(Decimal(text.decode()).scaleb(UNITS[self.kind]))
        low, end = BOUNDS[self.kind]
        return micros if low <= micros < end else None

    def texts(self, column: pa.Array) -> list[bytes | None]:
        """Return the fields of a column that `field` reads as `column` does."""
        if not pa.types.is_floating(column.type) or self.kind == "iso":
            return as_bytes(column).to_pylist()
        digits = UNITS[self.kind]
        return [
            f"{Decimal(int(each)).scaleb(-digits):f}".encode() if abs(each) < EXACT else text
            for each, text in zip(
                _scaled(column, digits), as_bytes(column).to_pylist(), strict=True
            )
        ]

    def expected(self) -> str:
        """Return what a field should be, for messages."""
        if self.kind == "iso":
            return "YYYY-MM-DD hh:mm:ss"
        span = "from 0 to 20 years" if self.kind == "relative" else "from 1990 to 2099"
        return f"{NAMES[self.kind]}, {span}"

    def _dates(self, column: pa.Array) -> pa.Array:
        if not self.zone:
            return read_timestamps(column)
        text = column.view(pa.string())
        tells = pc.match_substring_regex(text, r"[:.][0-9]+(?:Z|[+-][0-9:]+)$")
        if pc.any(tells).as_py():
            if not pc.all(tells).as_py():
                raise pa.ArrowInvalid("some tell a zone")
            return read_timestamps(column)
        return _in_years(_in_utc(read_timestamps(column), self.zone))

    def _numbers(self, column: pa.Array) -> pa.Array:
        digits = UNITS[self.kind]
        try:
            return self._within(read_users(column), 10**digits)
        except pa.ArrowInvalid:
            text = column.view(pa.string())
            if not pc.all(pc.match_substring_regex(text, f"^(?:{self.form})$")).as_py():
                raise
        exact = text.cast(pa.decimal128(24, max(digits, 1)))
        micros = pc.multiply(exact, pa.scalar(10**digits, pa.decimal128(8, 0)))
        return self._within(micros.cast(pa.int64()), 1)

    def _within(self, numbers: pa.Array, factor: int) -> pa.Array:
        if len(numbers):
            low, end = BOUNDS[self.kind]
            ends = pc.min_max(numbers).as_py()
            if ends["min"] * factor < low or ends["max"] * factor >= end:
                raise pa.ArrowInvalid("time")
        return pc.multiply(numbers, factor).cast(pa.timestamp("us"))


def _in_utc(times: pa.Array, zone: str) -> pa.Array:
    options = {"ambiguous": "earliest", "nonexistent": "latest"}
    return pc.assume_timezone(times, zone, **options).cast(pa.timestamp("us"))


def _scaled(column: pa.Array, digits: int) -> np.ndarray:
    """Return floating numbers as whole microseconds (float64; NaN for a gap)."""
    return np.rint(column.to_numpy(zero_copy_only=False).astype(np.float64) * 10.0**digits)


def _in_years(times: pa.Array) -> pa.Array:
    """Return the times; ArrowInvalid if one is beyond the years 1 to 9999."""
    if len(times):
        ends = pc.min_max(times.cast(pa.int64())).as_py()
        if ends["min"] < FIRST_YEAR or ends["max"] > LAST_YEAR:
            raise pa.ArrowInvalid("time")
    return times


def guess(fields: Iterable[bytes]) -> str:
    """Return the format that most of the fields are of; iso if none tells.

    Numbers of one format are none of another: relative ones end where the seconds of 1990 begin.
    """
    readers = {kind: TimeReader(kind) for kind in NAMES}
    found = Counter()
    for field in fields:
        found.update(kind for kind, reader in readers.items() if reader.field(field) is not None)
    return max(NAMES, key=lambda kind: found[kind])
