"""Numbers of track ids, looked up a column at a time."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from listening_log.fields import can_be_id

WIDTH = 16  # bytes of a Music4All id: two words
EMPTY = np.int32(-1)


class FaultyId(Exception):
    """A column holds what can be no track id."""


class KnownIds:
    """The ids of trackid_sorted.csv; numbers are its rows."""

    grow = False

    def __init__(self, ids: list[str]):
        self.values = pa.array([track_id.encode() for track_id in ids], pa.binary())
        words = _words(self.values)
        self.table = None if words is None else WordTable(words)

    def number(self, column: pa.Array) -> pa.Array:
        """Return the int32 numbers of a binary column, null where an id is unknown."""
        words = None if self.table is None else _words(column)
        if words is None:
            return pc.index_in(column, self.values)
        found = self.table.find(words)
        unknown = found == EMPTY
        return pa.array(found, mask=unknown if unknown.any() else None)


class GrowingIds:
    """Ids that get numbers as they are found, by several threads, in no promised order."""

    grow = True

    def __init__(self):
        self.values = pa.array([], pa.binary())
        self.lock = threading.Lock()

    def number(self, column: pa.Array) -> pa.Array:
        """Return the int32 numbers of a binary column; FaultyId if not all can be track ids."""
        found = pc.index_in(column, self.values)
        if found.null_count:
            new = pc.unique(column.filter(pc.is_null(found)))
            if not all(can_be_id(value.as_py()) for value in new):
                raise FaultyId
            with self.lock:  # another thread may have added some of them
                new = new.filter(pc.is_null(pc.index_in(new, self.values)))
                self.values = pa.concat_arrays([self.values, new])
            found = pc.index_in(column, self.values)
        return found


class WordTable:
    """A hash table with open addressing from ids of two words to their positions.

    Arrow's own look-up builds its table anew for every column, which costs more than the look-up.

    Args:
        words: uint64 (n, 2), distinct.
    """

    def __init__(self, words: np.ndarray):
        self.words = np.ascontiguousarray(words.T)
        self.slots = np.full(8 << len(words).bit_length(), EMPTY)
        self.last = np.uint64(len(self.slots) - 1)  # slots are a power of two
        waiting, at = np.arange(len(words), dtype=np.int32), self._slot(words)
        while len(waiting):
            free = self.slots[at] == EMPTY
            self.slots[at[free]] = waiting[free]  # of several for one slot the last one stays
            lost = self.slots[at] != waiting
            waiting, at = waiting[lost], at[lost] + np.uint64(1) & self.last

    def _slot(self, words: np.ndarray) -> np.ndarray:
        mixed = words[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ words[:, 1]
        return (mixed * np.uint64(0xD6E8FEB86659FD93) >> np.uint64(32)) & self.last

    def find(self, words: np.ndarray) -> np.ndarray:
        """Return the int32 positions of words (n, 2), EMPTY where there is none."""
        at = self._slot(words)
        found = self.slots[at]
        waiting = np.flatnonzero(self._differ(found, words))
        while len(waiting := waiting[found[waiting] != EMPTY]):
            at[waiting] = at[waiting] + np.uint64(1) & self.last
            found[waiting] = self.slots[at[waiting]]
            waiting = waiting[self._differ(found[waiting], words[waiting])]
        return found

    def _differ(self, found: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Return where a slot is empty or holds another id than the one that is sought."""
        return (self.words[0][found] != words[:, 0]) | (self.words[1][found] != words[:, 1])


def _words(column: pa.Array) -> np.ndarray | None:
    """Return a binary column as uint64 (n, 2), or None if not every value is `WIDTH` bytes."""
    n = len(column)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + n + 1]
    if n == 0 or column.null_count or (np.diff(offsets) != WIDTH).any():
        return None
    data = np.frombuffer(column.buffers()[2], np.uint8)[offsets[0] : offsets[n]]
    return data.view(np.uint64).reshape(n, 2)
