"""Numbers of track ids, looked up a column at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from listening_log.fields import can_be_id

WIDTH = 16  # bytes of a Music4All id: two words
EMPTY = np.int32(-1)
UNKNOWN, UNSEEN = np.int32(-1), np.int32(-2)
LARGE = 1 << 16  # ids: with more of them they are looked up one by one, each once in a block
MOST = 1 << 26  # integers below it have a table, of 256 MB at most


class FaultyId(Exception):
    """A column holds what can be no track id."""


class Numbers:
    """Numbers of ids that stand as bytes, or as the integers that they are written as."""

    def __init__(self):
        self.lock = threading.Lock()
        self._of_integers = np.zeros(0, np.int32)  # by id: its number, UNKNOWN or UNSEEN

    def number(self, column: pa.Array) -> pa.Array:
        """Return the int32 numbers of a column without gaps, null where an id is unknown."""
        if not pa.types.is_integer(column.type):
            return self._number(column)
        values = column.to_numpy()
        if not len(values) or values.min() < 0 or values.max() >= MOST:
            return self._number(column.cast(pa.string()).cast(pa.binary()))
        most, table = int(values.max()), self._of_integers
        if most >= len(table):
            with self.lock:
                table = self._reaching(most)
        found = table[values]
        new = np.unique(values[found == UNSEEN])
        if len(new):
            known = self._number(pa.array(new).cast(pa.string()).cast(pa.binary()))
            with self.lock:
                table = self._reaching(most)
                table[new] = pc.fill_null(known, UNKNOWN).to_numpy()
            found = table[values]
        unknown = found == UNKNOWN
        return pa.array(found, mask=unknown if unknown.any() else None)

    def _reaching(self, most: int) -> np.ndarray:
        """Return the table by id, made longer if it does not reach to the largest id."""
        table = self._of_integers
        if most >= len(table):
            table = np.full(max(1 << most.bit_length(), 1 << 10), UNSEEN, np.int32)
            table[: len(self._of_integers)] = self._of_integers
            self._of_integers = table
        return table


class KnownIds(Numbers):
    """The ids of trackid_sorted.csv; numbers are its rows."""

    grow = False

    def __init__(self, ids: list[str]):
        super().__init__()
        self.values = pa.array([track_id.encode() for track_id in ids], pa.binary())
        words = _words(self.values)
        self.table = None if words is None else WordTable(words)
        self.places: dict[bytes, int] = {}
        if words is None and len(ids) > LARGE:
            self.places = {value: at for at, value in enumerate(self.values.to_pylist())}

    def _number(self, column: pa.Array) -> pa.Array:
        words = None if self.table is None else _words(column)
        if words is None:
            if self.places:
                return _by_dictionary(column, self.places.get)
            return pc.index_in(column, self.values)
        found = self.table.find(words)
        unknown = found == EMPTY
        return pa.array(found, mask=unknown if unknown.any() else None)


class GrowingIds(Numbers):
    """Ids that get numbers as they are found, by several threads, in no promised order.

    Args:
        is_one: whether the bytes can be an id.
    """

    grow = True

    def __init__(self, is_one: Callable[[bytes], object] = can_be_id):
        super().__init__()
        self.is_one = is_one
        self.few = pa.array([], pa.binary())  # while Arrow can look them up anew for every column
        self.places: dict[bytes, int] = {}  # once they are many

    @property
    def values(self) -> list[bytes]:
        """All ids, in the order of their numbers."""
        return list(self.places) if self.places else self.few.to_pylist()

    def _number(self, column: pa.Array) -> pa.Array:
        """Return the numbers of all; FaultyId if not every one can be an id."""
        if self.places:
            return _by_dictionary(column, self._place)
        few = self.few
        found = pc.index_in(column, few)
        if found.null_count:
            new = pc.unique(column.filter(pc.is_null(found)))
            if not all(self.is_one(value.as_py()) for value in new):
                raise FaultyId
            with self.lock:  # another thread may have added some of them
                if self.places:
                    few = None
                else:
                    new = new.filter(pc.is_null(pc.index_in(new, self.few)))
                    few = self.few = pa.concat_arrays([self.few, new])
                    if len(few) > LARGE:
                        self.places = {value: at for at, value in enumerate(few.to_pylist())}
            if few is None:
                return _by_dictionary(column, self._place)
            found = pc.index_in(column, few)
        return found

    def _place(self, value: bytes) -> int:
        place = self.places.get(value)
        if place is None:
            if not self.is_one(value):
                raise FaultyId
            with self.lock:
                place = self.places.setdefault(value, len(self.places))
        return place


def _by_dictionary(column: pa.Array, place_of: Callable[[bytes], int | None]) -> pa.Array:
    """Return place_of every value of a binary column, asked once for each distinct one.

    Arrow's own look-up hashes all that is known for every column, which many ids make slow.
    """
    encoded = column.dictionary_encode()
    places = [place_of(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(places, pa.int32()).take(encoded.indices)


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
