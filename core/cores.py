"""Rows shared out over the cores, for what numpy and scipy do on one core and without the lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def by_parts(work: Callable[[slice], object], n: int) -> list:
    """Return work's results for slices that cover n rows in order, one for each core, in threads.

    It pays for work on rows that holds Python's lock little of the time.
    """
    threads = threads_to_use()
    size = max(1, -(-n // threads))
    slices = [slice(i, min(i + size, n)) for i in range(0, n, size)]
    if len(slices) < 2:
        return list(map(work, slices))
    return list(_pool(threads).map(work, slices))


def threads_to_use() -> int:
    """Return how many threads work is shared out to: one a core, or OMP_NUM_THREADS, as torch's."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    asked = asked.partition(",")[0].strip()  # the list's rest is for threads within threads
    return min(cores(), int(asked)) if asked.isdecimal() and int(asked) else cores()


def one_core_a_product() -> AbstractContextManager:
    """Return the context in which each of numpy's products is made by the thread that asks for it.

    For products within by_parts: one that was shared out itself would wait for all cores.
    """
    return _blas().limit(limits=1)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@cache
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n)
