"""One part of a split while it is written: its file, and what is in it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from listening_log.large_tables import TableFile

PAIRS = pa.schema(
    [
        ("user_id", pa.int64()),
        ("track_idx", pa.int32()),
        ("timestamp", pa.timestamp("us")),
        ("count", pa.int64()),
    ]
)


def contains(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each value whether it is in the ascending array (bool, like values)."""
    if not len(ascending):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[at] == values


class Part:
    """Writes a part's pairs, which come ordered by user_id, track_idx, and counts them.

    Attributes (known once all pairs are appended):
        users, tracks: ids that occur, ascending.
        tracks_a_user, plays_a_user: like users.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows = 0
        self._users: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._heard = np.zeros(0, bool)  # by track_idx

    def __enter__(self) -> Part:
        self.file = TableFile(self.path, PAIRS).__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.file.__exit__(*error)

    def append(self, pairs: pa.Table) -> None:
        """Write the pairs and count them."""
        if not len(pairs):
            return
        self.file.append(pairs)
        self.rows += len(pairs)
        users, starts, tracks = np.unique(
            pairs["user_id"].to_numpy(), return_index=True, return_counts=True
        )
        plays = np.add.reduceat(pairs["count"].to_numpy(), starts)
        self._users.append((users, tracks, plays))
        heard = pairs["track_idx"].to_numpy()
        self._heard = np.pad(self._heard, (0, max(0, heard.max() + 1 - len(self._heard))))
        self._heard[heard] = True

    @cached_property
    def _by_user(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self._users:
            return (np.zeros(0, np.int64),) * 3
        users, tracks, plays = (np.concatenate(column) for column in zip(*self._users, strict=True))
        users, starts = np.unique(users, return_index=True)  # a user may go on in the next batch
        return users, np.add.reduceat(tracks, starts), np.add.reduceat(plays, starts)

    @property
    def users(self) -> np.ndarray:
        return self._by_user[0]

    @property
    def tracks(self) -> np.ndarray:
        return np.flatnonzero(self._heard)

    def counts(self) -> dict:
        """Return rows, users, tracks, plays, and the spread of the last two over users."""
        users, tracks, plays = self._by_user
        return {
            "rows": self.rows,
            "users": len(users),
            "tracks": len(self.tracks),
            "plays": int(plays.sum()),
            "tracks_a_user": _spread(tracks),
            "plays_a_user": _spread(plays),
        }


def _spread(values: np.ndarray) -> dict:
    return {
        "median": float(np.median(values)),
        "least": int(values.min()),
        "most": int(values.max()),
    }


def describe(counts: dict[str, dict]) -> str:
    """Return the counts of all parts as two aligned tables."""
    lines = [_line("", "rows", "users", "tracks", "plays")]
    for part, n in counts.items():
        lines.append(_line(part, n["rows"], n["users"], n["tracks"], n["plays"]))
    kinds = ("median", "least", "most")
    lines.append(
        _line("a user has", *(f"{k} {what}" for what in ("tracks", "plays") for k in kinds))
    )
    for part, n in counts.items():
        spreads = (n["tracks_a_user"], n["plays_a_user"])
        lines.append(_line(part, *(spread[kind] for spread in spreads for kind in kinds)))
    return "\n".join(lines)


def _line(name: str, *cells) -> str:
    texts = (cell if isinstance(cell, str) else f"{cell:,.10g}" for cell in cells)
    return f"{name:<10}" + "".join(f"{text:>15}" for text in texts)
