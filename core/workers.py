"""Work shared out to processes, for what holds Python's lock: figures drawn, clips made.

What numpy, scipy and numba do without the lock is shared out to threads (core.cores).
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait

from core.options import WorkError


def in_processes(work: Callable, tasks: Sequence[tuple], n: int) -> Iterator[tuple[int, object]]:
    """Yield (place in tasks, what work returned), each when it is done, by n processes at most.

    Args:
        work: of a module, so that another process finds it; called with each task's values.
        tasks: what can be pickled. The first ones are begun first.

    Raises:
        WorkError: a process was killed. Whatever work raises is raised here.
    """
    waiting = list(enumerate(tasks))[::-1]
    left, begun = len(tasks), {}
    with _processes(work, min(n, left)) as idle:
        while left:
            try:
                for worker in idle[: len(waiting)]:
                    begun[worker], task = waiting.pop()
                    worker.send(task)
                idle = wait(list(begun))
                ended = [(begun.pop(worker), *worker.recv()) for worker in idle]
            except (EOFError, ConnectionError) as error:
                raise WorkError("a worker was killed; run the same command again") from error
            for place, result, error in ended:
                if error:
                    raise error
                yield place, result
            left -= len(ended)


@contextmanager
def _processes(work: Callable, n: int) -> Iterator[list[Connection]]:
    """Yield connections to n processes that do work; they are ended with the context.

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
            processes.append(context.Process(target=_serve, args=(theirs, work), daemon=True))
            processes[-1].start()
            theirs.close()  # so that the end of the process ends the connection
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield connections
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _serve(parent: Connection, work: Callable) -> None:
    """Do one task after another as the parent asks, until it is gone."""
    try:
        while True:
            parent.send(_tried(work, parent.recv()))
    except (EOFError, ConnectionError):
        return


def _tried(work: Callable, task: tuple) -> tuple[object, Exception | None]:
    """Return what work returns, and the exception that it raises or None."""
    try:
        return work(*task), None
    except Exception as error:
        return None, error
