"""Does the gain over artist_mean come where sound says more than who plays, and only there?

    python -m benchmarks.bench_artists
    python -m benchmarks.bench_artists --draws 20 --users 80

Plants listeners of one taste each, and tracks whose vectors follow the taste. Of `only`, an artist
is a taste, so that who plays says all there is; of `beyond`, an artist plays two tastes. KNN ranks
by the vectors and by those of artist_vectors.artist_means, and the NDCG@50 of the same test users
is compared as the table does. Prints the mean gain, and in how many draws it is called real
(p < .05): of `only` those above zero are false.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from core.options import InputError, option, run
from evaluation.crossed import difference
from evaluation.measures import list_metrics
from recommenders.artist_vectors import artist_means
from recommenders.interactions import Interactions, Split
from recommenders.nearest import recommend_nearest
from recommenders.vectors import knn_scorer

TASTES, TRACKS, WIDTH = 40, 400, 40
HEARD, HELD_OUT = 6, 3  # tracks of a user
NOISE = 0.8  # of a track's vector about its taste's


@dataclass(frozen=True)
class ArtistsConfig:
    draws: int = option(100, "of listeners, tracks and vectors, of each kind")
    users: int = option(160, "test users of a draw")
    seed: int = option(0, "of all draws")

    def __post_init__(self):
        if self.draws < 1 or self.users < 2:
            raise InputError("--draws must be at least 1, --users at least 2")


def main(config: ArtistsConfig) -> None:
    found = {}
    for kind, tastes in (("only", 1), ("beyond", 2)):
        gains = [
            gain(np.random.default_rng([config.seed, tastes, draw]), config.users, tastes)
            for draw in range(config.draws)
        ]
        real = [sign * each.mean > 0 and each.p < 0.05 for sign in (1, -1) for each in gains]
        found[kind] = {
            "mean": float(np.mean([each.mean for each in gains])),
            "gains": int(np.sum(real[: config.draws])),
            "losses": int(np.sum(real[config.draws :])),
        }
        print(
            f"{kind:<7} mean gain {found[kind]['mean']:+.4f}; of {config.draws} draws "
            f"{found[kind]['gains']} gain and {found[kind]['losses']} lose"
        )
    print(json.dumps(found))


def gain(rng: np.random.Generator, n_users: int, tastes: int):
    """Return the difference of NDCG@50 of one draw, vectors less their artists' means."""
    taste = np.arange(TRACKS) % TASTES
    vectors = rng.normal(size=(TASTES, WIDTH))[taste] + NOISE * rng.normal(size=(TRACKS, WIDTH))
    vectors = vectors.astype(np.float32)
    split = listeners(rng, n_users, taste)
    values = []
    for own in (vectors, artist_means(vectors, taste // tastes)):
        lists = recommend_nearest(knn_scorer(split.train, own), split, users=split.test.users, k=50)
        lengths = np.diff(split.test.offsets)
        values.append(list_metrics(lists.matrix(), lengths, split.test.items, 50)["NDCG"][None])
    return difference(*values)


def listeners(rng: np.random.Generator, n_users: int, taste: np.ndarray) -> Split:
    own = [rng.permutation(np.flatnonzero(taste == u % TASTES)) for u in range(n_users)]
    parts = []
    for columns in (slice(HEARD), slice(HEARD, HEARD + HELD_OUT)):
        items = np.concatenate([np.sort(tracks[columns]) for tracks in own])
        offsets = np.arange(0, len(items) + 1, len(items) // n_users)
        parts.append(Interactions(np.arange(n_users), offsets, items, items, np.ones_like(items)))
    train, test = parts
    return Split(np.arange(n_users), np.arange(len(taste)), len(taste), train, test, test)


if __name__ == "__main__":
    run(main, ArtistsConfig, __doc__)
