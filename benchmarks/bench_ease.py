"""Time and memory of EASE at the study's size, on a made-up history of the same shape.

    python -m benchmarks.bench_ease
    python -m benchmarks.bench_ease --users 4000 --tracks 12000 --pairs 400000

Prints the seconds of the inverse with what follows from it, of the lists of 12,184 users (as many
as validate and test), and the peak memory of the process.
"""

from __future__ import annotations

import json
import resource
import time
from dataclasses import dataclass

import numpy as np

from core.options import option, run
from recommenders.ease import ease_scorer
from recommenders.interactions import Interactions, Split
from recommenders.lists import recommend


@dataclass(frozen=True)
class BenchConfig:
    users: int = option(17_053, "of train")
    tracks: int = option(56_193, "of train")
    pairs: int = option(5_122_221, "of train, about")
    lists: int = option(12_184, "users who get a list")


def main(config: BenchConfig) -> None:
    train = make_history(config.users, config.tracks, config.pairs)
    ids, tracks = np.arange(config.users), np.arange(config.tracks)
    split = Split(ids, tracks, config.tracks, train, train, train)
    started = time.monotonic()
    score = ease_scorer(train, config.tracks, 200.0)
    inverse = time.monotonic() - started
    recommend(score, split, users=ids[: config.lists])
    lists = time.monotonic() - started - inverse
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = {"inverse": round(inverse, 1), "lists": round(lists, 1)}
    print(json.dumps({"pairs": len(train.items), "seconds": seconds, "peak_mb": round(peak)}))


def make_history(users: int, tracks: int, pairs: int) -> Interactions:
    """Return users whose number of tracks, and tracks whose number of users, are skewed."""
    rng = np.random.default_rng(0)
    activity = rng.lognormal(0, 1, users)
    lengths = np.clip(activity / activity.sum() * pairs, 5, tracks / 20).astype(int)
    popularity = np.cumsum(rng.lognormal(0, 1.5, tracks))
    own = []
    for length in lengths:
        drawn = np.searchsorted(popularity, rng.random(length) * popularity[-1])
        own.append(np.unique(drawn))
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in own])])
    items = np.concatenate(own)
    times = np.zeros(len(items), dtype="datetime64[us]")
    return Interactions(np.arange(users), offsets, items, times, np.ones(len(items), dtype=int))


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
