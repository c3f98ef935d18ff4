"""Rows of the listening log in, tables of (user_id, track_idx, timestamp) out.

A text has one play a line. Lines end in LF or CRLF; a byte order mark is skipped. Where tabs
separate there is no quoting: a quote is a character like any other. fields.py and times.py say
what a field may hold, shapes.py where it stands.

A block of rows is read by Arrow at once. Where that fails the block is halved until the rows at
fault are nearly alone; those are read one by one, which also finds what is wrong with them. An
empty line is no row; every other line is a play, is left out by --min-played, or is counted under
one of `REASONS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from listening_log.fields import BAD_SHARE, LEFT_OUT, REASONS, as_bytes, explain
from listening_log.lookup import FaultyId, GrowingIds, KnownIds
from listening_log.readers import Columns, Reader
from listening_log.shapes import BOM, ONION, Layout

PLAYS = pa.schema(
    [("user_id", pa.int64()), ("track_idx", pa.int32()), ("timestamp", pa.timestamp("us"))]
)
# Where the fault of a row stands.
FIELD_OF = {"bad user id": "user", "bad timestamp": "time", BAD_SHARE: "played"}
EXAMPLES = 5  # line numbers kept for each reason
ALONE = 1 << 16  # bytes: a block with a faulty line is halved down to this, then read by line
ROWS_ALONE = 1 << 10  # the same of rows without lines


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
        self.counts[reason] = self.counts.get(reason, 0) + (len(lines) if count is None else count)
        self.lines.setdefault(reason, [])
        if example is not None:
            self.examples.setdefault(reason, example)
        room = EXAMPLES - len(self.lines[reason])
        self.lines[reason] += [n if isinstance(n, str) else int(n) for n in lines[:room]]

    def add_all(self, later: Rejected, offset: int, part: str = "") -> None:
        """Count what a later block holds, whose line numbers start at `offset` of a part's."""
        for reason in later.counts:
            self.counts.setdefault(reason, 0)
            self.lines.setdefault(reason, [])
            lines = [line + offset for line in later.lines[reason]]
            lines = [f"{part}:{line}" for line in lines] if part else lines
            self.add(reason, lines, later.examples.get(reason), later.counts[reason])

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def explain(self, time: str = "YYYY-MM-DD hh:mm:ss") -> str:
        """Return what is the matter with the lines that are rejected most often.

        Args:
            time: what a time should be.
        """
        most = max(self.counts, key=self.counts.__getitem__)
        return explain(most, self.examples[most], time) if most in self.examples else ""

    def __str__(self) -> str:
        found = [reason for reason in self.counts if self.counts[reason]]
        more = {reason: ", ..." if self.counts[reason] > EXAMPLES else "" for reason in found}
        return "; ".join(
            f"{self.counts[r]:,} {r} (line {', '.join(map(str, self.lines[r]))}{more[r]})"
            for r in found
        )


@dataclass
class ParsedBlock:
    """What a block of rows holds.

    Attributes:
        plays: the usable ones, in the block's order, with the schema `PLAYS`; a text user stands
            as its number.
        lines: lines in the block.
        rows: those that are not empty.
        rejected: those that hold no usable play; the first line of the block is 0.
        left_out: plays of less than --min-played.
    """

    plays: pa.Table
    lines: int = 0
    rows: int = 0
    rejected: Rejected = field(default_factory=Rejected)
    left_out: int = 0


class Parser:
    """Turns blocks of rows into plays. Its `parse` may run in several threads.

    Args:
        reader: of the rows.
        ids: the known track ids.
        users: the numbers of users who are text; None for integers.
    """

    def __init__(self, reader: Reader, ids: KnownIds | GrowingIds, users: GrowingIds | None):
        self.reader, self.ids, self.users = reader, ids, users

    def parse(self, block) -> ParsedBlock:
        """Return what the block, bytes of whole lines or a table of rows, holds."""
        parsed = ParsedBlock(PLAYS.empty_table())
        block = self._prepared(block)
        tables, waiting = [parsed.plays], [block] if len(block) else []
        while waiting:
            block = waiting.pop()
            try:
                tables.append(self._parse_at_once(block, parsed))
            except (FaultyBlock, FaultyId):
                if halves := self._halves(block):
                    waiting += halves[::-1]
                else:
                    tables.append(self._parse_by_line(block, parsed))
        parsed.plays = pa.concat_tables(tables)
        return parsed

    def _prepared(self, block):
        return block

    def _read(self, columns: dict[str, list[pa.Array]]) -> Columns:
        try:
            return self.reader.columns(columns)
        except pa.ArrowInvalid as error:
            raise FaultyBlock from error

    def _add(self, found: Columns, n: int, parsed: ParsedBlock) -> pa.Table:
        """Return the plays of n rows that were read at once."""
        lines = None
        if found.kept is not None:
            lines = np.flatnonzero(found.kept) + parsed.lines
        plays = self._known(found.users, found.tracks, found.times, lines, parsed)
        if found.kept is not None:
            parsed.left_out += n - len(lines)
        parsed.lines += n
        parsed.rows += n
        return plays

    def _add_alone(self, rows, faults: list[str], parsed: ParsedBlock) -> pa.Table:
        """Return the plays of rows that are read one by one.

        Args:
            rows: for each the values by role, or None.
            faults: what to show of a row that is wrong as a whole; empty for one that is no row.
        """
        plays = []
        for number, (values, whole) in enumerate(zip(rows, faults, strict=True), parsed.lines):
            play = self.reader.row(values)
            if not isinstance(play, str):
                plays.append((*play, number))
            elif play == LEFT_OUT:
                parsed.left_out += 1
            elif whole:
                wrong = values[FIELD_OF[play]][0] if play in FIELD_OF else whole
                parsed.rejected.add(play, [number], _shown(wrong))
        users, tracks, micros, numbers = zip(*plays, strict=True) if plays else ((), (), (), ())
        times = pa.array(micros, pa.int64()).cast(pa.timestamp("us"))
        users = pa.array(users, pa.int64() if self.users is None else pa.binary())
        tracks = pa.array(tracks, pa.binary())
        found = self._known(users, tracks, times, np.array(numbers, np.int64), parsed)
        parsed.lines += len(faults)
        parsed.rows += sum(1 for whole in faults if whole)
        return found

    def _known(self, users, tracks, timestamps, lines: np.ndarray | None, parsed) -> pa.Table:
        """Return the plays of known tracks; reject the lines (None: the next) of the others."""
        if self.users is not None:
            users = self.users.number(users).cast(pa.int64())
        numbers = self.ids.number(tracks)
        plays = pa.table([users, numbers, timestamps], schema=PLAYS)
        if not numbers.null_count:
            return plays
        unknown = pc.is_null(numbers)
        at = np.flatnonzero(unknown.to_numpy(zero_copy_only=False))
        numbers = at + parsed.lines if lines is None else lines[at]
        example = as_bytes(tracks.slice(int(at[0]), 1))[0].as_py()
        parsed.rejected.add("unknown track", numbers, _shown(example))
        return plays.filter(pc.invert(unknown))


class LogParser(Parser):
    """Reads blocks of lines.

    Args:
        path: the log, for messages.
        header: its first line, which tells the layout where none is given.
        ids, reader, users: as Parser takes them.
    """

    def __init__(
        self,
        path: Path,
        header: bytes,
        ids: KnownIds | GrowingIds,
        *,
        layout: Layout | None = None,
        reader: Reader | None = None,
        users: GrowingIds | None = None,
    ):
        super().__init__(reader or Reader(ONION, "iso", ids.grow), ids, users)
        self.layout = layout or Layout.of(path, header, ONION)
        self.names = [str(place) for place in range(len(self.layout.names))]
        self.wanted = sorted({str(place) for each in self.layout.places.values() for place in each})

    def _prepared(self, block: bytes) -> bytes:
        return block.replace(b"\r\n", b"\n") if b"\r" in block else block

    def _halves(self, block: bytes) -> list[bytes]:
        middle = block.rfind(b"\n", 0, len(block) // 2) + 1
        return [block[:middle], block[middle:]] if len(block) > ALONE and middle else []

    def _parse_at_once(self, block: bytes, parsed: ParsedBlock) -> pa.Table:
        # Arrow alone would skip a byte order mark and end lines at a carriage return.
        if block.startswith(BOM) or b"\r" in block or b"\0" in block:
            raise FaultyBlock
        quoted = self.layout.quoted and b'"' in block
        if quoted and not well_quoted(block, self.layout.separator):
            raise FaultyBlock
        try:
            # One block and no threads: the caller has threads, and columns come in one piece.
            table = pyarrow.csv.read_csv(
                pa.BufferReader(block),
                pyarrow.csv.ReadOptions(
                    column_names=self.names, block_size=len(block) + 1, use_threads=False
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=self.layout.separator.decode(),
                    quote_char='"' if quoted else False,
                    escape_char=False,
                    ignore_empty_lines=False,
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(self.wanted, pa.binary()),
                    include_columns=self.wanted,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as error:
            raise FaultyBlock from error
        columns = {
            role: [_whole(table[str(place)]) for place in places]
            for role, places in self.layout.places.items()
        }
        return self._add(self._read(columns), len(table), parsed)

    def _parse_by_line(self, block: bytes, parsed: ParsedBlock) -> pa.Table:
        lines = block[:-1].split(b"\n")
        rows = []
        for line in lines:
            fields = self.layout.split(line)
            rows.append(
                None
                if fields is None
                else {r: [fields[at] for at in places] for r, places in self.layout.places.items()}
            )
        return self._add_alone(rows, lines, parsed)


class TableParser(Parser):
    """Reads tables whose columns are named by role and place, as `name 1`."""

    def _halves(self, table: pa.Table) -> list[pa.Table]:
        if len(table) <= ROWS_ALONE:
            return []
        return [table.slice(0, len(table) // 2), table.slice(len(table) // 2)]

    def _columns(self, table: pa.Table) -> dict[str, list[pa.Array]]:
        columns: dict[str, list[pa.Array]] = {}
        for name in table.column_names:
            columns.setdefault(name.partition(" ")[0], []).append(_whole(table[name]))
        return columns

    def _parse_at_once(self, table: pa.Table, parsed: ParsedBlock) -> pa.Table:
        return self._add(self._read(self._columns(table)), len(table), parsed)

    def _parse_by_line(self, table: pa.Table, parsed: ParsedBlock) -> pa.Table:
        texts = {
            role: [[value or b"" for value in self.reader.texts(role, c)] for c in each]
            for role, each in self._columns(table).items()
        }
        rows = [
            {role: [column[at] for column in each] for role, each in texts.items()}
            for at in range(len(table))
        ]
        wholes = [b", ".join(v for each in row.values() for v in each) for row in rows]
        return self._add_alone(rows, wholes, parsed)


def well_quoted(block: bytes, separator: bytes) -> bool:
    """Say whether the quotes of whole lines are csv's: around a field, and doubled inside it."""
    content = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(content == ord('"'))
    opening, closing = quotes[0::2], quotes[1::2]
    if len(opening) != len(closing):
        return False
    ends = np.array([separator[0], ord("\n")], np.uint8)
    before = content[opening - 1]  # of the first byte the last one, a newline
    after = content[closing + 1]
    doubled = closing + 1 == np.append(opening[1:], -1)
    reopened = np.append(False, doubled[:-1])
    if not (np.isin(before, ends) | reopened).all() or not (np.isin(after, ends) | doubled).all():
        return False
    lines = np.flatnonzero(content == ord("\n"))
    return not (np.searchsorted(quotes, lines) % 2).any()


def _shown(field: bytes) -> str:
    """Return the beginning of a field as text."""
    return field[:200].decode(errors="replace")


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return the column in one piece; one that is need not be copied."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
