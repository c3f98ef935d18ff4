"""Several backbones over the same audio: each file is decoded once for all of them.

Every backbone runs the loop of `extraction.py` in a thread of its own, with its own parts, failures
and matrix. What they share is the stream of files: each is decoded once, and resampled once a rate,
for all of them, and nobody runs further ahead than a few batches. Those that have the same front
end share what it gives as well. A backbone that is finished, or fails, leaves the others alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from core.options import InputError, WorkError
from extract_item_embeddings.engine.decoder_processes import read_kinds
from extract_item_embeddings.engine.decoding import ClipLength
from extract_item_embeddings.engine.extraction import extract_job
from extract_item_embeddings.engine.jobs import Job
from extract_item_embeddings.engine.shared import Shared


def extract_together(jobs: list[Job]) -> None:
    """Run the jobs; their files are the same.

    Raises:
        InputError, WorkError: what the jobs that failed said, when all are done.
    """
    desk, loading = Desk(len(jobs)), threading.Lock()
    share_front_ends(jobs)
    failures: list[Exception] = []

    def run(job: Job) -> None:
        job.read_clips = desk.read_clips
        job.backbone.load = _one_at_a_time(job.backbone.load, loading)
        try:
            extract_job(job)
        except (InputError, WorkError, OSError) as error:
            failures.append(error)
        finally:
            desk.leave()

    with _own_stderr(), ThreadPoolExecutor(len(jobs)) as pool:
        running = [pool.submit(run, job) for job in jobs]
        try:
            for future in running:
                future.result()
        except BaseException:  # Ctrl-C, a signal of Slurm, a bug: the other threads have to end too
            desk.stop()
            raise
    if failures:
        kind = InputError if all(isinstance(e, InputError) for e in failures) else WorkError
        raise kind(" | ".join(dict.fromkeys(map(str, failures))))


def share_front_ends(jobs: list[Job]) -> None:
    """Let backbones that have a front end in common, and hear the same clips, share it."""
    alike: dict[tuple, list[Job]] = {}
    for job in jobs:
        if job.backbone.front_end:
            alike.setdefault((job.backbone.front_end, job.backbone.clip_length), []).append(job)
    for sharers in alike.values():
        if len(sharers) > 1:
            shared = Shared(len(sharers))
            for job in sharers:
                job.backbone.shared = shared


def _one_at_a_time(load: Callable, lock: threading.Lock) -> Callable:
    """Return `load` under a lock: libraries change settings of the whole process meanwhile."""

    def locked(device: str) -> None:
        with lock:
            load(device)

    return locked


@contextlib.contextmanager
def _own_stderr() -> Iterator[None]:
    """Put stderr back as it was: jobs that redirect it end in another order than they began."""
    stderr, visible = sys.stderr, os.dup(2)
    try:
        yield
    finally:
        os.dup2(visible, 2)
        os.close(visible)
        sys.stderr = stderr


class Desk:
    """Where jobs ask for clips. It waits for all of them, and has one stream of files."""

    def __init__(self, jobs: int):
        self.changed = threading.Condition()
        self.expected = jobs  # that may still ask
        self.thread = threading.local()
        self.stream = Stream(self)

    def read_clips(self, files, rows, length, *, workers, ahead, remarks=None) -> Reader:
        """Return the clips as `decoder_processes.read_clips` does, of the shared stream."""
        with self.changed:
            reader = Reader(self.stream, rows, length, remarks)
            self.stream.add(reader, files, workers, ahead)
        self.leave()
        return reader

    def leave(self) -> None:
        """Say that the job of this thread will not ask again; saying it twice does no harm."""
        with self.changed:
            if not getattr(self.thread, "left", False):
                self.thread.left = True
                self.expected -= 1
                self.changed.notify_all()

    def stop(self) -> None:
        """End the stream: whoever reads it gets an error."""
        with self.changed:
            self.expected = 0
            self.stream.error = WorkError(
                "stopped with the other backbones; the same command goes on"
            )
            self.changed.notify_all()


class Stream:
    """Decoded files, given to all who want a row; whoever needs the next one fetches it.

    Args:
        desk: its lock guards all that is here.
    """

    def __init__(self, desk: Desk):
        self.desk = desk
        self.files: list = []
        self.workers, self.room = 1, 0  # processes; clips that may wait for the slowest reader
        self.source: Iterator | None = None
        self.readers: list[Reader] = []
        self.fetching = self.ended = False
        self.error: Exception | None = None

    def add(self, reader: Reader, files: list, workers: int, ahead: int) -> None:
        self.readers.append(reader)
        self.files, self.workers = files, workers
        self.room = max(self.room, ahead)

    def next(self, reader: Reader) -> tuple | None:
        """Return the next (track_idx, (clip, remark)) that this reader wants; None at the end."""
        changed = self.desk.changed
        while True:
            with changed:
                changed.wait_for(lambda: self._can_go_on(reader))
                if self.error:
                    raise self.error
                if reader.waiting:
                    changed.notify_all()
                    return reader.waiting.popleft()
                if self.ended:
                    return None
                self.fetching = True
            self._fetch()

    def _can_go_on(self, reader: Reader) -> bool:
        if self.error or reader.waiting or self.ended:
            return True
        has_room = all(len(other.waiting) <= self.room for other in self.readers)
        return self.desk.expected == 0 and not self.fetching and has_room

    def _fetch(self) -> None:
        """Take one file from the source, outside the lock, and give its clips to who wants them."""
        item, error = None, None
        try:
            if self.source is None:
                self.source = read_kinds(
                    self.files, self._wanted(), workers=self.workers, ahead=self.room
                )
            item = next(self.source, None)
        except Exception as caught:  # of the decoders' machinery: every reader has to hear of it
            error = caught
        with self.desk.changed:
            self.fetching = False
            self.error = self.error or error
            self.ended = item is None
            for reader in self.readers:
                if item is not None and item[0] in reader.rows and reader.length in item[1]:
                    reader.waiting.append((item[0], item[1][reader.length]))
            self.desk.changed.notify_all()

    def _wanted(self) -> Iterator[tuple[int, tuple[ClipLength, ...]]]:
        """Yield each row, and the lengths of clips that the readers want of it."""
        with self.desk.changed:
            rows = sorted(set().union(*(reader.rows for reader in self.readers)))
        for row in rows:
            with self.desk.changed:
                lengths = [reader.length for reader in self.readers if row in reader.rows]
            if lengths:  # else who wanted it has gone
                yield row, tuple(dict.fromkeys(lengths))

    def remove(self, reader: Reader) -> None:
        """Let a reader go; the last one closes the source."""
        with self.desk.changed:
            if reader in self.readers:
                self.readers.remove(reader)
            self.desk.changed.notify_all()
            self.desk.changed.wait_for(lambda: not self.fetching)
            if not self.readers and self.source is not None:
                self.source.close()


class Reader:
    """What one job wants of the stream, and what waits for it; an iterator."""

    def __init__(
        self,
        stream: Stream,
        rows: Iterable[int],
        length: ClipLength,
        remarks: dict[int, str] | None,
    ):
        self.stream, self.rows, self.length, self.remarks = stream, set(rows), length, remarks
        self.waiting: deque = deque()

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> tuple[int, np.ndarray | str]:
        item = self.stream.next(self)
        if item is None:
            raise StopIteration
        row, (clip, remark) = item
        if remark and self.remarks is not None:
            self.remarks[row] = remark
        return row, clip

    def close(self) -> None:
        self.stream.remove(self)
