"""How far an extraction is: a bar on a terminal, and a line now and then in a file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

FIRST, EVERY = 60.0, 300.0  # seconds until the first line, and between lines


class Progress:
    """Counts tracks.

    Args:
        name: what its lines begin with: several may run at once.
        total: all tracks.
        done: those that were done before.
    """

    def __init__(self, name: str, total: int, done: int):
        self.name = name
        self.total, self.before, self.done = total, done, done
        self.bar = tqdm(total=total, initial=done, unit=" tracks", disable=None)
        self.started = time.monotonic()
        self.next = FIRST
        self.speaks = not sys.stdout.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def update(self) -> None:
        """Count one more track."""
        self.done += 1
        self.bar.update()
        seconds = time.monotonic() - self.started
        if not self.speaks or seconds < self.next or self.done == self.total:
            return
        self.next = seconds + EVERY
        rate = (self.done - self.before) / seconds
        left = duration((self.total - self.done) / rate)
        far = f"{self.done:,} of {self.total:,} tracks"
        print(f"{self.name}: {far}, {rate:,.3g} a second, {left} left", flush=True)


def duration(seconds: float) -> str:
    """Return a time in words, in the unit that suits it: '40 s', '12 min', '3.5 h', '8.1 days'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
