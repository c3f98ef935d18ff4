"""Runs that differ in their seed alone, of every recommender, for benchmarks/bench_inference.py.

    python -m benchmarks.planted_seeds --root /tmp/seeds
    python -m benchmarks.planted_seeds --root /tmp/seeds --recommenders bert4rec --runs 20
    python -m benchmarks.bench_inference --root /tmp/seeds --runs 'bert4rec-planted-s*'

Writes  ROOT/data/, ROOT/trackid_sorted.csv, ROOT/embeddings/planted.npy: listeners of two tastes
        each, tracks of one, vectors that follow the taste
        ROOT/runs/   of each recommender --runs seeds, by the small networks of planted_seeds.yaml;
        of one that learns nothing as many shuffles. What is trained is kept, and not trained again.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.artifacts import write_npy, write_table
from core.options import InputError, WorkError, option, run
from core.registry import ALL

HERE = Path(__file__).resolve().parents[1]
OPTIONS = Path(__file__).with_suffix(".yaml")
NAME = "planted"
VALIDATE = 300  # users
HEARD, HELD_OUT = 20, 4  # tracks of a user
TASTES, WIDTH = 30, 32
LEARNED = tuple(n for n, each in ALL.items() if each.hears and not each.made_by)


@dataclass(frozen=True)
class PlantedConfig:
    root: Path = option(help="folder of all that is written")
    recommenders: tuple[str, ...] = option(LEARNED, "whose runs are made")
    runs: int = option(20, "seeds of each, or shuffles")
    users: int = option(6092, "test users")
    tracks: int = option(1500, "that there are")
    seed: int = option(0, "of the listeners and their tracks")


def main(config: PlantedConfig) -> None:
    for name in config.recommenders:
        if name not in LEARNED:
            raise InputError(f"--recommenders knows {', '.join(LEARNED)}, got '{name}'")
    if not (config.root / "embeddings" / f"{NAME}.npy").exists():
        plant(config)
    for name in config.recommenders:
        known = ALL[name]
        more = ("--config", OPTIONS, "--device", "cpu") if known.learns else ("--shuffle",)
        seeds = ",".join(map(str, range(1, config.runs + 1)))
        words = ["--root", config.root, "--embedding", NAME, "--seeds", seeds, *more]
        command = [sys.executable, HERE / known.script, *words]
        print(" ".join(map(str, command[1:])), flush=True)
        if subprocess.run(command, stdout=subprocess.DEVNULL, cwd=HERE).returncode:
            raise WorkError(f"{known.script} failed, see above; then run this again")


def plant(config: PlantedConfig) -> None:
    """Write the split, the track ids and, last, the embedding."""
    rng = np.random.default_rng(config.seed)
    taste = np.arange(config.tracks) % TASTES
    popular = 1 / (rng.permutation(config.tracks) + 10.0)
    of_taste = [np.where(taste == each, popular, 0) for each in range(TASTES)]
    rows = []
    everybody = config.users + VALIDATE
    for _ in range(everybody):
        mine = sum(of_taste[each] for each in rng.choice(TASTES, 2, replace=False))
        chances = 0.85 * mine / mine.sum() + 0.15 * popular / popular.sum()
        tracks = rng.choice(config.tracks, HEARD + HELD_OUT, replace=False, p=chances)
        rows.append(tracks)
    heard = np.unique(np.array(rows)[:, :HEARD])
    days = pd.Timestamp("2019-03-01") + pd.to_timedelta(np.arange(HEARD + HELD_OUT), unit="D")
    for part, users, places in (
        ("train", range(everybody), slice(0, HEARD)),
        ("val", range(config.users, everybody), slice(HEARD, None)),
        ("test", range(config.users), slice(HEARD, None)),
    ):
        table = pd.concat(
            pd.DataFrame({"user_id": user, "track_idx": rows[user][places], "day": days[places]})
            for user in users
        )
        table = table[table.track_idx.isin(heard)].sort_values(["user_id", "track_idx"])
        table["timestamp"] = table.pop("day").astype("datetime64[us]")
        table = table.astype({"user_id": "int64", "track_idx": "int32"}).assign(count=1)
        write_table(config.root / "data" / f"{part}.pqt", table)
    lines = ["idx,trackid", *(f"{i},T{i:015d}" for i in range(config.tracks))]
    (config.root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    centres = rng.normal(size=(TASTES, WIDTH))
    vectors = centres[taste] + rng.normal(size=(config.tracks, WIDTH))
    path = config.root / "embeddings" / f"{NAME}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npy(path, vectors.astype(np.float32))


if __name__ == "__main__":
    run(main, PlantedConfig, __doc__)
