"""Times of a split in words: dates, or days from the start where the log tells no date."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.artifacts import read_json

if TYPE_CHECKING:
    import pandas as pd

RELATIVE = "relative"  # what plays.json and split.json call such times
EPOCH = datetime.datetime(1970, 1, 1)  # where relative times start


def day_of(time: datetime.datetime | str) -> str:
    """Return a relative time in words, as `day 212, 06:00:00`; the first day is 0."""
    if isinstance(time, str):
        time = datetime.datetime.fromisoformat(time)
    clock = time.time().replace(microsecond=0)
    return f"day {(time - EPOCH).days:,}" + (f", {clock}" if clock != datetime.time() else "")


def has_dates(root: Path) -> bool:
    """Say whether the times of the root's split are dates; False for days from the start."""
    seal = Path(root) / "data" / "split.json"
    if not seal.exists():
        return True
    return read_json(seal, "python 1_train_test_split.py").get("times") != RELATIVE


def days_in_words(times: pd.Series, dates: bool) -> pd.Series:
    """Return the day of each time: `2019-02-20`, or `day 212` where there are no dates."""
    if dates:
        return times.dt.strftime("%Y-%m-%d")
    return "day " + (times - EPOCH).dt.days.astype(str)
