"""Lines of the listening log in, tables of (user_id, track_idx, timestamp) out.

The log is tab separated, has one header line with the columns user_id, track_id and timestamp in
any order (others are ignored), and one play a line. Lines end in LF or CRLF; a byte order mark is
skipped. There is no quoting: a quote is a character like any other. fields.py says what a field
may hold.

A block of lines is read by Arrow at once. Where that fails the block is halved until the lines at
fault are nearly alone; those are read one by one, which also finds what is wrong with them. An
empty line is no row; every other line is a play or is counted under one of `REASONS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from core.options import InputError
from listening_log.fields import REASONS, explain, read_fields, read_timestamps, read_users
from listening_log.lookup import FaultyId, GrowingIds, KnownIds

COLUMNS = ("user_id", "track_id", "timestamp")
PLAYS = pa.schema(
    [("user_id", pa.int64()), ("track_idx", pa.int32()), ("timestamp", pa.timestamp("us"))]
)
FIELD_OF = {"bad user id": 0, "bad timestamp": 2}  # where the fault of such a line stands
EXAMPLES = 5  # line numbers kept for each reason
ALONE = 1 << 16  # bytes: a block with a faulty line is halved down to this, then read by line
BOM = b"\xef\xbb\xbf"  # byte order mark


class FaultyBlock(Exception):
    """Some line of a block cannot be used."""


@dataclass
class Rejected:
    """The lines that hold no usable play.

    Attributes:
        counts: how many, by reason.
        lines: the first line numbers, by reason.
        examples: the field, or line, at fault in the first of them.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    lines: dict[str, list[int]] = field(default_factory=lambda: {r: [] for r in REASONS})
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, lines, example: str | None, count: int | None = None) -> None:
        """Count lines by their numbers, which ascend; `count` if there are more than given."""
        self.counts[reason] += len(lines) if count is None else count
        if example is not None:
            self.examples.setdefault(reason, example)
        room = EXAMPLES - len(self.lines[reason])
        self.lines[reason] += [int(line) for line in lines[:room]]

    def add_all(self, later: Rejected, offset: int) -> None:
        """Count what a later block holds, whose line numbers start at `offset`."""
        for reason in REASONS:
            lines = [line + offset for line in later.lines[reason]]
            self.add(reason, lines, later.examples.get(reason), later.counts[reason])

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def explain(self) -> str:
        """Return what is the matter with the lines that are rejected most often."""
        most = max(REASONS, key=self.counts.__getitem__)
        return explain(most, self.examples[most]) if most in self.examples else ""

    def __str__(self) -> str:
        found = [reason for reason in REASONS if self.counts[reason]]
        more = {reason: ", ..." if self.counts[reason] > EXAMPLES else "" for reason in found}
        return "; ".join(
            f"{self.counts[r]:,} {r} (line {', '.join(map(str, self.lines[r]))}{more[r]})"
            for r in found
        )


@dataclass
class ParsedBlock:
    """What a block of lines holds.

    Attributes:
        plays: the usable ones, in the block's order, with the schema `PLAYS`.
        lines: lines in the block.
        rows: those that are not empty.
        rejected: those that hold no usable play; the first line of the block is 0.
    """

    plays: pa.Table
    lines: int = 0
    rows: int = 0
    rejected: Rejected = field(default_factory=Rejected)


class LogParser:
    """Turns blocks of lines into plays. Its `parse` may run in several threads.

    Args:
        path: the log, for messages.
        header: its first line.
        ids: the known track ids.
    """

    def __init__(self, path: Path, header: bytes, ids: KnownIds | GrowingIds):
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
        self.ids = ids

    def parse(self, block: bytes) -> ParsedBlock:
        """Return what the block, whole lines, holds."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        parsed = ParsedBlock(PLAYS.empty_table())
        tables, waiting = [parsed.plays], [block] if block else []
        while waiting:
            block = waiting.pop()
            try:
                tables.append(self._parse_at_once(block, parsed))
            except (FaultyBlock, FaultyId):
                middle = block.rfind(b"\n", 0, len(block) // 2) + 1
                if len(block) <= ALONE or not middle:
                    tables.append(self._parse_by_line(block, parsed))
                else:
                    waiting += [block[middle:], block[:middle]]
        parsed.plays = pa.concat_tables(tables)
        return parsed

    def _parse_at_once(self, block: bytes, parsed: ParsedBlock) -> pa.Table:
        # Arrow alone would skip a byte order mark and end lines at a carriage return.
        if block.startswith(BOM) or b"\r" in block or b"\0" in block:
            raise FaultyBlock
        try:
            # One block and no threads: the caller has threads, and columns come in one piece.
            table = pyarrow.csv.read_csv(
                pa.BufferReader(block),
                pyarrow.csv.ReadOptions(
                    column_names=self.names, block_size=len(block) + 1, use_threads=False
                ),
                pyarrow.csv.ParseOptions(
                    delimiter="\t", quote_char=False, escape_char=False, ignore_empty_lines=False
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(COLUMNS, pa.binary()),
                    include_columns=list(COLUMNS),
                    check_utf8=False,
                ),
            )
            users, tracks, timestamps = (_whole(table[name]) for name in COLUMNS)
            users, timestamps = read_users(users), read_timestamps(timestamps)
        except pa.ArrowInvalid as error:
            raise FaultyBlock from error
        plays = self._known(users, tracks, timestamps, None, parsed)
        parsed.lines += len(table)
        parsed.rows += len(table)
        return plays

    def _parse_by_line(self, block: bytes, parsed: ParsedBlock) -> pa.Table:
        at = [self.names.index(name) for name in COLUMNS]
        plays: list[tuple[int, bytes, int, int]] = []
        lines = block[:-1].split(b"\n")
        for number, line in enumerate(lines, parsed.lines):
            fields = line.split(b"\t")
            right = len(fields) == len(self.names)
            values = [fields[i] for i in at] if right else None
            play = read_fields(values, self.ids.grow)
            if not isinstance(play, str):
                plays.append((*play, number))
            elif line:
                wrong = values[FIELD_OF[play]] if play in FIELD_OF else line
                parsed.rejected.add(play, [number], _shown(wrong))
        users, tracks, micros, numbers = zip(*plays, strict=True) if plays else ((), (), (), ())
        times = pa.array(micros, pa.int64()).cast(pa.timestamp("us"))
        users, tracks = pa.array(users, pa.int64()), pa.array(tracks, pa.binary())
        found = self._known(users, tracks, times, np.array(numbers), parsed)
        parsed.lines += len(lines)
        parsed.rows += len(lines) - lines.count(b"")
        return found

    def _known(self, users, tracks, timestamps, lines: np.ndarray | None, parsed) -> pa.Table:
        """Return the plays of known tracks; reject the lines (None: the next) of the others."""
        numbers = self.ids.number(tracks)
        plays = pa.table([users, numbers, timestamps], schema=PLAYS)
        if not numbers.null_count:
            return plays
        unknown = pc.is_null(numbers)
        at = np.flatnonzero(unknown.to_numpy(zero_copy_only=False))
        numbers = at + parsed.lines if lines is None else lines[at]
        parsed.rejected.add("unknown track", numbers, _shown(tracks[int(at[0])].as_py()))
        return plays.filter(pc.invert(unknown))


def _shown(field: bytes) -> str:
    """Return the beginning of a field as text."""
    return field[:200].decode(errors="replace")


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return the column in one piece; one that is need not be copied."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
