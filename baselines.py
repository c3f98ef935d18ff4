"""The recommenders without an embedding: most popular tracks, random lists, EASE; ELSA if asked.

    python baselines.py --root sample
    python baselines.py --root sample --only popular,random_lists
    python baselines.py --root R --only elsa            # train_elsa.py without its options
    python baselines.py --root sample --only ease --l2 200 --tag l2_200

Reads   data/{train,val,test}.pqt, trackid_sorted.csv
Writes  runs/{popular,random_lists,ease}-none[-TAG]-sSEED/   as every recommender's

Popular ranks tracks by their users in train; random lists draw each user's order uniformly. What
random lists reach is chance, and their metrics.json also says what chance is exactly; a recommender
that is not above `popular` has learned no taste. EASE (ease.py) learns from the listening alone
which tracks go together: what content is worth shows against it. Of the values of --l2 the one with
the best NDCG@50 on the validation users is taken, and config.yaml says which.
"""

from __future__ import annotations

from dataclasses import dataclass

import core.start  # noqa: F401  before what is heavy

from core.late import options_are_read
from core.names import NONE
from core.options import InputError, option, parse_config, run
from core.registry import CONTROLS, is_chance
from recommenders.run_options import RunOptions, each_seed

if options_are_read(__name__):
    import numpy as np

    from evaluation.chance import chance
    from evaluation.measures import mean_metric
    from recommenders.cold import load_cold
    from recommenders.ease import ease_scorer
    from recommenders.interactions import Split, load_split
    from recommenders.lists import recommend
    from recommenders.runs import Run

SELECT = "NDCG@50"


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(RunOptions):
    only: tuple[str, ...] = option(
        tuple(name for name, each in CONTROLS.items() if each.script == "baselines.py"),
        "which, separated by commas",
        outcome=False,
    )
    l2: tuple[float, ...] = option(
        (50.0, 200.0, 1000.0), "penalties of EASE to choose from on validation"
    )

    def __post_init__(self):
        super().__post_init__()
        for name in self.only:
            if name not in CONTROLS:
                raise InputError(f"--only knows {', '.join(CONTROLS)}, got '{name}'")
        if not all(value > 0 for value in self.l2):
            raise InputError(f"--l2 must be above 0, got {', '.join(map(str, self.l2))}")


def main(config: BaselineConfig) -> None:
    split = load_split(config.root)
    cold = load_cold(config.root, split)
    fingerprint = split.fingerprint
    for options in each_seed(config):
        for name in options.only:
            if CONTROLS[name].learns:
                learn(options)
                continue
            with Run(name, options, split_hash=fingerprint, embedding_hash=NONE) as this_run:
                if this_run.finished:
                    continue
                score, measured = BASELINES[name](split, options)
                more = {"chance": expected(split, cold, options.k)} if is_chance(name) else {}
                lists = recommend(score, split)
                this_run.finish(lists, split, more=more, device="cpu", parameters=0, **measured)


def learn(config: BaselineConfig) -> None:
    """Make the run of the one that learns (training/elsa.py), by the options of its yaml."""
    from training.elsa import train_elsa  # torch, which the others do without
    from training.elsa_options import ElsaConfig

    own = ("root", "seed", "tag", "overwrite", "k")
    flags = {f"--{name}": getattr(config, name) for name in own}
    flags["--k"] = ",".join(map(str, config.k))
    words = [str(word) for pair in flags.items() if pair[1] is not None for word in pair]
    train_elsa(parse_config(ElsaConfig, __doc__, words))


def popular(split: Split, config: BaselineConfig):
    """Score every track by the number of its users in train, the same for everybody."""
    users_of_track = np.bincount(split.train.items, minlength=split.n_items).astype(np.float32)
    return lambda users: np.tile(users_of_track, (len(users), 1)), {}


def random_lists(split: Split, config: BaselineConfig):
    """Score every track by a uniform draw of its own for every user."""

    def score(users: np.ndarray) -> np.ndarray:
        rows = [np.random.default_rng([config.seed, user]).random(split.n_items) for user in users]
        return np.stack(rows)

    return score, {}


def ease(split: Split, config: BaselineConfig):
    """Score by EASE with the penalty that is best on validation."""
    found, score = {}, None
    for l2 in config.l2:
        score = None  # two inverses need not fit
        score = ease_scorer(split.train, split.n_items, l2, seen_again=split.seen_again)
        if len(config.l2) == 1:
            return score, {"chosen_l2": l2}
        lists = recommend(score, split, users=split.val.users).matrix()
        found[l2] = mean_metric(SELECT, lists, np.diff(split.val.offsets), split.val.items)
        print(f"EASE at l2 {l2:g}: {SELECT} {found[l2]:.4f} on validation")
    best = max(found, key=found.get)
    if best != l2:
        score = None
        score = ease_scorer(split.train, split.n_items, best, seen_again=split.seen_again)
    return score, {"chosen_l2": best}


def expected(split: Split, cold: Split | None, ks) -> dict:
    """Return what random lists are expected to reach, as {"val": {"HitRate@50": x, ...}, ...}."""
    heard = np.diff(split.masked.offsets)
    levels = {}
    parts = [
        (name, held_out, split.n_items - heard[held_out.users])
        for name, held_out in (("val", split.val), ("test", split.test))
    ]
    if cold:  # ranked among themselves; nobody has heard one, so the most popular say nothing
        parts.append(("cold", cold.test, np.full(len(cold.test.users), cold.n_items)))
    for part, held_out, candidates in parts:
        levels[part] = {
            f"{name}@{k}": float(values.mean())
            for k in ks
            for name, values in chance(np.diff(held_out.offsets), candidates, k).items()
        }
    return levels


BASELINES = {score.__name__: score for score in (popular, random_lists, ease)}


if __name__ == "__main__":
    run(main, BaselineConfig, __doc__)
