"""The tracks, split, embeddings and lists of a made-up study of the real one's size.

What benchmarks/bench_report.py gives report.py to read beside the runs it draws. Nothing is
learned: embeddings share 64 hidden numbers a track under noise, and lists are random.
"""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pandas as pd

from core.artifacts import sha256, write_json, write_npy, write_table

TRACKS, USERS = 56_512, 17_053
PAIRS = {"train": 301, "val": 22, "test": 23}  # of a user, about
WIDTHS = (104, 200, 768, 768, 1024, 1024, 1024, 512, 1728, 4800)
LENGTH = 100


def make_data(root: Path, users: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Write trackid_sorted.csv and data/; return the user_id of val and of test."""
    rng = np.random.default_rng(seed)
    letters = np.array(list(string.ascii_letters + string.digits))
    drawn = letters[rng.integers(0, len(letters), (2 * TRACKS, 16))]
    ids = sorted({"".join(row) for row in drawn})[:TRACKS]
    lines = ["idx,trackid", *(f"{idx},{track_id}" for idx, track_id in enumerate(ids))]
    root.mkdir(parents=True, exist_ok=True)
    (root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    everybody = rng.permutation(USERS)
    test, val = np.sort(everybody[:users]), np.sort(everybody[users : 2 * users])
    heard = np.array([], np.int64)
    for part, of in (("train", np.arange(USERS)), ("val", val), ("test", test)):
        pairs = np.repeat(of, PAIRS[part])
        pairs = np.setdiff1d(pairs * TRACKS + rng.integers(0, TRACKS, len(pairs)), heard)
        heard = pairs if part == "train" else heard
        days = pd.to_timedelta(rng.integers(0, 360, len(pairs)), unit="D")
        frame = pd.DataFrame({"user_id": pairs // TRACKS, "track_idx": pairs % TRACKS})
        frame = frame.astype({"user_id": "int64", "track_idx": "int32"})
        frame["timestamp"] = (pd.Timestamp("2019-03-01") + days).astype("datetime64[us]")
        frame["count"] = rng.integers(1, 9, len(pairs))
        write_table(root / "data" / f"{part}.pqt", frame)
    return val, test


def make_embeddings(root: Path, names: list[str], seed: int = 0, width: int | None = None) -> None:
    """Write embeddings/NAME.npy and .json of one width, or those of the study's backbones."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((TRACKS, 64), dtype=np.float32)
    for number, name in enumerate(names):
        columns = width or WIDTHS[number % len(WIDTHS)]
        vectors = 2 * rng.standard_normal((TRACKS, columns), dtype=np.float32)
        vectors += hidden @ rng.standard_normal((64, columns), dtype=np.float32)
        write_npy(root / "embeddings" / f"{name}.npy", vectors)
        record = {"embedding": name, "width": columns, "versions": {}, "weights": {}, "failed": {}}
        record["sha256"] = sha256(root / "embeddings" / f"{name}.npy")
        write_json(root / "embeddings" / f"{name}.json", record)


def make_lists(folder: Path, users: np.ndarray, seed: int) -> None:
    """Write a run's recs.pqt: 100 random tracks for each user, no track twice."""
    rng = np.random.default_rng(seed)
    cells = np.argsort(rng.random((len(users), 4 * LENGTH)), axis=1)[:, :LENGTH]
    span = TRACKS // (4 * LENGTH)
    tracks = cells * span + rng.integers(0, span, (len(users), 1))
    frame = pd.DataFrame(
        {
            "user_id": np.repeat(users, LENGTH),
            "track_idx": tracks.ravel().astype("int32"),
            "rank": np.tile(np.arange(1, LENGTH + 1, dtype="int32"), len(users)),
            "score": rng.random(tracks.size, dtype=np.float32),
        }
    )
    write_table(folder / "recs.pqt", frame)
