"""What does sound add to listening data? The lists of two runs, blended for each user.

    python blend.py --root sample --runs knn-musicnn-s1,ease-none-s1
    python blend.py --root sample --runs knn-musicnn-shuffled-s1,ease-none-s1      # its control

Reads   runs/A and runs/B: recs.pqt, config.yaml; A ranks by vectors, B hears nothing
Writes  runs/blend-EMBEDDING-A_B[_shuffled]-sSEED/   as every recommender's; metrics.json says what
        it gains over B on the test users

A track's score is w a + (1 - w) b, where a and b are the runs' scores less the mean of the user's
list, by its deviation; a track that only one list holds has the other's lowest. w, from 0 to 1 by
tenths, is the best in NDCG@50 on the validation users alone. Any second opinion may help a little:
the gain that counts is over the same blend of shuffled vectors (tables/shuffled.csv).
"""

from __future__ import annotations

from dataclasses import dataclass

import core.start  # noqa: F401  before what is heavy

from core.artifacts import sha256
from core.late import options_are_read
from core.names import NONE, is_published, is_shuffled, published_tag, shuffled_tag
from core.options import InputError, option, run
from evaluation.metric_options import LIST_LENGTH
from recommenders.run_options import RunOptions

if options_are_read(__name__):
    import numpy as np
    import pandas as pd

    from evaluation.crossed import difference
    from evaluation.finished import read_finished, read_table, refuse_other_split, run_folder
    from evaluation.measures import list_metrics, mean_metric
    from recommenders.interactions import Split, load_split
    from recommenders.lists import Lists
    from recommenders.runs import Run

SELECT = "NDCG@50"
WEIGHTS = tuple(round(0.1 * tenth, 1) for tenth in range(11))


@dataclass(frozen=True, kw_only=True)
class BlendConfig(RunOptions):
    runs: tuple[str, ...] = option(help="folders under ROOT/runs: one on vectors, one that is not")

    def __post_init__(self):
        super().__post_init__()
        if len(self.runs) != 2:
            raise InputError(f"--runs takes two runs, as A,B; got {','.join(self.runs)}")


@dataclass(frozen=True, kw_only=True)
class Blend(RunOptions):
    """The options of the run that is made: what BlendConfig's runs say of themselves, beside it."""

    runs: tuple[str, ...] = option(help="that are blended")
    embedding: str = option(help="of the first")
    shuffle: bool = option(False, "the first is a shuffled control")


def main(config: BlendConfig) -> None:
    split = load_split(config.root)
    folders = [run_folder(config.root, name, "--runs") for name in config.runs]
    known = [read_finished(folder) for folder in folders]
    for name, each in zip(config.runs, known, strict=True):
        refuse_other_split(config.root, [{**each, "folder": name}], split.fingerprint)
    if known[0]["embedding"] == NONE or known[1]["embedding"] != NONE:
        raise InputError("--runs takes a run on an embedding first, then one that hears nothing")
    tag = f"{known[0]['recommender']}_{known[1]['recommender']}"
    if any(is_published(each["tag"]) for each in known):
        tag = published_tag(tag)  # tables keep it from rows that are not
    shuffle = is_shuffled(known[0]["tag"])
    options = Blend(
        root=config.root,
        runs=config.runs,
        seed=known[0]["seed"],
        tag=shuffled_tag(tag) if shuffle else tag,
        k=config.k,
        overwrite=config.overwrite,
        embedding=known[0]["embedding"],
        shuffle=shuffle,
    )
    also = {f"recs_{i}": sha256(folder / "recs.pqt") for i, folder in enumerate(folders)}
    made_from = {"split_hash": split.fingerprint, "embedding_hash": known[0]["embedding_hash"]}
    with Run("blend", options, **made_from, also=also) as this_run:
        if this_run.finished:
            return
        tables = [
            read_table(folder, "recs.pqt", each)
            for folder, each in zip(folders, known, strict=True)
        ]
        both = side_by_side(*tables, split)
        weight = best_weight(both, split)
        lists = blended(both, weight)
        gain = gain_over(lists, blended(both, 0.0), split)
        print(
            f"weight {weight:g} of {config.runs[0]}; {SELECT} on the test users over "
            f"{config.runs[1]}: {gain['difference']:+.4f}, p {gain['p']:.3f}, over users alone"
        )
        this_run.finish(
            lists,
            split,
            more={"gain": gain},
            device="cpu",
            parameters=0,
            width=known[0].get("width", 0),
            chosen_weight=weight,
        )


def side_by_side(one: pd.DataFrame, other: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Return user, item (dense ids) and standardized scores a, b of all that either list holds."""
    parts = []
    for name, recs in (("a", one), ("b", other)):
        by_user = recs.groupby("user_id").score
        spread = by_user.transform("std").fillna(0).replace(0, 1)
        scores = (recs.score - by_user.transform("mean")) / spread
        part = pd.DataFrame(
            {
                "user": np.searchsorted(split.user_ids, recs.user_id),
                "item": np.searchsorted(split.track_idx, recs.track_idx),
                name: scores.astype(np.float64),
            }
        )
        parts.append(part.set_index(["user", "item"]))
    both = parts[0].join(parts[1], how="outer")
    lowest = both.groupby("user")[["a", "b"]].transform("min")
    return both.fillna(lowest).reset_index().sort_values(["user", "item"])


def blended(both: pd.DataFrame, weight: float) -> Lists:
    """Return the lists of w a + (1 - w) b, ties in order of item."""
    scores = (weight * both.a + (1 - weight) * both.b).to_numpy()
    user, item = both.user.to_numpy(), both.item.to_numpy()
    order = np.lexsort((item, -scores, user))
    user, item, scores = user[order], item[order], scores[order]
    starts = np.searchsorted(user, user)
    ranks = np.arange(len(user)) - starts + 1
    kept = ranks <= LIST_LENGTH
    return Lists(user[kept], item[kept], ranks[kept], scores[kept].astype(np.float32))


def best_weight(both: pd.DataFrame, split: Split) -> float:
    """Return the weight that is best on the validation users; of equal ones the smallest."""
    mine = both[both.user.isin(split.val.users)]
    lengths = np.diff(split.val.offsets)
    found = {
        weight: mean_metric(SELECT, blended(mine, weight).matrix(), lengths, split.val.items)
        for weight in WEIGHTS
    }
    return max(found, key=found.get)


def gain_over(lists: Lists, plain: Lists, split: Split) -> dict:
    """Return the paired gain on the test users: metric, difference, low, high, p."""
    metric, k = SELECT.split("@")
    values = []
    for each in (lists, plain):
        mine = np.isin(each.users, split.test.users)
        own = Lists(each.users[mine], each.items[mine], each.ranks[mine], each.scores[mine])
        lengths = np.diff(split.test.offsets)
        values.append(list_metrics(own.matrix(), lengths, split.test.items, int(k))[metric])
    found = difference(*(column[None] for column in values))
    low, high = found.interval
    return {"metric": SELECT, "difference": found.mean, "low": low, "high": high, "p": found.p}


if __name__ == "__main__":
    run(main, BlendConfig, __doc__)
