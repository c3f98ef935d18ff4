"""A made-up study of the real one's size or less: tracks, split, embeddings, finished runs, lists.

What benchmarks/bench_report.py and the tests of the report give table.py and report.py to read.
Nothing is learned: embeddings share 64 hidden numbers a track under noise, a user's hits follow a
level of their own, an effect of the row and noise of the seed, and lists are random.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from core.artifacts import sha256, write_json, write_npy, write_table
from core.names import run_name
from core.registry import ALL
from core.splits import split_hash
from evaluation.beyond import GROUPS, STATISTICS
from evaluation.measures import METRICS, OF_SEGMENTS, summarize
from evaluation.metric_options import KS
from recommenders.vectors import embedding_hash

TRACKS, USERS = 56_512, 17_053
PAIRS = {"train": 301, "val": 22, "test": 23}  # of a user, about
WIDTHS = (104, 200, 768, 768, 1024, 1024, 1024, 512, 1728, 4800)
LENGTH = 100
EPOCHS = 30


def make_data(
    root: Path, users: int, seed: int = 0, *, tracks: int = TRACKS, people: int = USERS
) -> tuple[np.ndarray, np.ndarray]:
    """Write trackid_sorted.csv and data/; return the user_id of val and of test, `users` each."""
    rng = np.random.default_rng(seed)
    letters = np.array(list(string.ascii_letters + string.digits))
    drawn = letters[rng.integers(0, len(letters), (2 * tracks, 16))]
    ids = sorted({"".join(row) for row in drawn})[:tracks]
    lines = ["idx,trackid", *(f"{idx},{track_id}" for idx, track_id in enumerate(ids))]
    root.mkdir(parents=True, exist_ok=True)
    (root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    everybody = rng.permutation(people)
    test, val = np.sort(everybody[:users]), np.sort(everybody[users : 2 * users])
    train = np.array([], dtype=int)
    for part, of in (("train", np.arange(people)), ("val", val), ("test", test)):
        pairs = np.repeat(of, PAIRS[part])
        pairs = np.unique(pairs * tracks + rng.integers(0, tracks, len(pairs)))
        pairs = pairs[~np.isin(pairs, train)]
        train = pairs if part == "train" else train
        days = pd.to_timedelta(rng.integers(0, 360, len(pairs)), unit="D")
        frame = pd.DataFrame({"user_id": pairs // tracks, "track_idx": pairs % tracks})
        frame = frame.astype({"user_id": "int64", "track_idx": "int32"})
        frame["timestamp"] = (pd.Timestamp("2019-03-01") + days).astype("datetime64[us]")
        frame["count"] = rng.integers(1, 9, len(pairs))
        write_table(root / "data" / f"{part}.pqt", frame)
    return val, test  # without data/split.json, as a split of one's own


def make_embeddings(
    root: Path,
    names: list[str],
    seed: int = 0,
    *,
    tracks: int = TRACKS,
    widths: tuple[int, ...] = WIDTHS,
) -> None:
    """Write embeddings/NAME.npy and .json of the widths, in turn; by default the study's."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((tracks, 64), dtype=np.float32)
    for number, name in enumerate(names):
        width = widths[number % len(widths)]
        vectors = 2 * rng.standard_normal((tracks, width), dtype=np.float32)
        vectors += hidden @ rng.standard_normal((64, width), dtype=np.float32)
        write_npy(root / "embeddings" / f"{name}.npy", vectors)
        record = {"embedding": name, "width": width, "versions": {}, "weights": {}, "failed": {}}
        record["sha256"] = sha256(root / "embeddings" / f"{name}.npy")
        write_json(root / "embeddings" / f"{name}.json", record)


def make_lists(folder: Path, users: np.ndarray, seed: int, *, tracks: int = TRACKS) -> None:
    """Write a run's recs.pqt: 100 random tracks for each user, no track twice."""
    rng = np.random.default_rng(seed)
    cells = np.argsort(rng.random((len(users), 4 * LENGTH)), axis=1)[:, :LENGTH]
    span = tracks // (4 * LENGTH)
    listed = cells * span + rng.integers(0, span, (len(users), 1))
    frame = pd.DataFrame(
        {
            "user_id": np.repeat(users, LENGTH),
            "track_idx": listed.ravel().astype("int32"),
            "rank": np.tile(np.arange(1, LENGTH + 1, dtype="int32"), len(users)),
            "score": rng.random(listed.size, dtype=np.float32),
        }
    )
    write_table(folder / "recs.pqt", frame)


@dataclass(frozen=True)
class Row:
    """A row of the table that is to be: what it is called, and how its users fare."""

    recommender: str
    embedding: str
    tag: str | None = None
    level: float = -1.0  # of the log odds of a hit in the first 100
    width: int = 200
    options: dict = field(default_factory=dict)


def rows_of(recommenders: list[str], embeddings: list[str], *, shuffled: bool) -> list[Row]:
    """Return a row of every embedding under every recommender; levels differ every second one.

    Args:
        shuffled: each has its shuffled control; else the last one's place has that of the first.
    """
    rows = []
    for recommender in recommenders:
        for number, name in enumerate(embeddings):
            level = -1.0 + 0.15 * (number // 2)
            if shuffled or number < len(embeddings) - 1:
                rows.append(Row(recommender, name, level=level))
            if shuffled or number == len(embeddings) - 1:
                rows.append(Row(recommender, name if shuffled else embeddings[0], "shuffled", -1.6))
    return rows


def make_runs(
    root: Path,
    rows: list[Row],
    seeds: int,
    users: np.ndarray,
    seed: int = 0,
    *,
    segments: bool = True,
) -> None:
    """Write the finished runs of the rows under root, as recommenders leave them.

    They are of the split that is there; without one, nothing but table.py's parts can read them.

    Args:
        users: user_id of test.
        segments: write the metrics by segment as well, which is most of the files.
    """
    rng = np.random.default_rng(seed)
    split = split_hash(root) if (root / "data" / "train.pqt").exists() else "0" * 64
    taste, group_of_user = rng.normal(size=len(users)), rng.integers(0, 3, len(users))
    for row in rows:
        own = taste + 0.5 * rng.normal(size=len(users))
        for number in range(1, seeds + 1):
            chance = 1 / (1 + np.exp(-row.level - own - 0.2 * rng.normal(size=len(users))))
            groups = group_of_user if segments else None
            _write_run(root, split, row, number, users, chance, groups, rng)


def _write_run(root, split: str, row: Row, seed: int, users, chance, group_of_user, rng) -> None:
    columns = {"user_id": users}
    for k in KS:
        hit = rng.random(len(users)) < chance * (k / 100)
        part = rng.random(len(users))
        for name in METRICS:
            columns[f"{name}@{k}"] = hit if name == "HitRate" else hit * part
    per_user = pd.DataFrame(columns).astype({"user_id": "int64"}).astype(float)
    per_user["user_id"] = users
    known = {"recommender": row.recommender, "embedding": row.embedding, "tag": row.tag}
    known["seed"] = seed
    numbers = summarize(per_user)
    lists = {f"{name}@{k}": float(rng.random()) for name in STATISTICS for k in KS}
    folder = root / "runs" / run_name(row.recommender, row.embedding, seed, row.tag)
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = row.embedding
    if row.embedding == "noise" or (root / "embeddings" / f"{row.embedding}.npy").exists():
        fingerprint = embedding_hash(root, row.embedding, row.width)
    config = {
        **known,
        "options": {"seed": seed, "embedding": row.embedding, "epochs": EPOCHS, **row.options},
        "split": split,
        "embedding_hash": fingerprint,
        "changed": {},
        "options_file": None,
        "versions": {"numpy": np.__version__},
        "width": row.width,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if row.recommender in ALL and ALL[row.recommender].learns:
        losses = 0.1 + (0.3 + 0.02 * rng.normal()) / np.arange(1, EPOCHS + 1)
        log = [
            {"epoch": at + 1, "train_loss": loss, "val_loss": loss, "best_epoch": EPOCHS - 1}
            for at, loss in enumerate(losses.tolist())
        ]
        (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + "\n")
    write_table(folder / "per_user_test.pqt", per_user)
    if group_of_user is not None:
        names = [f"{name}@{k}" for name in OF_SEGMENTS for k in KS]
        own = per_user[["user_id", *names]]
        parts = [own.assign(by="activity", group=np.array(GROUPS)[group_of_user])]
        parts += [own.assign(by="popularity", group=group) for group in GROUPS]
        write_table(folder / "segments_test.pqt", pd.concat(parts))
    write_json(
        folder / "metrics.json",
        {**known, "seconds": 1, "val": numbers, "test": numbers, "lists": {"test": lists}},
    )
