"""A log of any shape as parsed blocks: text or parquet, one file or a folder of parts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.options import InputError, refuse_special
from listening_log.fields import as_bytes
from listening_log.large_tables import map_in_threads
from listening_log.log_blocks import LogStream, read_blocks
from listening_log.parser import LogParser, ParsedBlock, TableParser
from listening_log.readers import check_kind
from listening_log.shapes import BOM, ROLES, Layout, Shape, places_of
from listening_log.times import NAMES, guess

SAMPLE = 1 << 16  # bytes of a text whose times tell their format
SAMPLE_ROWS = 1_000  # and rows of a parquet file
SHORTEST_ROW = len("1\tA\t2020-02-20 00:00:00\n")
ROW_BYTES = 32  # of memory that a row of a parquet file is taken for
PACKED = {".gz", ".bz2", ".zst"}
Progress = Callable[[int], object]


def parts_of(log: Path) -> list[Path]:
    """Return the files of a log: itself, or of a folder all files, by name.

    Raises:
        InputError: there is none, or a folder's files are of several kinds.
    """
    if not log.is_dir():
        refuse_special(log, f"--log {log}")
        return [log]
    # Spark and its like write _SUCCESS and hidden checksums beside the parts.
    parts = sorted(p for p in log.iterdir() if p.name[0] not in "._")
    for part in parts:
        if not part.is_file():
            raise InputError(
                f"--log {log} is a folder; expected a file, or a folder of parts alone: "
                f"{part.name} in it is no file"
            )
    kinds = {_kind(part) for part in parts}
    if len(kinds) != 1:
        held = ", ".join(sorted(kinds)[:5]) or "no files"
        raise InputError(
            f"--log {log} is a folder; expected a file, or a folder of parts of one kind: it holds "
            f"{held}"
        )
    return parts


def _kind(path: Path) -> str:
    endings = path.suffixes[-2:] if path.suffix in PACKED else path.suffixes[-1:]
    return "".join(endings) or path.name


def is_parquet(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise InputError(f"--log {path} cannot be read: {error.strerror}") from error


def time_format(parts: list[Path], shape: Shape) -> str:
    """Return the format of the log's times: the one asked for, or as its first rows tell."""
    if shape.time_format != "auto":
        return shape.time_format
    fields: list[bytes | None] = []
    if is_parquet(parts[0]):
        with ParquetSource(parts[0], shape) as source:
            column = source.sample("time")
            if pa.types.is_timestamp(column.type):
                return "iso"
            if pa.types.is_floating(column.type):
                column = pc.floor(column)  # the size tells
            fields = as_bytes(column).to_pylist()
    else:
        with LogStream(parts[0], 1) as stream:
            lines = stream.read_lines(SAMPLE).splitlines()
        if lines:
            layout = Layout.of(parts[0], lines[0], shape)
            lines[0] = lines[0].removeprefix(BOM)
            rows = (layout.split(line) for line in lines[layout.has_header :])
            at = layout.places["time"][0]
            fields = [row[at] for row in rows if row is not None]
    return guess(field for field in fields if field is not None)


class TextSource:
    """A text's blocks; a context manager.

    Attributes:
        first: number of its first row, whose header is line 1.
        unchecked: it is packed without a checksum.
    """

    def __init__(self, path: Path, shape: Shape, threads: int):
        self.path, self.shape, self.threads = path, shape, threads
        self.stream = LogStream(path, threads)
        self.unchecked = self.stream.unchecked

    def __enter__(self) -> TextSource:
        return self

    def __exit__(self, *error) -> None:
        self.stream.__exit__(*error)

    def parsed(self, make: dict, block_bytes: int, progress: Progress) -> Iterator[ParsedBlock]:
        """Yield what each block holds.

        Args:
            make: what Parser takes: reader, ids, users.
        """
        with closing(read_blocks(self.stream, block_bytes, progress)) as blocks:
            start = next(blocks, b"")
            if not start:
                raise InputError(f"--log {self.path} is empty; expected a header and a play a line")
            header, _, rest = start.partition(b"\n")
            layout = Layout.of(self.path, header, self.shape)
            parser = LogParser(self.path, header, layout=layout, **make)
            self.first = 1 + layout.has_header
            first = rest if layout.has_header else start.removeprefix(BOM)
            yield from map_in_threads(parser.parse, itertools.chain([first], blocks), self.threads)

    def left(self, block_bytes: int) -> float:
        """Return how many rows are left, at most."""
        # Some blocks wait to be parsed.
        return (self.stream.left() + (self.threads + 2) * block_bytes) / SHORTEST_ROW


class ParquetSource:
    """A parquet file's tables of rows; a context manager. Attributes as TextSource's."""

    unchecked = False
    first = 1

    def __init__(self, path: Path, shape: Shape, threads: int = 1):
        self.path, self.threads, self.read = path, threads, 0
        try:
            # A page at a time: a row group may be the whole file.
            self.file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"--log {path} is a parquet file that cannot be read: {error}"
            ) from error
        schema = self.file.schema_arrow
        self.columns: dict[str, list[str]] = {}
        names, shown = tuple(schema.names), ", ".join(schema.names)[:200]
        for role, places in places_of(path, shape, names, len(names), shown).items():
            self.columns[role] = [names[place] for place in places]
            for place in places:
                if names.count(names[place]) > 1:
                    raise InputError(
                        f"--log {path}: {names[place]} stands twice; rename one; got {shown!r}"
                    )
                kind = schema.field(place).type
                inner = kind.value_type if pa.types.is_dictionary(kind) else kind
                check_kind(path, schema.names[place], _plain(inner), role)

    def __enter__(self) -> ParquetSource:
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def sample(self, role: str) -> pa.Array:
        """Return the first rows of a column."""
        names = self.columns[role]
        for batch in self._batches(SAMPLE_ROWS, names):
            return _usual(batch.column(names[0]))
        return pa.array([], _plain(self.file.schema_arrow.field(names[0]).type))

    def parsed(self, make: dict, block_bytes: int, progress: Progress) -> Iterator[ParsedBlock]:
        """Yield what each block holds; see TextSource.parsed."""
        size, total = self.path.stat().st_size, max(1, self.file.metadata.num_rows)
        wanted = list(dict.fromkeys(name for each in self.columns.values() for name in each))
        parser, kind = TableParser(**make), make["reader"].time.kind
        told = self.file.schema_arrow.field(self.columns["time"][0])
        if pa.types.is_timestamp(_plain(told.type)) and kind != "iso":
            raise InputError(
                f"--log {self.path}: {told.name} is a column of {told.type}, but times are taken "
                f"as {NAMES[kind]}; give --time-format iso, or parts of one kind"
            )

        def tables() -> Iterator[pa.Table]:
            for batch in self._batches(max(1 << 10, block_bytes // ROW_BYTES), wanted):
                self.read += len(batch)
                progress(size * self.read // total)
                columns = {
                    f"{role} {at}": _usual(batch.column(name))
                    for role in ROLES
                    for at, name in enumerate(self.columns.get(role, ()))
                }
                yield pa.table(columns)

        yield from map_in_threads(parser.parse, _ahead(tables()), self.threads)

    def _batches(self, rows: int, names: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self.file.iter_batches(rows, columns=names, use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"--log {self.path} is damaged: {error}; copy or download it again"
            ) from error

    def left(self, block_bytes: int) -> float:
        """Return how many rows are left, at most."""
        waiting = (self.threads + 2) * max(1 << 10, block_bytes // ROW_BYTES)
        return self.file.metadata.num_rows - self.read + waiting


def open_source(path: Path, shape: Shape, threads: int) -> TextSource | ParquetSource:
    """Return a part of the log, told by its first bytes."""
    if is_parquet(path):
        return ParquetSource(path, shape, threads)
    return TextSource(path, shape, threads)


def _ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the tables, the next of which is read in a thread meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, tables, None)
        while (table := coming.result()) is not None:
            coming = reader.submit(next, tables, None)
            yield table


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type as which a column is read."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if any(is_one(kind) for is_one in (pa.types.is_large_string, pa.types.is_string_view)):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def _usual(column: pa.Array) -> pa.Array:
    """Return a column as its plain type, and texts as bytes, of which only readers say more."""
    column = column.cast(_plain(column.type))
    return column.cast(pa.binary()) if pa.types.is_string(column.type) else column
