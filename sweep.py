"""Search a recommender's options with Optuna, as many trials for every embedding.

    python sweep.py --root sample --recommender knn --embeddings mfcc,musicnn --trials 4
    python sweep.py --root sample --recommender shallow --embeddings mfcc,musicnn \\
        --config sample.yaml --trials 20 --workers 2
    python sweep.py --root sample --recommender bert4rec --embeddings mfcc --sampler random

Reads   data/, embeddings/, trackid_sorted.csv; --space, the options that vary (search.yaml)
Writes  searches/RECOMMENDER-EMBEDDING/study.db      Optuna's record of the trials
                                       study.json    its fingerprint
                                       trials/NNNN/  each trial's run, as the recommender leaves it
                                       chosen.yaml   the best options, for --config; sealed
                                       search.json   what was searched, budget, outcome; last
        runs/RECOMMENDER-EMBEDDING-tuned-sSEED/      runs with the chosen options (--final-seeds)
        tables/search.csv                            every search: budget, value and choice
        tables/search.json                           its fingerprint; last

Trials are chosen between on the validation users alone; nothing here looks at test. A trial runs
the same command as by hand, also under --select METRIC, so its epochs can be compared while it
runs and the hopeless ones stopped. An interrupted search, and its interrupted trials, go on with
the same command; more --trials continue it.
"""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive, read_json, read_record, sha256, write_json
from core.late import options_are_read
from core.names import TUNED, run_name
from core.options import (
    InputError,
    WorkError,
    at_least,
    option,
    read_yaml_options,
    run,
    yaml_files,
)
from core.registry import RECOMMENDERS
from core.yamls import PLAIN, dump_sealed, is_plain
from evaluation.metric_options import check_metric
from recommenders.run_options import EmbeddingOptions

if options_are_read(__name__):
    from core.splits import split_hash
    from recommenders.vectors import embedding_hash
    from study.search import HERE, Search, read_space, write_outcome

HEADS = ("recommender", "embedding", "metric", "sampler", "pruner")
# What the search gives to each trial, and to the runs with the chosen options.
GIVEN = {"root", "embedding", "seed", "seeds", "tag", "overwrite", "k", "config"}
COLLECTS = 30.0  # seconds that another search may take to write its line of the table
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
    width: int | None = option(
        None, "numbers a vector, of random and noise only; auto: the recommender's own"
    )
    overwrite: bool = option(False, "forget a search that is there, and its trials")

    def __post_init__(self):
        check_metric("--metric", self.metric)
        at_least(self, trials=1, workers=1, seed=0)
        if min(self.final_seeds or (0,)) < 0:
            raise InputError(f"--final-seeds must be at least 0, got {min(self.final_seeds)}")


def main(config: SweepConfig) -> None:
    space = read_space(config.space, config.recommender)
    for name in GIVEN & set(space):
        raise InputError(f"--space {config.space}: '{name}' is given by the search; remove it")
    split_hash(config.root)
    made = {}
    for embedding in config.embeddings:
        embedding_hash(
            config.root, embedding, width(config)
        )  # all are there before hours are spent
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
        for name in ("study.json", "study.db", "begun.json", "chosen.yaml"):
            path = folder / name
            path.unlink(missing_ok=True)
        shutil.rmtree(folder / "trials", ignore_errors=True)
    if record.exists():
        begun = read_json(record, "python sweep.py --overwrite", tuple(made_from))
        refuse_changes(folder, begun, made_from)
    else:
        write_json(record, made_from)
    base = read_base(config)
    learns = RECOMMENDERS[config.recommender].learns
    trained = {"select": config.metric} if learns else {}
    settings = folder / "base.yaml"
    with atomic_path(settings) as temporary:
        temporary.write_text(dump_sealed({config.recommender: {**base, **trained}}))
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
    chosen, options = folder / "chosen.yaml", {**base, **trained, **outcome["chosen"]}
    (folder / "search.json").unlink(missing_ok=True)  # until choice and runs are of one search
    with atomic_path(chosen) as temporary:
        temporary.write_text(dump_sealed({config.recommender: options}))
    if config.final_seeds:
        final_runs(config, embedding, chosen, options)
    write_outcome(folder / "search.json", made_from, outcome)
    return outcome


def width(config: SweepConfig) -> int:
    """Return the width of vectors that need no file, as the trials have it."""
    own = EmbeddingOptions.__dataclass_fields__["width"].default
    return read_base(config).get("width", own)


def describe(config: SweepConfig, space: dict, embedding: str) -> dict:
    """Return what decides a search, for search.json and to refuse to continue another one."""
    return {
        "recommender": config.recommender,
        "embedding": embedding,
        "metric": config.metric,
        "sampler": config.sampler,
        "pruner": config.pruner,
        "seed": config.seed,
        "space": {name: asdict(choice) for name, choice in space.items()},
        "options": read_base(config),
        "split": split_hash(config.root),
        "embedding_hash": embedding_hash(config.root, embedding, width(config)),
    }


def read_base(config: SweepConfig) -> dict:
    """Return the options that do not vary: the recommender's yaml, over it --config and --width.

    Raises:
        InputError: one of them is given by the search itself, to each trial and run.
    """
    base = {}
    for path in yaml_files(config.recommender, config.config):
        base |= read_yaml_options(path, config.recommender)
    for name in GIVEN & set(base):
        raise InputError(f"--config {config.config}: '{name}' is given by the search; remove it")
    for name, value in base.items():
        if not all(map(is_plain, value if isinstance(value, list) else [value])):
            raise InputError(f"--config {config.config}: '{name}' must be of {PLAIN}, got {value}")
    return base if config.width is None else {**base, "width": config.width}


def refuse_changes(folder: Path, begun: dict, made_from: dict) -> None:
    """Raise InputError if the search there is another one than is asked for."""
    # As texts: 2 and 2.0 are equal numbers, and other choices.
    changed = [n for n in made_from if _text(begun.get(n)) != _text(made_from[n])]
    if changed:
        raise InputError(
            f"{folder} holds a search of other {', '.join(changed)}; --overwrite forgets it"
        )


def _text(value) -> str:
    return json.dumps(value, sort_keys=True)


def final_runs(config: SweepConfig, embedding: str, chosen: Path, options: dict) -> None:
    """Make the study's runs with the chosen options, by the recommender's own command.

    Runs of an earlier choice, of fewer trials, are made again.
    """
    seeds = ",".join(map(str, config.final_seeds))
    command = [
        sys.executable,
        HERE / RECOMMENDERS[config.recommender].script,
        "--root",
        config.root,
    ]
    command += ["--embedding", embedding, "--config", chosen, "--seeds", seeds, "--tag", TUNED]
    names = [run_name(config.recommender, embedding, seed, TUNED) for seed in config.final_seeds]
    if any(of_another_choice(config.root / "runs" / name, options) for name in names):
        command.append("--overwrite")
    done = subprocess.run(list(map(str, command)))
    if done.returncode:
        again = shlex.join(["python", *map(str, command[1:])])
        raise WorkError(f"the runs with the chosen options failed; again: {again}")


def of_another_choice(folder: Path, options: dict) -> bool:
    """Say whether there is a run, finished or not, of other options than these."""
    path = folder / "config.yaml"
    if not path.exists():
        return False
    made = read_record(path, ("options",), "remove the folder, and run the same command")["options"]
    return any(name in made and _text(made[name]) != _text(v) for name, v in options.items())


def collect(root: Path) -> None:
    """Write tables/search.csv from every search that is finished; who ends at once waits."""
    table = root / "tables" / "search.csv"
    with exclusive(table.with_name(".search.lock"), str(table), wait=COLLECTS):
        _write_searches(root, table)


def _write_searches(root: Path, table: Path) -> None:
    lines = []
    for path in sorted((root / "searches").glob("*/search.json")):
        found = read_json(path, "python sweep.py", ("outcome", *HEADS))
        heads = [found[n] for n in HEADS]
        outcome = found["outcome"]
        budget = [outcome[name] for name in BUDGET]
        lines.append([*heads, outcome["value"], *budget, json.dumps(outcome["chosen"])])
    heads = [*HEADS, "value", *BUDGET, "chosen"]
    table.with_suffix(".json").unlink(missing_ok=True)
    with atomic_path(table) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([heads, *lines])
    write_json(table.with_suffix(".json"), {"sha256": {table.stem: sha256(table)}})


if __name__ == "__main__":
    run(main, SweepConfig, __doc__)
