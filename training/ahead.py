"""Batches made while the step before them is taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Batch = TypeVar("Batch")
END = object()


def made_ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches, in order, while a thread makes the next one.

    Whoever makes them must draw from a generator of its own, or what is drawn beside it would
    depend on which of both is faster. What making one raises is raised in its place.
    """
    batches = iter(batches)
    with ThreadPoolExecutor(1) as maker:
        making = maker.submit(next, batches, END)
        while (batch := making.result()) is not END:
            making = maker.submit(next, batches, END)
            yield batch
