"""The k best of rows of scores that come block by block, in one pass over each.

A row keeps what may still be among its best, and a floor that its k-th best has reached. Of the
scores of a block, CHUNK at a time, most stay below it: that is one comparison each, where a partial
sort would move them. Where a row's room is full, only its k best stay, and the floor rises.
"""

from __future__ import annotations

import numpy as np

from recommenders.compiled import compiled

CHUNK = 64  # scores that are compared with the floor together
SAMPLE = 1 << 11  # scores of a row's first block, at most, that its first floor is taken from
ROOM = 3  # for each place of a list


class Best:
    """The k best items of n rows.

    Args:
        n_rows: rows of every block.
        k: items to keep, at least 1.
        dtype: of the scores, float32 or float64.
    """

    def __init__(self, n_rows: int, k: int, dtype):
        self.k = k
        shape = (n_rows, ROOM * k + CHUNK)
        self.items, self.values = np.empty(shape, np.int64), np.empty(shape, dtype)
        self.counts = np.zeros(n_rows, np.int64)
        self.floors = np.full(n_rows, -np.inf, dtype)

    def add(self, scores: np.ndarray, first: int) -> None:
        """Take in scores (n, m) of the items first .. first + m - 1.

        Blocks of a row come in order of their items. -inf is the score of what is in no list.

        Raises:
            ValueError: a score is NaN.
        """
        own = (self.items, self.values, self.counts, self.floors)
        at = _add(scores, first, self.k, *own, *_one_number(scores.dtype))
        if at >= 0:
            raise ValueError(f"scores row {at} holds NaN")

    def add_columns(self, scores: np.ndarray, first: int) -> None:
        """Take in scores (m, n) of the items first .. first + m - 1, a column for each row here.

        Items may come in any order of blocks; among more than twice k equal ones, those that came
        first stay. -inf is the score of what is in no list.

        Raises:
            ValueError: a score is NaN.
        """
        own = (self.items, self.values, self.counts, self.floors)
        at = _add_columns(scores, first, self.k, *own, *_one_number(scores.dtype))
        if at >= 0:
            raise ValueError(f"scores column {at} holds NaN")

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """Return int64 (n, k) of items, best first, equal ones in order of item, and their scores.

        A row of fewer items ends in -1, with scores of -inf.
        """
        found = np.full((len(self.counts), self.k), -1, np.int64)
        best = np.full(found.shape, -np.inf, self.values.dtype)
        _order(self.items, self.values, self.counts, found, best, *_one_number(best.dtype))
        return found, best


def _one_number(dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return a float's memory, as a float and as a whole number; each thread needs its own."""
    number = np.empty(1, dtype)
    return number, number.view(f"i{number.itemsize}")


@compiled
def ascend(offsets, items):
    """Say whether the items of every row, items[offsets[row] : offsets[row + 1]], ascend."""
    for row in range(len(offsets) - 1):
        for at in range(offsets[row] + 1, offsets[row + 1]):
            if items[at - 1] > items[at]:
                return False
    return True


@compiled
def leave_out(scores, first, rows, offsets, items):
    """Set to -inf, in scores (b, m) of the items from `first` on, those that the rows hold.

    Args:
        rows: int64 (b,), whose own are items[offsets[row] : offsets[row + 1]], ascending.
    """
    for i in range(len(rows)):
        own = items[offsets[rows[i]] : offsets[rows[i] + 1]]
        for at in range(np.searchsorted(own, first), len(own)):
            if own[at] - first >= scores.shape[1]:
                break
            scores[i, own[at] - first] = -np.inf


@compiled
def _add(scores, first, k, items, values, counts, floors, number, bits):
    """Return the first row that holds a NaN, or -1; number and bits are one number's memory."""
    room = items.shape[1]
    for i in range(len(scores)):
        row, n, floor = scores[i], counts[i], floors[i]
        if n == 0:
            floor = _floor(row[:SAMPLE], k, number, bits)
        for start in range(0, len(row), CHUNK):
            if start + CHUNK <= len(row) and _all_below(row[start : start + CHUNK], floor):
                continue
            for at in range(start, min(start + CHUNK, len(row))):
                if row[at] <= floor:
                    continue
                if np.isnan(row[at]):
                    return i
                if n == room:
                    n, floor = _make_room(items[i], values[i], k, number, bits)
                    if row[at] <= floor:
                        continue
                items[i, n], values[i, n] = first + at, row[at]
                n += 1
        counts[i], floors[i] = n, floor
    return -1


@compiled
def _add_columns(scores, first, k, items, values, counts, floors, number, bits):
    """Return the first column that holds a NaN, or -1; see _add."""
    room = items.shape[1]
    for i in range(len(scores)):
        row = scores[i]
        for start in range(0, len(row), CHUNK):
            end = min(start + CHUNK, len(row))
            if end - start == CHUNK and _each_below(row[start:end], floors[start:end]):
                continue
            for at in range(start, end):
                if row[at] <= floors[at]:
                    continue
                if np.isnan(row[at]):
                    return at
                if counts[at] == room:
                    full = _make_room(items[at], values[at], k, number, bits)
                    counts[at], floors[at] = full
                    if row[at] <= floors[at]:
                        continue
                items[at, counts[at]], values[at, counts[at]] = first + i, row[at]
                counts[at] += 1
    return -1


@compiled
def _make_room(items, values, k, number, bits):
    """Keep of a full row what may be among its best; return how many they are, and the floor."""
    floor = _floor(values, k, number, bits)
    n = _above(items, values, len(values), floor)
    if n > 2 * k:  # so many are equal
        n = _best(items, values, n, k)
        floor = values[k - 1]
    return n, floor


@compiled
def _all_below(chunk, floor):
    """Say whether none of CHUNK numbers is NaN or above the floor; a loop that is vectorized."""
    above = np.int32(0)
    for at in range(CHUNK):
        above |= np.int32(0) if chunk[at] <= floor else np.int32(1)
    return above == 0


@compiled
def _each_below(chunk, floors):
    """Say whether none of CHUNK numbers is NaN or above its own floor, see _all_below."""
    above = np.int32(0)
    for at in range(CHUNK):
        above |= np.int32(0) if chunk[at] <= floors[at] else np.int32(1)
    return above == 0


@compiled
def _floor(values, k, number, bits):
    """Return a number that at least k of the values are above, and few others; -inf if none is.

    By halving what lies between the infinities, in floats: their bits are in their order.
    """
    number[0] = np.inf
    low, high = -np.int64(bits[0]) - 1, np.int64(bits[0])
    while high - low > 1:
        middle = low + (high - low) // 2
        above = _n_above(values, _float(middle, number, bits))
        if above < k:
            high = middle
            continue
        low = middle
        if above <= k + k // 8:
            break
    return _float(low, number, bits)


@compiled
def _float(key, number, bits):
    """Return the float of a place in their order: 0 at 0, -0 at -1, the infinities at the ends."""
    bits[0] = key if key >= 0 else -key - 1
    return number[0] if key >= 0 else -number[0]


@compiled
def _n_above(values, floor):
    n = np.int32(0)
    for at in range(len(values)):
        n = np.int32(n + (np.int32(1) if values[at] > floor else np.int32(0)))
    return n


@compiled
def _above(items, values, n, floor):
    """Bring those above the floor to the front, in the order that they have; return how many."""
    kept = 0
    for at in range(n):
        if values[at] > floor:
            items[kept], values[kept] = items[at], values[at]
            kept += 1
    return kept


@compiled
def _best(items, values, n, k):
    """Bring the best of n to the front, k at most, best first; equal ones stay in their order."""
    order = np.argsort(-values[:n], kind="mergesort")[:k]
    items[: len(order)] = items[order]
    values[: len(order)] = values[order]
    return len(order)


@compiled
def _order(items, values, counts, found, best, number, bits):
    k = found.shape[1]
    for i in range(len(items)):
        n = counts[i]
        if n > k:
            n = _above(items[i], values[i], n, _floor(values[i, :n], k, number, bits))
        n = _best(items[i], values[i], n, k)
        found[i, :n], best[i, :n] = items[i, :n], values[i, :n]
