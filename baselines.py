"""The controls without an embedding: the most popular tracks, and random lists.

    python baselines.py --root sample
    python baselines.py --root sample --only popular

Reads   data/{train,val,test}.pqt, trackid_sorted.csv
Writes  runs/popular-none-sSEED/, runs/random_lists-none-sSEED/   as every recommender's

Popular ranks tracks by their users in train; random lists draw each user's order uniformly. What
random lists reach is chance; a recommender that is not above `popular` has learned no taste.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from config import InputError, option, run
from interactions import Split, load_split, split_hash
from recommend import recommend
from runs import Run, RunOptions, each_seed


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(RunOptions):
    embedding: ClassVar[str] = "none"

    only: tuple[str, ...] = option(
        ("popular", "random_lists"), "which controls, separated by commas", outcome=False
    )

    def __post_init__(self):
        super().__post_init__()
        for name in self.only:
            if name not in SCORERS:
                raise InputError(f"--only knows {', '.join(SCORERS)}, got '{name}'")


def main(config: BaselineConfig) -> None:
    split = load_split(config.root)
    fingerprint = split_hash(config.root)
    for options in each_seed(config):
        for name in options.only:
            with Run(name, options, split_hash=fingerprint, embedding_hash="none") as this_run:
                if this_run.finished:
                    continue
                lists = recommend(SCORERS[name](split, options.seed), split)
                this_run.finish(lists, split, device="cpu", parameters=0)


def popular(split: Split, seed: int):
    """Score every track by the number of its users in train, the same for everybody."""
    users_of_track = np.bincount(split.train.items, minlength=split.n_items).astype(np.float32)
    return lambda users: np.tile(users_of_track, (len(users), 1))


def random_lists(split: Split, seed: int):
    """Score every track by a uniform draw of its own for every user."""

    def score(users: np.ndarray) -> np.ndarray:
        rows = [np.random.default_rng([seed, user]).random(split.n_items) for user in users]
        return np.stack(rows)

    return score


SCORERS = {"popular": popular, "random_lists": random_lists}


if __name__ == "__main__":
    run(main, BaselineConfig, __doc__)
