"""What a field of the listening log may hold, for a column at once and for a single line.

- user_id: an integer of 64 bits as it is usually written, `0` or `-?[1-9][0-9]*`: `007` is none,
  because it would be taken for the user `7`.
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
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.trackids import is_track_id

REASONS = ("malformed", "bad user id", "bad timestamp", "unknown track")
BAD_SHARE = "bad played share"  # a reason too, where --min-played asks for one
LEFT_OUT = "left out"  # what --min-played does to a play, which is no fault of its row
USER = re.compile(rb"0|(?=.{1,20}$)-?[1-9][0-9]*")  # the length of the least integer of 64 bits
FORM = (
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?"
    r"(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)
TIMESTAMP = re.compile(FORM.encode())
SHORTEST = len("YYYY-MM-DD hh:mm:ss")
EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)
FIRST_YEAR = (datetime.datetime.min - EPOCH) // MICROSECOND
LAST_YEAR = (datetime.datetime.max - EPOCH) // MICROSECOND


def read_users(column: pa.Array) -> pa.Array:
    """Return a binary column as int64; ArrowInvalid where a field is no user id."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    # Arrow alone would take hexadecimal numbers and leading zeros.
    odd = (data - np.uint8(ord("0")) > 9) & (data != ord("-"))
    if odd.any() or lengths.max(initial=0) > 20 or lengths.min(initial=1) < 1:
        raise pa.ArrowInvalid("user_id")
    starts = starts + (signed := data[starts] == ord("-"))
    if ((data[np.minimum(starts, len(data) - 1)] == ord("0")) & ((lengths > 1) | signed)).any():
        raise pa.ArrowInvalid("user_id")
    return column.view(pa.string()).cast(pa.int64())


def read_timestamps(column: pa.Array) -> pa.Array:
    """Return a binary column as timestamp[us]; ArrowInvalid where a field is no timestamp.

    Without a zone, what Arrow takes is of the form that `FORM` describes once dates without a time
    and times without seconds are out, which are shorter. With zones the form itself is asked for.
    """
    in_utc = _all_end_in(column, ord("Z"))  # of which Arrow is slow
    if in_utc:
        column = pc.binary_slice(column, 0, -1)
    text = column.view(pa.string())
    if len(text) and pc.min(pc.binary_length(text)).as_py() < SHORTEST:
        raise pa.ArrowInvalid("timestamp")
    try:
        times = text.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        if in_utc or not pc.all(pc.match_substring_regex(text, f"^(?:{FORM})$")).as_py():
            raise
        times = text.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    if len(times):
        ends = pc.min_max(times.cast(pa.int64())).as_py()
        if ends["min"] < FIRST_YEAR or ends["max"] > LAST_YEAR:
            raise pa.ArrowInvalid("timestamp")
    return times


def _all_end_in(column: pa.Array, letter: int) -> bool:
    if not len(column) or column.null_count:
        return False
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
    if (offsets[1:] == offsets[:-1]).any():
        return False
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    return bool((data[offsets[1:] - 1] == letter).all())


def read_user(text: bytes) -> int | None:
    """Return the user id of one field, None if it is none."""
    is_one = USER.fullmatch(text) and -(2**63) <= int(text) < 2**63
    return int(text) if is_one else None


def read_text_user(text: bytes) -> bytes | None:
    """Return the field where it can be a user id of any text, else None."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return None
    return text if decoded and decoded.isprintable() and decoded == decoded.strip() else None


def read_fields(
    values: list[bytes] | None,
    any_id: bool,
    user_of: Callable = read_user,
    time_of: Callable = lambda text: read_time(text)[0],
) -> tuple[int | bytes, bytes, int] | str:
    """Return (user id, track id, microseconds since 1970) of one line, or why there is no play.

    Args:
        values: user_id, track_id and timestamp; None for a line with another number of fields.
        any_id: whether track_id may be anything that can be one; else it is looked up later.
        user_of, time_of: the readers of these fields, None for what is none.
    """
    if values is None or any(mark in value for value in values for mark in (b"\r", b"\0")):
        return "malformed"
    text, track, timestamp = values
    user = user_of(text)
    if user is None:
        return "bad user id"
    micros = time_of(timestamp)
    if micros is None:
        return "bad timestamp"
    if any_id and not can_be_id(track):
        return "malformed"
    return user, track, micros


def explain(reason: str, got: str, time: str = "YYYY-MM-DD hh:mm:ss") -> str:
    """Return what a rejected field should have been, what it is, and what to do about it.

    Args:
        got: the field, or of a malformed line the whole line.
        time: what a time should be.
    """
    shown = repr(got if len(got) <= 40 else got[:37] + "...")
    if reason == "bad user id":
        if re.fullmatch("-?0[0-9]+|-0", got):
            return (
                f"{shown} would be taken for user {int(got)}; write user ids without zeros before, "
                "or keep them as they are with --users text"
            )
        if re.fullmatch("-?[0-9]+", got):
            return f"{shown} is beyond 64 bits; keep it as it is with --users text"
        if not got or got != got.strip() or not got.isprintable():
            return f"{shown} is no user id: it must be printable, without spaces around it"
        return f"{shown} is no integer; read the users as they are with --users text"
    if reason == "bad timestamp":
        return f"expected {time}, got {shown}{_about_time(got)}"
    if reason == BAD_SHARE:
        return f"expected a number in the column that --min-played is of, got {shown}"
    if reason == "unknown track":
        return (
            f"{shown} is not in trackid_sorted.csv; is it the log of these tracks? Without that "
            "file the ids of --audio, or of the log, are taken"
        )
    if any(mark in got for mark in "\r\0"):
        return f"a line holds a carriage return or a zero byte: {shown}"
    return (
        "expected as many fields as the first line has, all on one line, and a track id without "
        f"comma, quote and slash, got {shown}"
    )


def _about_time(got: str) -> str:
    """Return what is the matter with a timestamp of a form that logs often have."""
    if re.fullmatch(r"[0-9]{9,16}(\.[0-9]+)?", got):
        whole = len(got.partition(".")[0])
        unit = "s" if whole < 12 else "ms" if whole < 15 else "us"
        name = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[unit]
        return f", which looks like {name} since 1970; read such with --time-format {unit}"
    if re.fullmatch(r"[0-9-]{8,10}", got):
        return ", which has no time of day; append one, as ' 00:00:00'"
    if re.fullmatch(r"[0-9-]{10}[ T][0-9]{2}:[0-9]{2}(Z|[+-][0-9:]+)?", got):
        return ", which has no seconds; write them, as ':00'"
    if match := re.fullmatch(r"[0-9-]{10}[ T][0-9:]{8}\.([0-9]{7,})(Z|[+-][0-9:]+)?", got):
        return f", which has {len(match[1])} digits of fraction; keep 6 at most"
    return ""


def can_be_id(value: bytes) -> bool:
    """Say whether the bytes of a field can be a track id."""
    try:
        return is_track_id(value.decode())
    except UnicodeDecodeError:
        return False


def read_time(text: bytes) -> tuple[int | None, bool]:
    """Return a timestamp's microseconds since 1970 or None, and whether it tells a zone."""
    match = TIMESTAMP.fullmatch(text)
    if not match:
        return None, False
    *numbers, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.datetime(*map(int, numbers), int((fraction or b"").ljust(6, b"0")))
        if sign:
            if int(hours) > 23 or int(minutes or 0) > 59:
                return None, True
            offset = datetime.timedelta(hours=int(hours), minutes=int(minutes or 0))
            moment = moment - offset if sign == b"+" else moment + offset
    except (ValueError, OverflowError):
        return None, False
    return (moment - EPOCH) // MICROSECOND, bool(sign) or text.endswith(b"Z")


def as_bytes(column: pa.Array) -> pa.Array:
    """Return a column as a text would hold it, binary with its gaps; numbers as usually written.

    Raises:
        ArrowInvalid: text that is no UTF-8, which a parquet file may hold.
    """
    kind = column.type
    if pa.types.is_binary(kind):
        return column
    if pa.types.is_floating(kind):
        values = (
            None if v is None or v != v else np.format_float_positional(v, trim="-")
            for v in column.to_pylist()
        )
        return pa.array([None if v is None else v.encode() for v in values], pa.binary())
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    return column.cast(pa.string()).cast(pa.binary())
