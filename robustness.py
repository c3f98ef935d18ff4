"""Does a backbone hear the same music in the same way when the sound is in another state?

    python -m extract_item_embeddings.musicnn --root sample --audio sample/audio --perturb noise20
    python robustness.py --root sample --embeddings musicnn
    python robustness.py --root sample --embeddings musicnn --scale none

Reads   embeddings/NAME.npy and each embeddings/NAME_PERTURBATION.npy that is there (of --perturb,
        extract_item_embeddings/engine/perturb.py), the split
Writes  robustness.json, and prints it: for each embedding and perturbation
            itself      share of perturbed tracks whose nearest track is what they were
            neighbours  share of a track's 50 nearest others that are so after the perturbation
            lists       share of the test users' 50 tracks of KNN that stay
            metric, perturbed_metric, loss with its 95 % interval and p: NDCG@50 of these lists

Perturbed vectors are scaled by the numbers of the plain ones, and compared with the plain vectors
of all tracks of train. For the lists at most half of train's tracks are exchanged, so that tracks
of both kinds stand beside each other, as in a catalogue from several sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import core.start  # noqa: F401  before what is heavy

from core.artifacts import write_json
from core.late import options_are_read
from core.names import WITHOUT_FILE, check_name
from core.options import InputError, at_least, option, run
from recommenders.run_options import SCALES

if options_are_read(__name__):
    import numpy as np

    from evaluation.crossed import difference
    from evaluation.measures import list_metrics
    from extract_item_embeddings.engine.perturb import PERTURBATIONS, perturbed_name
    from recommenders.embedding_files import read_matrix
    from recommenders.interactions import Split, load_split
    from recommenders.lists import Lists
    from recommenders.nearest import recommend_nearest
    from recommenders.scaling import Scaling
    from recommenders.vectors import knn_scorer, load_item_vectors, unit_rows

K = 50  # neighbours, and tracks of a list
METRIC = "NDCG"
BLOCK = 512  # tracks whose neighbours are looked for at a time
COLUMNS = ("itself", "neighbours", "lists", "metric", "perturbed_metric", "loss")


@dataclass(frozen=True)
class RobustnessConfig:
    embeddings: tuple[str, ...] = option(help="names of ROOT/embeddings/NAME.npy")
    root: Path = option(Path("."), "folder of all that is read and written")
    scale: Literal[SCALES] = option("standardize", "unit of the vectors, see knn.py")
    seed: int = option(1, "decides which tracks are exchanged in the lists")

    def __post_init__(self):
        at_least(self, seed=0)
        for name in self.embeddings:
            if check_name("embedding", name) in WITHOUT_FILE:
                raise InputError(f"--embeddings {name} is no file; name one of ROOT/embeddings")


def main(config: RobustnessConfig) -> None:
    split = load_split(config.root)
    rows = [row for name in config.embeddings for row in robustness(config, name, split)]
    write_json(config.root / "robustness.json", {"k": K, "metric": f"{METRIC}@{K}", "rows": rows})
    print(" ".join(["embedding".ljust(16), "perturb ", " tracks", *(c.rjust(16) for c in COLUMNS)]))
    for row in rows:
        numbers = " ".join(f"{row[column]:16.3f}" for column in COLUMNS)
        print(f"{row['embedding']:<16} {row['perturb']:<8} {row['tracks']:>7,} {numbers}")


def robustness(config: RobustnessConfig, name: str, split: Split) -> list[dict]:
    """Return what each perturbation of an embedding that is there does to it.

    Raises:
        InputError: there is none, or one is of other tracks.
    """
    there = [
        (each, path)
        for each in PERTURBATIONS
        if (path := config.root / "embeddings" / f"{perturbed_name(name, each)}.npy").exists()
    ]
    if not there:
        raise InputError(
            f"{config.root}/embeddings has no {perturbed_name(name, PERTURBATIONS[0])}.npy or "
            f"another perturbation of {name}; make one with python -m "
            f"extract_item_embeddings.{name} --perturb {'|'.join(PERTURBATIONS)}"
        )
    vectors = load_item_vectors(config.root, name, split, missing="mean")
    scaling = Scaling.of(vectors, config.scale)
    plain = vectors if scaling is None else scaling.apply(vectors)
    before = lists_of(plain, split)
    found = []
    for each, path in there:
        matrix = read_matrix(config.root, path.stem).vectors
        if matrix.shape != (split.n_tracks, vectors.shape[1]):
            raise InputError(
                f"{path} is {matrix.shape}, expected ({split.n_tracks}, {vectors.shape[1]}) as "
                f"{name}; extract it again with --overwrite"
            )
        own = np.asarray(matrix[split.track_idx], dtype=np.float32)
        drawn = np.flatnonzero(np.isfinite(own).all(axis=1))
        if not len(drawn):
            raise InputError(
                f"{path} has a vector of none of the {len(own):,} tracks of train; extract it "
                "again with --overwrite, and look at what failed"
            )
        own = own[drawn] if scaling is None else scaling.apply(own[drawn])
        row = {"embedding": name, "perturb": each, "tracks": len(drawn)}
        row["itself"], row["neighbours"] = neighbours_kept(plain, own, drawn)
        rng = np.random.default_rng([config.seed, 4])
        taken = rng.permutation(len(drawn))[: len(plain) // 2]
        mixed = plain.copy()
        mixed[drawn[taken]] = own[taken]
        found.append({**row, "exchanged": len(taken), **lists_kept(before, mixed, split)})
    return found


def neighbours_kept(plain: np.ndarray, own: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
    """Return the shares of tracks that are nearest to themselves, and of neighbours that stay.

    Args:
        plain: float32 (n, width), all tracks.
        own: float32 (m, width), the perturbed ones.
        drawn: int64 (m,) their rows in `plain`.
    """
    everything, k = unit_rows(plain), min(K, len(plain) - 1)
    itself = kept = 0
    for start in range(0, len(drawn), BLOCK):
        rows = drawn[start : start + BLOCK]
        at = np.arange(len(rows))
        moved = unit_rows(own[start : start + BLOCK]) @ everything.T
        still = everything[rows] @ everything.T
        itself += int((moved.argmax(axis=1) == rows).sum())
        moved[at, rows] = still[at, rows] = -np.inf
        sets = [np.argpartition(-cosines, k - 1, axis=1)[:, :k] for cosines in (still, moved)]
        kept += sum(len(np.intersect1d(*pair)) for pair in zip(*sets, strict=True))
    return itself / len(drawn), kept / (k * len(drawn))


def lists_of(vectors: np.ndarray, split: Split) -> np.ndarray:
    """Return KNN's lists of the test users, int64 (n_users, K) of item_idx, -1 at a short end."""
    lists = recommend_nearest(knn_scorer(split.train, vectors), split)
    mine = np.isin(lists.users, split.test.users) & (lists.ranks <= K)
    own = Lists(lists.users[mine], lists.items[mine], lists.ranks[mine], lists.scores[mine])
    return own.matrix()


def lists_kept(before: np.ndarray, mixed: np.ndarray, split: Split) -> dict:
    """Return lists, metric, perturbed_metric, loss, low, high and p, see the module's docstring."""
    after = lists_of(mixed, split)
    same = [
        len(np.intersect1d(a[a >= 0], b)) / (a >= 0).sum()
        for a, b in zip(before, after, strict=True)
    ]
    lengths = np.diff(split.test.offsets)
    one, other = (
        list_metrics(lists, lengths, split.test.items, K)[METRIC] for lists in (before, after)
    )
    tested = difference(one[None], other[None])
    low, high = tested.interval
    return {
        "lists": float(np.mean(same)),
        "metric": float(one.mean()),
        "perturbed_metric": float(other.mean()),
        "loss": tested.mean,
        "low": low,
        "high": high,
        "p": tested.p,
    }


if __name__ == "__main__":
    run(main, RobustnessConfig, __doc__)
