"""Time the table and its tests on made-up runs of the study's size, then the report.

    python -m benchmarks.bench_report                  # 10 embeddings x 3 recommenders x 5 seeds
    python -m benchmarks.bench_report --report true    # table.py and report.py too, 56,512 tracks
    python -m benchmarks.bench_report --embeddings 50 --seeds 1
    python -m benchmarks.bench_report --keep runs150   # leave the root there

Prints the seconds of each part and the peak memory of the process. The last line is one json
object: {"runs": n, "users": n, "seconds": {"read": s, ...}, "total": s, "peak_mb": m}.

The runs are drawn, not trained: a user's hits follow a level of their own, an effect of the
embedding and noise of the seed, so that some embeddings differ and some do not.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from benchmarks.made_up_study import make_data, make_embeddings, make_lists
from core.artifacts import write_json, write_table
from core.names import run_name
from core.options import option, run
from core.registry import RECOMMENDERS
from evaluation import grids
from evaluation.beyond import GROUPS, STATISTICS
from evaluation.comparisons import against_shuffled, compare, groups
from evaluation.measures import METRICS, OF_SEGMENTS, summarize
from evaluation.metric_options import KS
from evaluation.published import beside_published
from evaluation.results import (
    average_seeds,
    chance_levels,
    read_runs,
    summarize_lists,
    summarize_rows,
    summarize_segments,
)

HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class BenchConfig:
    embeddings: int = option(10, "rows of each recommender, one of them shuffled")
    seeds: int = option(5, "runs of each row")
    users: int = option(6092, "of test")
    report: bool = option(False, "also run table.py and report.py, on 3 GB of data")
    keep: Path | None = option(None, "root to make the runs in and leave; else a temporary one")


def main(config: BenchConfig) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = config.keep or Path(temporary)
        make_runs(root, config.embeddings, config.seeds, config.users)
        clock = Clock()
        runs = read_runs(root)
        rows = average_seeds(runs)
        clock("read")
        tables = {"results": summarize_rows(rows), "beyond": summarize_lists(rows)}
        tables["chance"] = chance_levels(runs)
        beside_published(tables["results"])
        clock("results")
        tables["segments"] = summarize_segments(rows)
        clock("segments")
        metrics = [f"{name}@50" for name in METRICS]
        tables["comparisons"] = compare(rows, metrics)
        clock("comparisons")
        tables["groups"] = groups(tables["comparisons"])
        clock("groups")
        tables["shuffled"] = against_shuffled(rows, metrics)
        clock("shuffled")
        grids.tex(tables, metrics, "")
        clock("pages")
        if config.report:
            make_rest(root, config)
            clock.skip()
            for script in ("table.py", "report.py"):
                subprocess.run([sys.executable, script, "--root", str(root)], cwd=HERE, check=True)
                clock(script)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"runs": len(runs), "users": config.users, "pairs": len(tables["comparisons"])}
    total = round(sum(clock.seconds.values()), 2)
    print(json.dumps({**found, "seconds": clock.seconds, "total": total, "peak_mb": round(peak)}))


def make_rest(root: Path, config: BenchConfig) -> None:
    """Write what the report reads beside the runs' numbers; lists for the first seed alone."""
    val, test = make_data(root.absolute(), config.users)
    users = np.sort(np.concatenate([val, test]))
    make_embeddings(root, sorted({p.name.split("-")[1] for p in (root / "runs").glob("*-s1")}))
    for number, folder in enumerate(sorted((root / "runs").glob("*-s1"))):
        make_lists(folder, users, number)


class Clock:
    """Seconds between calls, by name; each is printed."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def skip(self) -> None:
        """Leave out what was done since the last call."""
        self._last = time.monotonic()

    def __call__(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self._last = round(now - self._last, 2), now
        print(f"{name:<12}{self.seconds[name]:>8.2f} s", flush=True)


def make_runs(root: Path, embeddings: int, seeds: int, users: int) -> None:
    """Write that many finished runs of every recommender under root, as recommenders leave them.

    Embedding i is called `e00`, `e01`, ...; the last row is the first one's shuffled control.
    """
    rng = np.random.default_rng(0)
    taste = rng.normal(size=users)
    group_of_user = rng.integers(0, 3, users)
    for recommender in [name for name, each in RECOMMENDERS.items() if each.by_default]:
        for number in range(embeddings):
            embedding, tag = f"e{number:02d}", None
            if number == embeddings - 1:
                embedding, tag = "e00", "shuffled"
            level = -1.0 + 0.15 * (number // 2) - 0.6 * (tag is not None)
            own = taste + 0.5 * rng.normal(size=users)
            for seed in range(1, seeds + 1):
                chance = 1 / (1 + np.exp(-level - own - 0.2 * rng.normal(size=users)))
                folder = root / "runs" / run_name(recommender, embedding, seed, tag)
                _write_run(folder, chance, group_of_user, rng, recommender, embedding, tag, seed)


def _write_run(folder, chance, group_of_user, rng, recommender, embedding, tag, seed) -> None:
    users = np.arange(len(chance))
    columns = {"user_id": users}
    for k in KS:
        hit = rng.random(len(users)) < chance * (k / 100)
        part = rng.random(len(users))
        for name in METRICS:
            columns[f"{name}@{k}"] = hit if name == "HitRate" else hit * part
    per_user = pd.DataFrame(columns).astype({"user_id": "int64"}).astype(float)
    per_user["user_id"] = users
    names = [f"{name}@{k}" for name in OF_SEGMENTS for k in KS]
    activity = per_user[["user_id", *names]].assign(
        by="activity", group=np.array(GROUPS)[group_of_user]
    )
    popular = [activity.assign(by="popularity", group=group) for group in GROUPS]
    known = {"recommender": recommender, "embedding": embedding, "tag": tag, "seed": seed}
    numbers = summarize(per_user)
    lists = {f"{name}@{k}": float(rng.random()) for name in STATISTICS for k in KS}
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        **known,
        "options": {"seed": seed, "embedding": embedding, "epochs": 100},
        "split": "0" * 64,
        "embedding_hash": embedding,
        "changed": {},
        "options_file": None,
        "versions": {"numpy": np.__version__},
        "width": 200,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_table(folder / "per_user_test.pqt", per_user)
    write_table(folder / "segments_test.pqt", pd.concat([activity, *popular]))
    write_json(
        folder / "metrics.json",
        {**known, "seconds": 1, "val": numbers, "test": numbers, "lists": {"test": lists}},
    )


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
