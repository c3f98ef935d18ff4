"""What a field of the listening log may hold, for a column at once and for a single line.

- user_id: an integer of 64 bits, `-?[0-9]+`, of at most 20 characters.
- timestamp: `YYYY-MM-DD hh:mm:ss` or with `T`, up to six digits of fraction, years 1 to 9999, so
  also before 1970. A zone (`Z`, `+01`, `+01:00`, `+0100`) is converted to UTC; without one it is
  taken as UTC.
- track_id: an id of trackid_sorted.csv.

The functions for columns are fast and say only that something in a column is wrong; `read_fields`
is slow and says what. Both accept the same fields.
"""

from __future__ import annotations

import datetime
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.trackids import is_track_id

REASONS = ("malformed", "bad user id", "bad timestamp", "unknown track")
USER = re.compile(rb"(?=.{1,20}$)-?[0-9]+")  # the length of the least integer of 64 bits
TIMESTAMP = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:Z|([+-])(\d\d):?(\d\d)?)?"
)
SHORTEST = len("YYYY-MM-DD hh:mm:ss")
EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)
FIRST = (datetime.datetime.min - EPOCH) // MICROSECOND  # of year 1
LAST = (datetime.datetime.max - EPOCH) // MICROSECOND  # of year 9999


def read_users(column: pa.Array) -> pa.Array:
    """Return a binary column as int64; ArrowInvalid where a field is no user id."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :]
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[len(column)]]
    odd = (data - np.uint8(ord("0")) > 9) & (data != ord("-"))
    if odd.any() or np.diff(offsets[: len(column) + 1]).max(initial=0) > 20:
        raise pa.ArrowInvalid("user_id")  # Arrow alone would take hexadecimal numbers
    return column.view(pa.string()).cast(pa.int64())


def read_timestamps(column: pa.Array) -> pa.Array:
    """Return a binary column as timestamp[us]; ArrowInvalid where a field is no timestamp."""
    text = column.view(pa.string())
    if len(text) and pc.min(pc.binary_length(text)).as_py() < SHORTEST:
        raise pa.ArrowInvalid("timestamp")  # Arrow alone would take a date without a time
    try:
        times = text.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        if not pc.all(pc.match_substring_regex(text, r"^.{16}:")).as_py():
            raise  # a zone after the minutes is as long as a time with seconds
        times = text.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    if len(times):
        ends = pc.min_max(times.cast(pa.int64())).as_py()
        if ends["min"] < FIRST or ends["max"] > LAST:
            raise pa.ArrowInvalid("timestamp")
    return times


def read_fields(values: list[bytes] | None, any_id: bool) -> tuple[int, bytes, int] | str:
    """Return (user id, track id, microseconds since 1970) of one line, or why there is no play.

    Args:
        values: user_id, track_id and timestamp; None for a line with another number of fields.
        any_id: whether track_id may be anything that can be one; else it is looked up later.
    """
    if values is None or any(mark in value for value in values for mark in (b"\r", b"\0")):
        return "malformed"
    user, track, timestamp = values
    if not USER.fullmatch(user) or not -(2**63) <= int(user) < 2**63:
        return "bad user id"
    micros = _read_timestamp(timestamp)
    if micros is None:
        return "bad timestamp"
    if any_id and not can_be_id(track):
        return "malformed"
    return int(user), track, micros


def can_be_id(value: bytes) -> bool:
    """Say whether the bytes of a field can be a track id."""
    try:
        return is_track_id(value.decode())
    except UnicodeDecodeError:
        return False


def _read_timestamp(text: bytes) -> int | None:
    match = TIMESTAMP.fullmatch(text)
    if not match:
        return None
    *numbers, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.datetime(*map(int, numbers), int((fraction or b"").ljust(6, b"0")))
        if sign:
            if int(hours) > 23 or int(minutes or 0) > 59:
                return None
            offset = datetime.timedelta(hours=int(hours), minutes=int(minutes or 0))
            moment = moment - offset if sign == b"+" else moment + offset
    except (ValueError, OverflowError):
        return None
    return (moment - EPOCH) // MICROSECOND
