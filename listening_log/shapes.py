"""How a listening log is laid out: its columns, what separates them, how users and times stand.

`Shape` is what a user asks for, or a preset; `Layout` is what one text file of that shape turned
out to be, once its first line was seen.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.options import InputError

ROLES = ("user", "track", "time", "played", "name")  # the first three are needed
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
GUESSED = ("\t", ",", ";", "|")  # the first of them that the first line holds separates
BOM = b"\xef\xbb\xbf"  # byte order mark
PLAIN = re.compile(rb'[^"]*')


@dataclass(frozen=True)
class Shape:
    """What is asked for; the defaults are Music4All-Onion's log.

    Attributes:
        user, track, time: a column's name, or its number from 1.
        played: of a share of a track that was played; needed with `min_played`.
        name: columns, such as artist and title, that name a track where `track` is empty.
        separator: one character; None for the first of `GUESSED` that the first line holds.
        header: whether the first line names the columns; None if any column is asked for by name.
        time_format: iso, s, ms, us (since 1970), relative (seconds since an unknown day), or auto.
        time_zone: of times that tell no zone themselves; None for UTC.
        min_played: plays of less are left out.
        text_users: user ids are any text, and are numbered in their order.
    """

    user: str = "user_id"
    track: str = "track_id"
    time: str = "timestamp"
    played: str | None = None
    name: tuple[str, ...] = ()
    separator: str | None = None
    header: bool | None = None
    time_format: str = "auto"
    time_zone: str | None = None
    min_played: float | None = None
    text_users: bool = False

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Return the columns to be read, by role."""
        played = (self.played,) if self.min_played is not None else ()
        found = {"user": (self.user,), "track": (self.track,), "time": (self.time,)}
        found |= {"played": played, "name": self.name}
        return {role: columns for role, columns in found.items() if columns}

    def told(self) -> dict:
        """Return what differs from the defaults, as json holds it; nothing for Onion's log."""
        usual = asdict(ONION)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value != usual[name]
        }


ONION = Shape()
PRESETS = {
    "onion": ONION,
    "yambda": Shape(
        **{"user": "uid", "track": "item_id", "time": "timestamp", "played": "played_ratio_pct"},
        time_format="relative",
        min_played=50.0,
    ),
    # No header: user, time, artist's id, artist, track's id or nothing, track.
    "lastfm1k": Shape(
        **{"user": "1", "track": "5", "time": "2", "name": ("4", "6"), "separator": "\t"},
        time_format="iso",
        text_users=True,
    ),
    "lfm2b": Shape(separator="\t", time_format="iso"),
}


def shape_of(
    preset: str,
    columns: tuple[str, ...] = (),
    separator: str | None = None,
    header: bool | None = None,
    time_format: str | None = None,
    time_zone: str | None = None,
    min_played: float | None = None,
    users: str | None = None,
) -> Shape:
    """Return the preset's shape with what else is asked for; None and () leave it as it is.

    Raises:
        InputError: an unknown role, a role twice, no such separator, or --min-played without its
            column.
    """
    given: dict = {}
    for column in columns:
        role, equals, name = column.partition("=")
        if not equals or not all(name.split("+")) or role not in ROLES:
            raise InputError(
                f"--columns takes {', '.join(f'{r}=COLUMN' for r in ROLES)}, got {column!r}"
            )
        if role in given:
            raise InputError(f"--columns names {role} twice: {given[role]} and {name}")
        given[role] = tuple(name.split("+")) if role == "name" else name
    if columns and "track" in given:
        given.setdefault("name", ())  # a preset's names are of its own columns
    if separator is not None:
        given["separator"] = SEPARATORS.get(separator, separator)
        if len(given["separator"].encode()) != 1 or given["separator"] in '"\r\n':
            raise InputError(
                f"--separator must be {', '.join(SEPARATORS)} or one character, got {separator!r}"
            )
    options = {"header": header, "time_format": time_format, "time_zone": time_zone}
    options |= {"min_played": min_played, "text_users": None if users is None else users == "text"}
    given |= {name: value for name, value in options.items() if value is not None}
    shape = replace(PRESETS[preset], **given)
    if shape.min_played is not None and shape.played is None:
        raise InputError(
            f"--min-played {shape.min_played:g} needs its column: --columns played=COLUMN"
        )
    if shape.time_zone and shape.time_format not in ("auto", "iso"):
        raise InputError(
            f"--time-zone is for written dates; --time-format {shape.time_format} has no zone"
        )
    return shape


@dataclass(frozen=True)
class Layout:
    """One text file of a shape.

    Attributes:
        names: of all columns, or their numbers where there is no header.
        places: the columns of each role, from 0.
        separator: one byte.
        quoted: a field may stand between quotes, as in csv; never where tabs separate.
        has_header: the first line is no play.
    """

    names: tuple[str, ...]
    places: dict[str, tuple[int, ...]]
    separator: bytes
    quoted: bool
    has_header: bool

    @classmethod
    def of(cls, path: Path, line: bytes, shape: Shape) -> Layout:
        """Return the layout of a log that begins with the line, or raise InputError."""
        text = line.removeprefix(BOM).rstrip(b"\r\n")
        guessed = next((s for s in GUESSED if s.encode() in text), "\t")
        separator = (shape.separator or guessed).encode()
        quoted = separator != b"\t"
        fields = split_line(text, separator, quoted)
        if fields is None:
            raise InputError(f"--log {path}: the quotes of its first line are no csv: {text[:200]}")
        wanted = shape.columns()
        numbers = all(column.isdecimal() for columns in wanted.values() for column in columns)
        has_header = not numbers if shape.header is None else shape.header
        names = tuple(field.decode(errors="replace") for field in fields)
        shown = text.decode(errors="replace")[:200]
        header = names if has_header else None
        places = places_of(path, shape, header, len(names), shown, separator.decode())
        return cls(names, places, separator, quoted, has_header)

    def split(self, line: bytes) -> list[bytes] | None:
        """Return the fields of a line, None if they are not as many as in the first one."""
        fields = split_line(line, self.separator, self.quoted)
        return fields if fields and len(fields) == len(self.names) else None


def split_line(line: bytes, separator: bytes, quoted: bool) -> list[bytes] | None:
    """Return the fields of a line; None if a quote stands where csv has none."""
    if not quoted or b'"' not in line:
        return line.split(separator)
    fields, at = [], 0
    field = re.compile(rb'"((?:[^"]|"")*)"|([^"' + re.escape(separator) + rb"]*)")
    while True:
        match = field.match(line, at)
        inner = match[1]
        fields.append(match[2] if inner is None else inner.replace(b'""', b'"'))
        at = match.end()
        if at == len(line):
            return fields
        if line[at : at + 1] != separator:
            return None
        at += 1


def places_of(
    path: Path,
    shape: Shape,
    names: tuple[str, ...] | None,
    n: int,
    shown: str,
    separator: str = "",
) -> dict[str, tuple[int, ...]]:
    """Return where the columns of each role stand, from 0.

    Args:
        names: of the n columns; None without a header.
        shown, separator: of the header, for messages.

    Raises:
        InputError: there is no such column, or one stands for two of user, track, time and played.
    """
    found: dict[str, tuple[int, ...]] = {}
    for role, columns in shape.columns().items():
        found[role] = tuple(_place(path, c, names, n, shown, role, separator) for c in columns)
        for other in found:
            if role != "name" and other != role and found[other] == found[role]:
                raise InputError(
                    f"--log {path}: {other} and {role} are both column {found[role][0] + 1}; give "
                    "each its own with --columns"
                )
    return found


def _place(path, column, names, n, shown, role, separator) -> int:
    if column.isdecimal():
        if not 1 <= int(column) <= n:
            raise InputError(
                f"--log {path}: {role}={column} is not one of its {n} columns, which count from 1; "
                f"got {shown!r}"
            )
        return int(column) - 1
    if names is None:
        raise InputError(
            f"--log {path} is read without a header, so columns are numbers from 1; got "
            f"{role}={column}; give --header true, or --columns {role}=NUMBER"
        )
    if names.count(column) == 1:
        return names.index(column)
    apart = next((f" separated by {w}s;" for w, s in SEPARATORS.items() if s == separator), "")
    raise InputError(
        f"--log {path}: expected a header with {column} for the {role},{apart} {column} stands "
        f"{'twice' if column in names else 'nowhere'} in it; got {shown!r}; name the columns with "
        "--columns user=NAME,track=NAME,time=NAME"
    )
