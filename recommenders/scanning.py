"""The k best of long rows of scores, in one pass; `lists.top_k` asks for it where rows are many.

A row's best so far stand in a heap with the worst at its root. Of a catalogue of n tracks in any
order about k ln(n / k) enter it, so that nearly all of a pass compares and goes on.
"""

from __future__ import annotations

import numpy as np

from recommenders.compiled import compiled

CHUNK = 64  # scores that are compared together, before any is looked at alone


@compiled
def best_of_rows(scores, k):
    """Return the k best of each row, best first, and equal ones in order of their place.

    Args:
        scores: float (n_users, n_items); -inf for what must not be listed.
        k: at least 1 and at most n_items.

    Returns:
        int64 (n_users, k), -1 after the end of a row with fewer, and the first row that holds a
        NaN, or -1.
    """
    n = scores.shape[1]
    found = np.full((len(scores), k), -1, np.int64)
    values, places = np.empty(k, scores.dtype), np.empty(k, np.int64)
    for i in range(len(scores)):
        row, size = scores[i], 0
        floor = scores.dtype.type(-np.inf)
        for start in range(0, n, CHUNK):
            end = min(start + CHUNK, n)
            enters = False
            for j in range(start, end):
                enters |= not (row[j] <= floor)  # true for a NaN
            if not enters:
                continue
            for j in range(start, end):
                value = row[j]
                if value <= floor:
                    continue
                if np.isnan(value):
                    return found, i
                if size < k:
                    _rise(values, places, size, value, j)
                    size += 1
                else:
                    _sink(values, places, k, value, j)
                if size == k:
                    floor = values[0]
        while size:  # the worst leaves first
            size -= 1
            found[i, size] = places[0]
            _sink(values, places, size, values[size], places[size])
    return found, -1


@compiled
def _worse(value, place, other, other_place):
    return value < other or (value == other and place > other_place)


@compiled
def _rise(values, places, size, value, place):
    """Add one to the heap of that size."""
    at = size
    while at:
        parent = (at - 1) // 2
        if not _worse(value, place, values[parent], places[parent]):
            break
        values[at], places[at] = values[parent], places[parent]
        at = parent
    values[at], places[at] = value, place


@compiled
def _sink(values, places, size, value, place):
    """Put one in the place of the root of the heap of that size."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        other = child + 1
        if other < size and _worse(values[other], places[other], values[child], places[child]):
            child = other
        if not _worse(values[child], places[child], value, place):
            break
        values[at], places[at] = values[child], places[child]
        at = child
    if size:
        values[at], places[at] = value, place
