"""Clips decoded ahead of the model, in processes of their own.

Processes, because the model's Python must not wait for theirs; and a file that crashes its decoder,
or takes all memory, then costs its own row alone. Each is started with an empty interpreter, gets
one file at a time over a socket and sends the clip back over it. The socket closes whenever and
however the extraction ends, so nobody is left behind.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from extract_item_embeddings.engine.decoding import REMARKS, ClipLength, Heard, clips_or_reasons

HERE = Path(__file__).resolve().parents[2]
COMMAND = "from extract_item_embeddings.engine.decoder_processes import serve; serve()"
SIZE = struct.Struct("<q")  # before a request: its bytes
# Before an answer: samples of a clip, or minus the bytes of a reason; the number of the remark.
ANSWER = struct.Struct("<qB")
TRIES = 2  # a process that the machine killed for memory may not have been at fault


def read_clips(
    files: list[Path | str],
    rows: Iterable[int],
    length: ClipLength,
    *,
    workers: int,
    ahead: int,
    remarks: dict[int, str] | None = None,
) -> Iterator[tuple[int, np.ndarray | str]]:
    """Yield (track_idx, clip) in the order of `rows`, float32 (samples,), decoded ahead.

    A file that fails yields the reason, a text, in place of its clip. At most `ahead` clips wait.

    Args:
        files: each track's file, or the reason why it has none.
        rows: track_idx.
        length: of the clips.
        workers: processes.
        ahead: clips.
        remarks: filled with {track_idx: remark}, see `decoding.hear`, before a clip is given.
    """
    remarks = {} if remarks is None else remarks
    wanted = ((row, (length,)) for row in rows)
    with contextlib.closing(read_kinds(files, wanted, workers=workers, ahead=ahead)) as found:
        for row, clips in found:
            clip, remark = clips[length]
            if remark:
                remarks[row] = remark
            yield row, clip


def read_kinds(
    files: list[Path | str],
    wanted: Iterable[tuple[int, tuple[ClipLength, ...]]],
    *,
    workers: int,
    ahead: int,
) -> Iterator[tuple[int, dict[ClipLength, Heard]]]:
    """Yield (track_idx, {length: clip and remark}) in the order of `wanted`, decoded ahead.

    Args:
        files: each track's file, or the reason why it has none.
        wanted: track_idx, and the lengths of the clips that are wanted of its file.
        workers: processes.
        ahead: tracks that may wait.
    """
    waiting: deque = deque()
    with contextlib.ExitStack() as stack:
        decoders: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(workers):
            decoders.put(stack.enter_context(Decoder()))
        pool = ThreadPoolExecutor(workers)
        stack.callback(pool.shutdown, cancel_futures=True)
        for row, lengths in wanted:
            waiting.append((row, pool.submit(_decode, decoders, files[row], lengths)))
            if len(waiting) > ahead:
                row, future = waiting.popleft()
                yield row, future.result()
        while waiting:
            row, future = waiting.popleft()
            yield row, future.result()


def _decode(
    decoders: queue.SimpleQueue, path: Path | str, lengths: tuple[ClipLength, ...]
) -> dict[ClipLength, Heard]:
    if isinstance(path, str):
        return {length: (path, "") for length in lengths}
    decoder = decoders.get()
    try:
        return dict(zip(lengths, decoder.read(path, lengths), strict=True))
    finally:
        decoders.put(decoder)


class Decoder:
    """A process that decodes one file after another; started when it is first needed."""

    def __init__(self):
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *error) -> None:
        self._stop()

    def read(self, path: Path, lengths: tuple[ClipLength, ...]) -> list[Heard]:
        """Return a file's clip of each length, or why there is none, and a remark or ''.

        The process's death is a reason too.
        """
        for _ in range(TRIES):
            if self.process is None:
                self._start()
            try:
                self.socket.sendall(_packed(pickle.dumps((path, lengths))))
                return [_answer(self.socket) for _ in lengths]
            except (EOFError, ConnectionError):
                code = self._stop()
        said = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return [(f"ends its decoder ({said})", "")] * len(lengths)

    def _start(self) -> None:
        self.socket, theirs = socket.socketpair()
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )

    def _stop(self) -> int:
        """End the process, which may be at work; return its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=1)
        process.kill()
        return process.wait()


def serve() -> None:
    """Answer requests on the socket that is standard input until it closes; a process's main."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # also sent to this process; its parent decides
    with socket.socket(fileno=0) as parent, contextlib.suppress(EOFError, ConnectionError):
        while True:
            path, lengths = pickle.loads(_receive(parent, SIZE.unpack(_receive(parent, 8))[0]))
            for answer, remark in clips_or_reasons(path, lengths):
                if isinstance(answer, str):
                    text = answer.encode(errors="replace")
                    parent.sendall(ANSWER.pack(-len(text), 0) + text)
                else:
                    parent.sendall(ANSWER.pack(len(answer), REMARKS.index(remark)))
                    parent.sendall(memoryview(np.ascontiguousarray(answer)).cast("B"))


def _packed(content: bytes) -> bytes:
    return SIZE.pack(len(content)) + content


def _answer(sender: socket.socket) -> Heard:
    size, remark = ANSWER.unpack(_receive(sender, ANSWER.size))
    if size < 0:
        return _receive(sender, -size).decode(), ""
    return np.frombuffer(_receive(sender, 4 * size), np.float32), REMARKS[remark]


def _receive(sender: socket.socket, size: int) -> bytearray:
    """Return the next bytes; EOFError when the other side has closed.

    The kernel fills the buffer in one call, in which Python's lock is free: in many small ones each
    would have to wait for the model's threads.
    """
    buffer, filled = bytearray(size), 0
    view = memoryview(buffer)
    while filled < size:
        got = sender.recv_into(view[filled:], flags=socket.MSG_WAITALL)
        if not got:
            raise EOFError
        filled += got
    return buffer
