"""One file over an unreliable connection: resumed, paced, checked, and whole or not there.

What has arrived lies in .NAME.part beside the target, and .NAME.part.json tells the version of the
file. A connection that is cut goes on where it was, by a range request with `If-Range`; without
ranges, or when there is another version by now, the file is fetched from its start again.
429, 503 and the like wait as long as `Retry-After` says, else longer each time.

requests speaks HTTP (redirects, proxies, certificates, chunked bodies, lengths that are enforced);
what it has not, nor pooch on top of it, is to go on after a cut, so that is here.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import requests
import urllib3

from core.artifacts import disk_full
from core.options import InputError, WorkError
from open_data.sources import URL, Source

CHUNK = 1 << 16  # bytes
AGAIN = {408, 425, 429, 500, 502, 503, 504}  # answers after which the same request may succeed
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "music-study-get-data/1"}
WITHOUT_ANSWER = 3  # tries, when nothing answers at all: there is no network
LONGEST = 600.0  # seconds: no wait is longer, whatever a server asks for
LFS = b"version https://git-lfs"


class Refused(Exception):
    """This address will not give the file; another may."""


class Interrupted(Exception):
    """The command is ending; what has arrived is kept."""


class Unreachable(WorkError):
    """No address of the file answered at all: there is no network."""


class Pace:
    """At most so many bytes a second, of all transfers together.

    Args:
        rate: bytes a second; None: no limit.
    """

    def __init__(self, rate: float | None, clock=time.monotonic):
        self.rate, self.clock = rate, clock
        self.lock, self.free_at = threading.Lock(), clock()

    def wait_for(self, n: int) -> float:
        """Book n bytes and return the seconds to wait before they are used."""
        if not self.rate:
            return 0.0
        with self.lock:
            now = self.clock()
            begin = max(self.free_at, now)
            self.free_at = begin + n / self.rate
            return begin - now


@dataclass
class Transfer:
    """How files are fetched: shared by all of a command's downloads.

    Attributes:
        tries: failures in a row, nothing having arrived, after which an address is given up.
        pace: the limit of the rate.
        patience: seconds to connect, and to wait for the next bytes.
        base_wait: seconds before the second try; doubled for each further one.
        stop: set when the command ends.
        progress: called with (source, bytes that arrived; fewer than none when it starts again).
        tell: called with a sentence, when something goes wrong and is tried again.
    """

    tries: int = 8
    pace: Pace = field(default_factory=lambda: Pace(None))
    patience: tuple[float, float] = (10, 60)
    base_wait: float = 1.0
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[Source, int], object] = lambda source, n: None
    tell: Callable[[str], object] = lambda line: None

    def fetch(self, source: Source, target: Path) -> dict:
        """Bring the file to `target`; return what is known of it: see `verify`.

        Raises:
            Unreachable: no address answers.
            WorkError: all addresses refuse, give up, or give another file; or the disk is full.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Part(target)
        reasons, answered = [], False
        for address in source.addresses:
            try:
                if URL.match(address):
                    self._from_server(source, address, part)
                else:
                    self._from_folder(source, Path(address), part)
                facts = verify(source, part.path)
            except (Refused, WorkError) as error:
                answered = answered or not isinstance(error, Unreachable)
                reasons.append(f"{address}: {error}")
                if isinstance(error, Mismatch):
                    self.progress(source, -part.size())
                    part.forget()
                continue
            part.finish()
            return {**facts, "address": address}
        kind = WorkError if answered else Unreachable
        raise kind(f"{source.name} ({source.file}) could not be had: {'; '.join(reasons)}")

    def _from_server(self, source: Source, address: str, part: Part) -> None:
        failures, answered, farthest = 0, False, part.size()
        with requests.Session() as session:
            while True:
                try:
                    if self._ask(session, source, address, part):
                        return
                    answered, reason, wait = True, "the connection was cut", None
                except _Later as later:
                    answered, reason, wait = True, later.reason, later.seconds
                except requests.ConnectionError as error:
                    reason, wait = _plainly(error), None
                except requests.RequestException as error:
                    answered, reason, wait = True, _plainly(error), None
                failures = 0 if part.size() > farthest else failures + 1
                farthest = max(farthest, part.size())
                if failures >= (self.tries if answered else min(self.tries, WITHOUT_ANSWER)):
                    kind = WorkError if answered else Unreachable
                    raise kind(f"given up after {failures} tries ({reason})")
                # Somewhat by chance, so that many clients do not come back at the same moment.
                backing_off = self.base_wait * 2**failures * random.uniform(0.5, 1)
                wait = min(backing_off if wait is None else wait, LONGEST)
                self.tell(
                    f"{source.name}: {reason}; again in {wait:.0f} s, {part.size():,} bytes kept"
                )
                self._sleep(wait)

    def _ask(self, session: requests.Session, source: Source, address: str, part: Part) -> bool:
        """Ask for what is missing, once; return whether the file is complete."""
        have, mark = part.resumable(address, source)
        headers = dict(HEADERS)
        if have:
            headers["Range"] = f"bytes={have}-"
            if mark:
                headers["If-Range"] = mark
        with session.get(address, headers=headers, stream=True, timeout=self.patience) as answer:
            if answer.status_code in AGAIN:
                raise _Later(f"status {answer.status_code}", _retry_after(answer.headers))
            if answer.status_code == 416 and have:
                total = _total(answer.headers)
                if total == have:
                    return True  # all of it was here already
                self._start_again(source, part)
                raise _Later("what was here is not part of the file", 0)
            if answer.status_code not in (200, 206):
                raise Refused(f"status {answer.status_code} {answer.reason}".rstrip())
            if have and answer.status_code == 206 and _first(answer.headers) != have:
                self._start_again(source, part)
                raise _Later("the server sent another range than asked for", 0)
            if answer.status_code == 200:
                if have:
                    self._start_again(source, part)
                have = 0
            total = _whole_length(answer, have)
            if None not in (total, source.bytes) and total != source.bytes:
                raise Refused(f"it has {total:,} bytes there, the list says {source.bytes:,}")
            part.note(address, _mark(answer.headers), total)
            return self._receive(answer, source, part, source.bytes if total is None else total)

    def _receive(self, answer, source: Source, part: Part, total: int | None) -> bool:
        """Append the body to what is here; return whether nothing is missing, as far as known."""
        ended = False
        with part.open() as file:
            size = file.seek(0, os.SEEK_END)
            try:
                # As it is: a .gz is not to be unpacked because a server calls it an encoding.
                for chunk in answer.raw.stream(CHUNK, decode_content=False):
                    if self.stop.is_set():
                        raise Interrupted
                    self._sleep(self.pace.wait_for(len(chunk)))
                    size += len(chunk)
                    if total is not None and size > total:
                        raise Mismatch(f"it is longer than the {total:,} bytes announced")
                    _write(file, chunk, part.path)
                    self.progress(source, len(chunk))
                ended = True
            except urllib3.exceptions.HTTPError as error:
                raise _Later(_plainly(error), None) from error
        return size == total if total is not None else ended

    def _from_folder(self, source: Source, path: Path, part: Part) -> None:
        """Copy from a folder that stands in for the server."""
        if not path.is_file():
            raise Refused("there is no such file")
        self._start_again(source, part)
        with open(path, "rb") as original, part.open() as file:
            while chunk := original.read(CHUNK * 16):
                if self.stop.is_set():
                    raise Interrupted
                self._sleep(self.pace.wait_for(len(chunk)))
                _write(file, chunk, part.path)
                self.progress(source, len(chunk))

    def _start_again(self, source: Source, part: Part) -> None:
        self.progress(source, -part.size())
        part.forget()

    def _sleep(self, seconds: float) -> None:
        if seconds > 0 and self.stop.wait(seconds):
            raise Interrupted


class Mismatch(WorkError):
    """What arrived is not the file that the list describes; none of it is kept."""


class _Later(Exception):
    """The server asks to come back.

    Attributes:
        seconds: when; None: it did not say.
    """

    def __init__(self, reason: str, seconds: float | None):
        self.reason, self.seconds = reason, seconds


class Part:
    """What has arrived of a file so far, and of which version of it."""

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self.record = target.with_name(f".{target.name}.part.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def open(self):
        return open(self.path, "ab", buffering=0)

    def resumable(self, address: str, source: Source) -> tuple[int, str | None]:
        """Return the bytes to go on from, and the mark of their version for `If-Range`.

        Without a mark they are of use only if a checksum tells in the end whether they fitted.
        """
        size = self.size()
        try:
            told = json.loads(self.record.read_text(encoding="utf-8"))
            mark = told["mark"] if told["address"] == address else None
        except (OSError, ValueError, KeyError, TypeError):
            mark = None
        if size and not mark and not source.checksums:
            self.forget()
            size = 0
        return size, mark

    def note(self, address: str, mark: str | None, total: int | None) -> None:
        self.record.write_text(json.dumps({"address": address, "mark": mark, "total": total}))

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name."""
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.record.unlink(missing_ok=True)


def verify(source: Source, path: Path) -> dict:
    """Return bytes, sha256, and `checked`: the kinds of checksum that the file was compared with.

    Raises:
        Mismatch: the file is not the one the list describes.
    """
    size = path.stat().st_size if path.exists() else 0
    digests = {"md5": hashlib.md5(), "sha256": hashlib.sha256(), "git": hashlib.sha1()}
    digests["git"].update(b"blob %d\0" % size)
    needed = {kind: digests[kind] for kind in {*source.checksums, "sha256"}}
    start = b""
    if size:
        with open(path, "rb") as file:
            start = file.read(64)
            file.seek(0)
            while block := file.read(1 << 22):
                for digest in needed.values():
                    digest.update(block)
    if source.bytes is not None and size != source.bytes:
        raise Mismatch(f"it has {size:,} bytes, the list says {source.bytes:,}; nothing is kept")
    for kind, expected in source.checksums.items():
        found = needed[kind].hexdigest()
        if found != expected:
            raise Mismatch(f"its {kind} is {found}, the list says {expected}; nothing is kept")
    if start.startswith(LFS):
        raise Mismatch("it is a pointer of git-lfs, not the file; nothing is kept")
    if not source.checksums and start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise Mismatch("it is a web page, not the file; nothing is kept")
    return {
        "bytes": size,
        "sha256": needed["sha256"].hexdigest(),
        "checked": list(source.checksums),
    }


def _write(file, chunk: bytes, path: Path) -> None:
    try:
        left = memoryview(chunk)
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise disk_full(path) from error


def _retry_after(headers) -> float | None:
    """Return the seconds of Retry-After, given as a number or as a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _mark(headers) -> str | None:
    """Return what `If-Range` takes: a strong ETag, or else the date of the last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _first(headers) -> int | None:
    """Return the first byte of the range that was sent."""
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _total(headers) -> int | None:
    """Return the length of the whole file, as a range's header has it."""
    found = re.search(r"/(\d+)$", headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _whole_length(answer, have: int) -> int | None:
    if answer.status_code == 206:
        return _total(answer.headers)
    length = answer.headers.get("Content-Length", "")
    return have + int(length) if length.isdecimal() else None


def _plainly(error: Exception) -> str:
    """Return what happened, without the names of the library's classes."""
    text = str(error)
    if "IncompleteRead" in text or "Connection broken" in text or "aborted" in text:
        return "the connection was cut"
    if "NameResolution" in text or "Name or service" in text or "getaddrinfo" in text:
        return "its name is not known here (no network?)"
    if "refused" in text:
        return "the connection was refused"
    if "timed out" in text or "Timeout" in type(error).__name__:
        return "nothing came in time"
    return text.split("(Caused by")[-1][:200]


def check_rate(text: str | None) -> float | None:
    """Return the bytes a second of a rate such as `2MB` or `500kB`; None: no limit."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG]?)B?(?:/s)?", text.strip())
    rate = found and float(found[1]) * 1000 ** " kMG".index(found[2].replace("K", "k") or " ")
    if not rate:
        raise InputError(f"--limit-rate must be bytes a second, such as 500kB or 2MB, got {text!r}")
    return rate
