"""The listening log: a text file of any size in, tables of (user_id, track_idx, timestamp) out.

The log is tab separated, has one header line with the columns user_id, track_id and timestamp in
any order (others are ignored), and one play a line; plain, .gz, .bz2 or .zst, told apart by their
first bytes. Lines end in LF or CRLF; a byte order mark is skipped. There is no quoting: a quote is
a character like any other. log_fields.py says what a field may hold.

A block of lines is read by Arrow at once. Where that fails the block is halved until the lines at
fault are nearly alone; those are read one by one, which also finds what is wrong with them. An
empty line is no row; every other line is a play or is counted under one of `REASONS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from config import InputError
from log_fields import REASONS, can_be_id, read_fields, read_timestamps, read_users

COLUMNS = ("user_id", "track_id", "timestamp")
PLAYS = pa.schema(
    [("user_id", pa.int64()), ("track_idx", pa.int32()), ("timestamp", pa.timestamp("us"))]
)
EXAMPLES = 5  # line numbers kept for each reason
LONGEST = 64 << 20  # bytes: no line of a log is that long, so this is another kind of file
ALONE = 1 << 16  # bytes: a block with a faulty line is halved down to this, then read by line

BOM = b"\xef\xbb\xbf"  # byte order mark
CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
STRANGERS = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PK\x03\x04": "a zip archive",
    b"\xfd7zXZ": "an xz archive",
    b"PAR1": "a parquet file",
}


class FaultyBlock(Exception):
    """Some line of a block cannot be used."""


@dataclass
class Rejected:
    """The lines that hold no usable play.

    Attributes:
        counts: how many, by reason.
        lines: the first line numbers, by reason; line 1 is the header.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    lines: dict[str, list[int]] = field(default_factory=lambda: {r: [] for r in REASONS})

    def add(self, reason: str, lines) -> None:
        """Count lines by their numbers, which ascend."""
        self.counts[reason] += len(lines)
        room = EXAMPLES - len(self.lines[reason])
        self.lines[reason] += [int(line) for line in lines[:room]]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        found = [reason for reason in REASONS if self.counts[reason]]
        more = {reason: ", ..." if self.counts[reason] > EXAMPLES else "" for reason in found}
        return "; ".join(
            f"{self.counts[r]:,} {r} (line {', '.join(map(str, self.lines[r]))}{more[r]})"
            for r in found
        )


class TrackIds:
    """Numbers of track ids: rows of trackid_sorted.csv, or without one the order of appearance.

    Attributes:
        values: binary array; the position of an id is its number.
        grow: whether an unknown id is added instead of refused.
    """

    def __init__(self, ids: list[str] | None):
        self.grow = ids is None
        self.values = pa.array([i.encode() for i in ids or []], pa.binary())

    def number(self, column: pa.Array) -> pa.Array:
        """Return the int32 numbers of a binary column, null where an id is unknown."""
        found = pc.index_in(column, self.values)
        if self.grow and found.null_count:
            new = pc.unique(column.filter(pc.is_null(found)))
            if not all(can_be_id(value.as_py()) for value in new):
                raise FaultyBlock
            self.values = pa.concat_arrays([self.values, new])
            found = pc.index_in(column, self.values)
        return found


def open_log(path: Path) -> tuple[pa.NativeFile, pa.NativeFile]:
    """Return (the log's text as a binary stream, the file below it, whose tell() is progress)."""
    try:
        raw = pa.OSFile(str(path))
        start = raw.read(8)
        raw.seek(0)
    except FileNotFoundError as error:
        raise InputError(f"--log {path} is missing; expected a tab-separated log") from error
    except OSError as error:
        raise InputError(f"--log {path} cannot be read: {error}") from error
    for magic, what in STRANGERS.items():
        if start.startswith(magic):
            raise InputError(f"--log {path} is {what}; expected UTF-8 text, or it in gz, bz2, zst")
    codec = next((name for magic, name in CODECS.items() if start.startswith(magic)), None)
    return (pa.CompressedInputStream(raw, codec) if codec else raw), raw


def read_blocks(path: Path, stream, size: int) -> Iterator[bytes]:
    """Yield the stream in blocks of whole lines of about `size` bytes; each ends in a newline.

    The next block is read (and unpacked) in a thread while the caller works on this one.
    """
    rest = b""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(stream.read, size)
        while True:
            try:
                data = coming.result()
            except OSError as error:
                raise InputError(f"--log {path} is damaged or cut short: {error}") from error
            if not data:
                break
            coming = reader.submit(stream.read, size)
            cut = data.rfind(b"\n") + 1
            if cut:
                yield rest + data[:cut]
            rest = data[cut:] if cut else rest + data
            if len(rest) > LONGEST:
                raise InputError(
                    f"--log {path} has a line of more than {LONGEST >> 20} MiB; "
                    "expected a tab-separated text file with one play a line"
                )
    if rest:
        yield rest + b"\n"


class LogParser:
    """Turns blocks of lines into tables with the schema `PLAYS` and counts what it cannot use.

    Args:
        path: the log, for messages.
        header: its first line.
        ids: the known track ids.

    Attributes:
        line: number of the next line.
        rows: lines parsed so far, without the empty ones.
        rejected: those of them that hold no usable play.
    """

    def __init__(self, path: Path, header: bytes, ids: TrackIds):
        text = header.removeprefix(BOM).rstrip(b"\r\n").decode(errors="replace")
        names = text.split("\t")
        for column in COLUMNS:
            if names.count(column) != 1:
                raise InputError(
                    f"--log {path}: expected a header with {', '.join(COLUMNS)}, separated by "
                    f"tabs; {column} stands {'twice' if column in names else 'nowhere'} in it; "
                    f"got {text[:200]!r}"
                )
        self.names = [n if n in COLUMNS else f"column {i}" for i, n in enumerate(names)]
        self.ids, self.rejected, self.line, self.rows = ids, Rejected(), 2, 0

    def parse(self, block: bytes) -> pa.Table:
        """Return the usable plays of the block, in its order."""
        if not block:
            return PLAYS.empty_table()
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        return pa.concat_tables(list(self._parse(block)))

    def _parse(self, block: bytes) -> Iterator[pa.Table]:
        try:
            yield self._parse_at_once(block)
        except FaultyBlock:
            middle = block.rfind(b"\n", 0, len(block) // 2) + 1
            if len(block) <= ALONE or not middle:
                yield self._parse_by_line(block)
            else:
                yield from self._parse(block[:middle])
                yield from self._parse(block[middle:])

    def _parse_at_once(self, block: bytes) -> pa.Table:
        # Arrow alone would skip a byte order mark and end lines at a carriage return.
        if block.startswith((b"\n", BOM)) or any(m in block for m in (b"\n\n", b"\r", b"\0")):
            raise FaultyBlock
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(block),
                pyarrow.csv.ReadOptions(column_names=self.names, block_size=2 << 20),
                pyarrow.csv.ParseOptions(
                    delimiter="\t", quote_char=False, escape_char=False, ignore_empty_lines=False
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(COLUMNS, pa.binary()),
                    include_columns=list(COLUMNS),
                    check_utf8=False,
                ),
            )
            users, tracks, timestamps = (table[name].combine_chunks() for name in COLUMNS)
            users, timestamps = read_users(users), read_timestamps(timestamps)
        except pa.ArrowInvalid as error:
            raise FaultyBlock from error
        lines = np.arange(self.line, self.line + len(table))
        plays = self._known(users, tracks, timestamps, lines)
        self.line += len(lines)
        self.rows += len(lines)
        return plays

    def _parse_by_line(self, block: bytes) -> pa.Table:
        at = [self.names.index(name) for name in COLUMNS]
        plays: list[tuple[int, bytes, int, int]] = []
        lines = block[:-1].split(b"\n")
        for number, line in enumerate(lines, self.line):
            fields = line.split(b"\t")
            right = len(fields) == len(self.names)
            play = read_fields([fields[i] for i in at] if right else None, self.ids.grow)
            if not isinstance(play, str):
                plays.append((*play, number))
            elif line:
                self.rejected.add(play, [number])
        users, tracks, micros, numbers = zip(*plays, strict=True) if plays else ((), (), (), ())
        times = pa.array(micros, pa.int64()).cast(pa.timestamp("us"))
        self.line += len(lines)
        self.rows += len(lines) - lines.count(b"")
        return self._known(
            pa.array(users, pa.int64()), pa.array(tracks, pa.binary()), times, np.array(numbers)
        )

    def _known(self, users, tracks, timestamps, lines: np.ndarray) -> pa.Table:
        """Return the plays of known tracks; the lines of the others are rejected."""
        numbers = self.ids.number(tracks)
        plays = pa.table([users, numbers, timestamps], schema=PLAYS)
        if not numbers.null_count:
            return plays
        unknown = pc.is_null(numbers)
        self.rejected.add("unknown track", lines[unknown.to_numpy(zero_copy_only=False)])
        return plays.filter(pc.invert(unknown))
