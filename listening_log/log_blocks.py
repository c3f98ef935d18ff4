"""A log file of any size as blocks of whole lines: plain, or packed as gz, bz2 or zst.

The kind is told by the first bytes, not by the name.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from core.options import InputError

LONGEST = 64 << 20  # bytes: no line of a log is that long, so this is another kind of file
CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
STRANGERS = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PK\x03\x04": "a zip archive",
    b"\xfd7zXZ": "an xz archive",
    b"PAR1": "a parquet file",
}


class LogStream:
    """The text of a log, unpacked if need be; a context manager, which closes it.

    Args:
        path: the log.
        threads: to unpack bz2, which is ten times the work of all that follows.
        flag: what errors call it.

    Attributes:
        position: bytes of the file that were used.
        unchecked: a zst file whose first frame has no checksum, as other packers always write.
    """

    def __init__(self, path: Path, threads: int, flag: str = "--log"):
        self.path, self.position, self.flag = path, 0, flag
        try:
            self.file = open(path, "rb")
            start = self.file.peek(8)
        except FileNotFoundError as error:
            raise InputError(f"{flag} {path} is missing; expected a tab-separated text") from error
        except OSError as error:
            raise InputError(f"{flag} {path} cannot be read: {error}") from error
        for magic, what in STRANGERS.items():
            if start.startswith(magic):
                raise InputError(
                    f"{flag} {path} is {what}; expected UTF-8 text, plain or packed as gz, bz2, zst"
                )
        self.codec = next((name for magic, name in CODECS.items() if start.startswith(magic)), None)
        # A frame's fifth byte describes it (RFC 8878, 3.1.1.1.1); bit 2 tells of a checksum.
        self.unchecked = self.codec == "zstd" and len(start) > 4 and not start[4] & 4
        if self.codec == "bz2":
            import rapidgzip

            self.text = rapidgzip.IndexedBzip2File(str(path), parallelization=threads)
        elif self.codec:
            self.text = io.BufferedReader(pa.CompressedInputStream(self.file, self.codec))
        else:
            self.text = self.file

    def __enter__(self) -> LogStream:
        return self

    def __exit__(self, *error) -> None:
        self.text.close()  # rapidgzip has threads, which must not outlive the interpreter
        self.file.close()

    def read_lines(self, size: int) -> bytes:
        """Return the lines that begin in the next `size` bytes, none at the end of the text.

        Each ends in a newline, the last one of the text too.
        """
        try:
            block = self.text.read(size)
            rest = self.text.readline(LONGEST)
        except (OSError, RuntimeError, ValueError) as error:
            what = f"{self.flag} {self.path} is damaged or cut short: {error}"
            raise InputError(f"{what}; copy or download it again") from error
        if len(rest) == LONGEST:
            raise InputError(
                f"{self.flag} {self.path} has a line of more than {LONGEST >> 20} MiB; "
                "expected a text file with one row a line"
            )
        used = self.text.tell_compressed() // 8 if self.codec == "bz2" else self.file.tell()
        self.position = used
        block += rest
        return block if not block or block.endswith(b"\n") else block + b"\n"

    def left(self) -> float:
        """Return how many bytes of text are left, at most; nobody knows for a packed log."""
        return float("inf") if self.codec else self.path.stat().st_size - self.position


def read_blocks(
    stream: LogStream, size: int, progress: Callable[[int], object] = lambda position: None
) -> Iterator[bytes]:
    """Yield the stream in blocks of whole lines of about `size` bytes; each ends in a newline.

    The next block is read (and unpacked) in a thread while the caller works on this one.
    """
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(stream.read_lines, size)
        while block := coming.result():
            progress(stream.position)
            coming = reader.submit(stream.read_lines, size)
            yield block
