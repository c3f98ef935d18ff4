"""Tables of vectors as text: tab or comma separated, plain or packed as gz, bz2 or zst."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from core.options import InputError
from listening_log.log_blocks import LogStream, read_blocks
from open_data.blocks import Block, find_id

BLOCK = 8 << 20  # bytes of text parsed at a time
MISSING = ["", "nan", "NaN", "NAN", "NA", "null", "None"]


class TextTable:
    """A table with a header, an id and numbers; a context manager.

    Attributes:
        names: columns of numbers, in the file's order.
        where: what a row of it is called.
        position, size: bytes of the file that were used, and that it has.
    """

    where = "line"

    def __init__(self, path: Path, id_column: str | None, threads: int):
        self.path = path
        self.stream = LogStream(path, threads, flag="--table")
        self.size = path.stat().st_size
        header = self.stream.read_lines(1).removeprefix(b"\xef\xbb\xbf")
        try:
            text = header.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"--table {path} is no UTF-8 text: {error}") from error
        self.separator = "\t" if "\t" in text else ","
        self.quote = '"' if self.separator == "," else False
        columns = next(csv.reader([text], delimiter=self.separator), []) if self.quote else None
        columns = text.split("\t") if columns is None else columns
        self.id_at = find_id(path, columns, id_column)
        self.names = columns[: self.id_at] + columns[self.id_at + 1 :]
        self.n_columns = len(columns)

    def __enter__(self) -> TextTable:
        return self

    def __exit__(self, *error) -> None:
        self.stream.__exit__(*error)

    @property
    def position(self) -> int:
        return self.stream.position

    def blocks(self) -> Iterator[Block]:
        """Yield the rows, or raise InputError: text for a number, a row of another length."""
        line, blank = 2, None
        for text in read_blocks(self.stream, BLOCK):
            rows = text.rstrip(b"\r\n")  # the last lines of a file may be blank, others not
            if rows and blank:
                raise self._ragged(blank, [""])
            if rows:
                yield self._parse(rows + b"\n", line)
            after = rows.count(b"\n") + bool(rows)  # lines that are none of the blank ones
            line, ended = line + text.count(b"\n"), line + after
            if ended < line:
                blank = blank or ended

    def _parse(self, text: bytes, first_line: int) -> Block:
        names = [str(at) for at in range(self.n_columns)]  # a header's may stand twice
        types = {name: pa.float32() for name in names} | {names[self.id_at]: pa.string()}
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(text),  # of a file of Python's, threads may outlive the process
                pyarrow.csv.ReadOptions(
                    column_names=names, use_threads=True, block_size=len(text) + 1
                ),
                pyarrow.csv.ParseOptions(delimiter=self.separator, quote_char=self.quote),
                pyarrow.csv.ConvertOptions(
                    column_types=types, null_values=MISSING, strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid as error:
            raise self._fault(text, first_line, error) from error
        if len(table) != text.count(b"\n"):  # blank lines are passed over in silence
            raise self._fault(text, first_line, ValueError("a value holds the end of a line"))
        ids = table.column(self.id_at).to_pylist()
        vectors = np.empty((len(table), len(self.names)), np.float32)
        others = (at for at in range(self.n_columns) if at != self.id_at)
        for place, at in enumerate(others):
            vectors[:, place] = table.column(at).to_numpy()
        return Block(ids, vectors, first_line)

    def _fault(self, text: bytes, first_line: int, error: Exception) -> InputError:
        """Return the error for the first row that is none, with its line."""
        lines = text.decode("utf-8", errors="replace").split("\n")[:-1]
        for line, row in enumerate(lines, first_line):
            row = row.removesuffix("\r")
            reader = (
                csv.reader([row], delimiter=self.separator) if self.quote else [row.split("\t")]
            )
            fields = next(iter(reader), [])
            if len(fields) != self.n_columns:
                return self._ragged(line, fields)
            for at, value in enumerate(fields):
                if at != self.id_at and not _is_number(value):
                    name = self.names[at - (at > self.id_at)]
                    return InputError(
                        f"--table {self.path} line {line}: column '{name}' holds {value[:40]!r}, "
                        "no number"
                    )
        return InputError(f"--table {self.path}, lines from {first_line}: {error}")

    def _ragged(self, line: int, fields: list[str]) -> InputError:
        return InputError(
            f"--table {self.path} line {line}: expected {self.n_columns} columns as in the header, "
            f"got {len(fields)}: {self.separator.join(fields)[:60]!r}"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() in MISSING
    return "_" not in text
