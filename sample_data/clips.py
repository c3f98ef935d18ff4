"""Clips on disk: tracks synthesised and encoded as mp3 files by several processes."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from core.artifacts import atomic_path
from core.options import WorkError
from sample_data.synthesis import SAMPLE_RATE, Track, synthesise

# LAME at its fastest: about 65 kbit/s. Without a search for what both channels have in common, and
# for the best of all ways to round, it takes two thirds of the time.
QUALITY = 7  # of variable bitrate, 0 to 9
LAME = {"flags": "qscale", "global_quality": str(118 * QUALITY)}
LAME |= {"compression_level": "9", "joint_stereo": "0"}


def write_clips(clips: dict[Path, Track]) -> None:
    """Write the clips that are missing, on all cores; each is whole or not there.

    Raises:
        WorkError: a worker was killed, or the disk is full; what is written stays.
    """
    missing = [(path, track) for path, track in clips.items() if not path.exists()]
    left, total = len(missing), len(clips)
    n_workers = min(len(os.sched_getaffinity(0)), left)
    with (
        _workers(n_workers) as workers,
        tqdm(desc="clips", initial=total - left, total=total, unit=" clips", disable=None) as bar,
    ):
        idle = workers
        while left:
            try:
                for worker in idle[: len(missing)]:
                    worker.send(missing.pop())
                idle = wait(workers)
                errors = [worker.recv() for worker in idle]
            except (EOFError, ConnectionError) as error:
                raise WorkError("a worker was killed; run the same command again") from error
            for error in filter(None, errors):
                raise error
            left -= len(idle)
            bar.update(len(idle))


@contextmanager
def _workers(n: int):
    """Yield connections to n processes that run `_work`; they are ended with the context.

    They are spawned, because a forked process would hold open what its parent holds: the lock of
    a parent that was killed.
    """
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for them too: Ctrl-C is for us
    try:
        for _ in range(n):
            ours, theirs = context.Pipe()
            connections.append(ours)
            processes.append(context.Process(target=_work, args=(theirs,), daemon=True))
            processes[-1].start()
            theirs.close()  # so that the end of the process ends the connection
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield connections
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _work(parent: Connection) -> None:
    """Write one clip after another as the parent asks, until it is gone."""
    try:
        while True:
            path, track = parent.recv()
            parent.send(_try(_write_clip, path, track))
    except (EOFError, ConnectionError):
        return


def _try(function, *arguments) -> Exception | None:
    """Return the exception that a call raises, or None."""
    try:
        function(*arguments)
    except Exception as error:
        return error
    return None


def _write_clip(path: Path, track: Track) -> None:
    """Synthesise the track and write it as mp3."""
    mp3 = _encoded(synthesise(track))  # not straight to disk: FFmpeg says little of a full one
    with atomic_path(path) as temporary:
        temporary.write_bytes(mp3)


def _encoded(sound: np.ndarray) -> memoryview:
    """Return an mp3 file of sound, float32 (samples, 2) in [-1, 1] at SAMPLE_RATE."""
    mp3 = io.BytesIO()
    with av.open(mp3, "w", format="mp3") as file:
        stream = file.add_stream("libmp3lame", rate=SAMPLE_RATE, options=LAME)
        stream.layout, stream.format = "stereo", "fltp"
        planes = np.ascontiguousarray(sound.T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return mp3.getbuffer()
