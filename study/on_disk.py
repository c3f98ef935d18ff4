"""What of the study is not on the disk yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.artifacts import read_json
from core.names import run_name
from core.options import InputError
from extract_item_embeddings.engine.parts import PENDING, UNREADABLE, Parts
from extract_item_embeddings.engine.shards import shard_windows


def missing_shards(root: Path, name: str, shards: int) -> list[int]:
    """Return the shards of an extraction that lack tracks, or hold failed ones.

    Raises:
        InputError: the extraction was begun with another number of shards.
    """
    folder, everything = root / "embeddings" / f"{name}.parts", list(range(shards))
    ids = root / "trackid_sorted.csv"
    if not (folder / "plan.json").exists() or not ids.exists():
        return everything
    made = read_plan(folder)
    if made["shards"] != shards:
        raise InputError(
            f"{folder} was begun with --shards {made['shards']}, now {shards}; go on with that "
            "number, or remove the folder"
        )
    with open(ids, encoding="utf-8") as file:
        n_tracks = sum(1 for _ in file) - 1
    parts = Parts(folder, n_tracks, made["width"], made["window"], shards)
    windows = parts.windows()
    lacking = {w for w in windows if any(_reasons(folder / f"{w.start:08d}.npz"))}
    return [i for i in everything if lacking & set(shard_windows(windows, shards, i))]


def tracks_of_shard(root: Path, name: str, shards: int, shard: int) -> tuple[int, int] | None:
    """Return how many tracks of a shard are saved, and how many it has; None before it begins."""
    folder, ids = root / "embeddings" / f"{name}.parts", root / "trackid_sorted.csv"
    if not (folder / "plan.json").exists() or not ids.exists():
        return None
    made = read_plan(folder)
    with open(ids, encoding="utf-8") as file:
        n_tracks = sum(1 for _ in file) - 1
    windows = Parts(folder, n_tracks, made["width"], made["window"], shards).windows()
    own = shard_windows(windows, shards, shard)
    saved = [w for w in own if (folder / f"{w.start:08d}.npz").exists()]
    return sum(map(len, saved)), sum(map(len, own))


def read_plan(folder: Path) -> dict:
    """Return what an extraction's parts were begun with: shards, width and window among it.

    Raises:
        InputError: the plan is damaged.
    """
    keys = ("shards", "width", "window")
    return read_json(folder / "plan.json", "the same command once the folder is removed", keys)


def _reasons(path: Path) -> list[str]:
    """Return why rows of a part have no vector, without reading the vectors."""
    try:
        with np.load(path) as part:
            return part["reasons"].tolist()
    except UNREADABLE:
        return [PENDING]


def metrics_files(
    root: Path, recommender: str, embedding: str, seeds, tag: str | None = None
) -> list[Path]:
    """Return the file that ends each seed's run."""
    names = (run_name(recommender, embedding, seed, tag) for seed in seeds)
    return [root / "runs" / name / "metrics.json" for name in names]


def absent(files: list[Path], *, array: bool, newer_than=()) -> Callable[[], list[int]]:
    """Return the function that finds the files that are not there, or older than they should be."""

    def missing() -> list[int]:
        absent = [i for i, file in enumerate(files) if not file.exists()]
        if not absent and newer_than:
            made = min(file.stat().st_mtime_ns for file in files)
            stale = any(not f.exists() or f.stat().st_mtime_ns > made for f in newer_than)
            absent = [0] if stale else []
        return absent if array else absent[:1] and [0]

    return missing
