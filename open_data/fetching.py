"""Several files at a time into the folder of downloads; what is there is checked, not fetched."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from core.artifacts import read_json, write_json
from core.downloads import REMEDY, record_of
from core.options import InputError, WorkError
from open_data.sources import Source
from open_data.transfer import Interrupted, Mismatch, Part, Transfer, Unreachable, verify


def is_here(source: Source, target: Path) -> bool:
    """Say whether the file is there and is the one of the list; one brought by hand is checked.

    Raises:
        InputError: another file lies there.
    """
    if not target.is_file():
        return False
    record = record_of(target)
    if record.exists():
        told = read_json(record, REMEDY)
        sums = source.checksums
        same = all(told.get(kind) == digits for kind, digits in sums.items() if kind in told)
        if (
            same
            and told.get("bytes") == target.stat().st_size
            and set(sums) <= set(told.get("checked", []))
            and target.stat().st_mtime_ns <= record.stat().st_mtime_ns
        ):
            return True
    try:
        facts = verify(source, target)
    except Mismatch as error:
        raise InputError(
            f"{target} is there, but {str(error).removesuffix('; nothing is kept')}; move it away "
            "and run the same command, or correct the list of sources"
        ) from error
    write_record(source, target, {**facts, "address": "brought by hand"})
    return True


def write_record(source: Source, target: Path, facts: dict) -> None:
    """Write NAME.json: where the file is from, its checksums, and which of them was known."""
    told = {"name": source.name, "file": source.file, **facts, **source.checksums}
    write_json(record_of(target), {**told, "licence": source.licence, "what": source.what})


def check_space(sources: list[Source], folder: Path) -> None:
    """Raise WorkError when the files that are missing will not fit on the disk."""
    needed = sum((s.bytes or 0) - Part(folder / s.file).size() for s in sources)
    at = folder
    while not at.exists():
        at = at.absolute().parent
    free = shutil.disk_usage(at).free
    if needed > free:
        raise WorkError(
            f"{folder} has {free:,} bytes free, and {needed:,} are still to be fetched; make room "
            "or give another --root"
        )


def by_hand(sources: list[Source], folder: Path) -> str:
    """Return what to fetch elsewhere and where to put it, for a machine without a network."""
    lines = ["Fetch these with any machine that has a network, and put them where they are named;"]
    lines += ["the same command then checks them and goes on:"]
    for source in sources:
        size = f"{source.bytes:,} bytes" if source.bytes is not None else "size unknown"
        sums = ", ".join(f"{k} {v}" for k, v in source.checksums.items()) or "checksum unknown"
        lines += [f"  {address}" for address in source.addresses]
        lines += [f"    -> {folder / source.file}   ({size}, {sums})"]
    return "\n".join(lines)


def fetch_all(
    sources: list[Source],
    folder: Path,
    transfer: Transfer,
    at_once: int,
    done: Callable[[Source, dict], object] = lambda source, facts: None,
) -> None:
    """Fetch every source, `at_once` at a time; what one lacks does not keep the others back.

    Raises:
        Unreachable: no address of any answered.
        WorkError: some could not be had, each named.
    """
    waiting: queue.Queue = queue.Queue()
    for source in sources:
        waiting.put(source)
    failed: list[Exception] = []
    finished: queue.Queue = queue.Queue()

    def work() -> None:
        while True:
            try:
                source = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put((source, transfer.fetch(source, folder / source.file)))
            except Interrupted:
                return
            except Exception as error:  # handed to the thread that waits, which raises it
                finished.put((source, error))

    # Daemons: one that waits for a silent server must not keep an interrupted command alive.
    for _ in range(min(at_once, len(sources))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in sources:
            source, result = finished.get()
            if isinstance(result, WorkError):
                failed.append(result)
            elif isinstance(result, Exception):
                raise result
            else:
                write_record(source, folder / source.file, result)
                done(source, result)
    finally:
        transfer.stop.set()
    if failed:
        kind = Unreachable if all(isinstance(e, Unreachable) for e in failed) else WorkError
        raise kind("; ".join(map(str, failed)))
