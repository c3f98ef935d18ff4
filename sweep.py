"""Search a recommender's options with Optuna, as many trials for every embedding.

    python sweep.py --root sample --recommender knn --embeddings mfcc,musicnn --trials 4
    python sweep.py --root sample --recommender shallow --embeddings mfcc,musicnn \\
        --config sample.yaml --trials 20 --workers 2
    python sweep.py --root sample --recommender bert4rec --embeddings mfcc --sampler random

Reads   data/, embeddings/, trackid_sorted.csv; --space, the options that vary (search.yaml)
Writes  searches/RECOMMENDER-EMBEDDING/study.db      Optuna's record of the trials
                                       trials/NNNN/  each trial's run, as the recommender leaves it
                                       chosen.yaml   the best options, for --config
                                       search.json   what was searched, budget, outcome; last
        runs/RECOMMENDER-EMBEDDING-tuned-sSEED/      runs with the chosen options (--final-seeds)
        tables/search.csv                            every search: budget, value and choice

Trials are chosen between on the validation users alone; nothing here looks at test. A trial runs
the same command as by hand, also under --select METRIC, so its epochs can be compared while it
runs and the hopeless ones stopped. An interrupted search, and its interrupted trials, go on with
the same command; more --trials continue it.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import yaml

from core.artifacts import atomic_path, exclusive, read_json
from core.options import (
    InputError,
    WorkError,
    option,
    read_yaml_options,
    run,
    yaml_files,
)
from core.registry import RECOMMENDERS
from core.splits import split_hash
from evaluation.measures import METRICS, check_lengths
from recommenders.vectors import embedding_hash
from study.search import HERE, Search, read_space, write_outcome

BUDGET = ("trials", "complete", "pruned", "failed", "seconds")


@dataclass(frozen=True)
class SweepConfig:
    recommender: Literal[tuple(n for n, each in RECOMMENDERS.items() if not each.made_by)] = option(
        help="whose options"
    )
    embeddings: tuple[str, ...] = option(help="a search for each, as mfcc,musicnn")
    root: Path = option(Path("."), "folder of all that is read and written")
    space: Path = option(Path(__file__).with_name("search.yaml"), "yaml of what varies")
    config: Path | None = option(None, "yaml of the other options, laid over the recommender's own")
    trials: int = option(20, "for each embedding, all counted: complete, pruned, failed")
    metric: str = option("NDCG@50", "of the validation users, that the best has most of")
    sampler: Literal["tpe", "random"] = option("tpe", "how options are proposed")
    pruner: Literal["median", "none"] = option(
        "median", "stop trials that are below the median of the others at the same epoch"
    )
    workers: int = option(1, "trials at a time")
    seed: int = option(1, "of proposals and of the trials' runs")
    final_seeds: tuple[int, ...] | None = option(
        (1,), "of the runs with the chosen options, tag tuned; none: make no runs"
    )
    width: int = option(128, "numbers a vector, of random and noise only")
    overwrite: bool = option(False, "forget a search that is there, and its trials")

    def __post_init__(self):
        check_metric(self.metric)
        for name in ("trials", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, got {getattr(self, name)}")


def check_metric(name: str) -> None:
    """Raise InputError unless the name is a metric at k."""
    if not re.fullmatch(rf"({'|'.join(METRICS)})@[1-9][0-9]*", name):
        raise InputError(f"--metric must be one of {', '.join(METRICS)} with @k, got '{name}'")
    check_lengths([int(name.split("@")[1])])


def main(config: SweepConfig) -> None:
    space = read_space(config.space, config.recommender)
    split_hash(config.root)
    made = {}
    for embedding in config.embeddings:
        embedding_hash(config.root, embedding, config.width)  # all are there before hours are spent
    for embedding in config.embeddings:
        folder = config.root / "searches" / f"{config.recommender}-{embedding}"
        with exclusive(folder / ".lock", str(folder)):
            made[embedding] = search_one(config, space, embedding, folder)
    collect(config.root)
    for embedding, outcome in made.items():
        budget = ", ".join(f"{outcome[name]} {name}" for name in BUDGET)
        print(
            f"{config.recommender}-{embedding}: {config.metric} {outcome['value']:.4f} ({budget})"
        )
    print(config.root / "tables" / "search.csv")


def search_one(config: SweepConfig, space: dict, embedding: str, folder: Path) -> dict:
    """Search for one embedding, write chosen.yaml and search.json, and make the final runs."""
    made_from = describe(config, space, embedding)
    record = folder / "begun.json"
    if config.overwrite:
        (folder / "search.json").unlink(missing_ok=True)
        for path in (folder / "study.db", record, folder / "chosen.yaml"):
            path.unlink(missing_ok=True)
        shutil.rmtree(folder / "trials", ignore_errors=True)
    if record.exists():
        refuse_changes(folder, read_json(record, "python sweep.py"), made_from)
    else:
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(made_from, indent=2) + "\n")
    base = read_base(config)
    learns = RECOMMENDERS[config.recommender].learns
    trained = {"select": config.metric} if learns else {}
    settings = folder / "base.yaml"
    with atomic_path(settings) as temporary:
        temporary.write_text(yaml.safe_dump({config.recommender: {**base, **trained}}))
    print(f"{folder}: {config.trials} trials, {config.sampler}, {config.workers} at a time")
    outcome = Search(
        root=config.root,
        folder=folder,
        recommender=config.recommender,
        embedding=embedding,
        space=space,
        flags=["--config", str(settings), "--seed", str(config.seed)],
        metric=config.metric,
        trials=config.trials,
        sampler=config.sampler,
        pruner=config.pruner,
        seed=config.seed,
        workers=config.workers,
    ).run()
    chosen = folder / "chosen.yaml"
    with atomic_path(chosen) as temporary:
        options = {**base, **trained, **outcome["chosen"]}
        temporary.write_text(yaml.safe_dump({config.recommender: options}, sort_keys=False))
    write_outcome(folder / "search.json", made_from, outcome)
    if config.final_seeds:
        final_runs(config, embedding, chosen)
    return outcome


def describe(config: SweepConfig, space: dict, embedding: str) -> dict:
    """Return what decides a search, for search.json and to refuse to continue another one."""
    return {
        "recommender": config.recommender,
        "embedding": embedding,
        "metric": config.metric,
        "sampler": config.sampler,
        "pruner": config.pruner,
        "seed": config.seed,
        "space": {name: {k: v for k, v in asdict(c).items() if v} for name, c in space.items()},
        "options": read_base(config),
        "split": split_hash(config.root),
        "embedding_hash": embedding_hash(config.root, embedding, config.width),
    }


def read_base(config: SweepConfig) -> dict:
    """Return the options that do not vary: the recommender's own yaml and, over it, --config."""
    base = {}
    for path in yaml_files(config.recommender, config.config):
        base |= read_yaml_options(path, config.recommender)
    return base


def refuse_changes(folder: Path, begun: dict, made_from: dict) -> None:
    """Raise InputError if the search there is another one than is asked for."""
    now = json.loads(json.dumps(made_from))
    changed = [name for name in now if begun.get(name) != now[name]]
    if changed:
        raise InputError(
            f"{folder} holds a search of other {', '.join(changed)}; --overwrite forgets it"
        )


def final_runs(config: SweepConfig, embedding: str, chosen: Path) -> None:
    """Make the study's runs with the chosen options, by the recommender's own command."""
    seeds = ",".join(map(str, config.final_seeds))
    command = [
        sys.executable,
        HERE / RECOMMENDERS[config.recommender].script,
        "--root",
        config.root,
    ]
    command += ["--embedding", embedding, "--config", chosen, "--seeds", seeds, "--tag", "tuned"]
    done = subprocess.run(list(map(str, command)))
    if done.returncode:
        raise WorkError(f"the runs with the chosen options failed; again: {' '.join(command[1:])}")


def collect(root: Path) -> None:
    """Write tables/search.csv from every search that is finished."""
    lines = []
    for path in sorted((root / "searches").glob("*/search.json")):
        found = read_json(path, "python sweep.py")
        heads = [found[n] for n in ("recommender", "embedding", "metric", "sampler", "pruner")]
        outcome = found["outcome"]
        budget = [outcome[name] for name in BUDGET]
        lines.append([*heads, outcome["value"], *budget, json.dumps(outcome["chosen"])])
    heads = ["recommender", "embedding", "metric", "sampler", "pruner", "value", *BUDGET, "chosen"]
    with atomic_path(root / "tables" / "search.csv") as temporary:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([heads, *lines])


if __name__ == "__main__":
    run(main, SweepConfig, __doc__)
