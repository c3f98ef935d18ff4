"""How the stages and recommenders grow: sizes doubled until a time limit, with the fitted exponent.

    python -m benchmarks.bench_scale                        # every case, to 600 s or its largest
    python -m benchmarks.bench_scale --only stage_0,knn --limit 20

Stages 0 and 1 read a made-up log of Yambda's form, of more and more rows, each in a process of its
own. Of the recommenders one step of training, or the lists of some users, is timed among more and
more tracks: 128 users, histories of 100, vectors of 128 numbers; of KNN also for more and more
users among 65,536 tracks. A line is a size: seconds, processor seconds (which other work on the
machine changes less) and peak memory above the start;
the exponent is that of processor seconds by size over the last three, where 1 is linear. The last
line is one json object: {case: {"sizes", "seconds", "processor", "mb", "exponent"}}.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.bench_stages import measure as measure_command
from benchmarks.full_size import Size, split_of, vectors_of
from benchmarks.measure import measure
from bert4rec import BERT4Rec
from core.options import InputError, option, run
from dataset import SequenceDataset
from recommenders.nearest import recommend_nearest
from recommenders.networks.elsa import Elsa
from recommenders.networks.histories import HistoryDataset
from recommenders.networks.hybrid import Hybrid
from recommenders.networks.sampled_softmax import ClassSampler
from recommenders.vectors import knn_scorer

WIDTH, USERS, LENGTH = 128, 128, 100
CLASSES = 8_192


@dataclass(frozen=True)
class ScaleConfig:
    only: tuple[str, ...] = option((), "which cases, separated by commas; none: all")
    limit: float = option(600.0, "seconds of a size after which it is not doubled again")
    most: int = option(1 << 20, "tracks of the largest catalogue, or users")
    most_rows: int = option(1 << 26, "rows of the largest log")
    folder: Path | None = option(None, "where to work; auto: the system's temporary folder")


def main(config: ScaleConfig) -> None:
    unknown = set(config.only) - set(CASES)
    if unknown:
        raise InputError(f"--only knows {', '.join(CASES)}, got {', '.join(unknown)}")
    results = {}
    for name in config.only or CASES:
        what, first, make = CASES[name]
        most = config.most_rows if what == "rows" else config.most
        found: dict[str, list] = {"sizes": [], "seconds": [], "processor": [], "mb": []}
        size = first
        while size <= most:
            with tempfile.TemporaryDirectory(dir=config.folder) as folder:
                seconds, processor, mb = make(Path(folder), size)
            print(
                f"{name:<14}{size:>12,} {what:<7}{seconds:>9.2f} s {processor:>9.2f} s of a "
                f"processor {mb:>8,.0f} MB",
                flush=True,
            )
            for key, value in zip(found, (size, seconds, processor, mb), strict=True):
                found[key].append(round(value, 3))
            if seconds > config.limit:
                break
            size *= 2
        found["exponent"] = exponent(found["sizes"], found["processor"])
        print(f"{name:<14}grows as {what} to the power of {found['exponent']}")
        results[name] = found
    print(json.dumps(results))


def exponent(sizes: list, seconds: list) -> float | None:
    """Return the slope of log seconds by log size over the last three sizes."""
    if len(sizes) < 2:
        return None
    slope = np.polyfit(np.log(sizes[-3:]), np.log(np.maximum(seconds[-3:], 1e-6)), 1)[0]
    return round(float(slope), 2)


def stage_0(folder: Path, rows: int) -> tuple[float, float, float]:
    write_listens(folder / "listens.parquet", rows)
    return measure_command(
        ["0_get_plays_pqt.py", "--root", folder, "--log", folder / "listens.parquet"]
        + ["--preset", "yambda"]
    )


def stage_1(folder: Path, rows: int) -> tuple[float, float, float]:
    stage_0(folder, rows)
    return measure_command(["1_train_test_split.py", "--root", folder, "--protocol", "yambda"])


def write_listens(path: Path, rows: int) -> None:
    """Write rows of Yambda's form: of rows / 5,000 users and rows / 60 tracks, as its 50m set."""
    rng = np.random.default_rng(0)
    users, tracks = max(20, rows // 5_000), max(100, rows // 60)
    kinds = {"uid": pa.uint32(), "item_id": pa.uint32(), "timestamp": pa.uint32()}
    schema = pa.schema([*kinds.items(), ("played_ratio_pct", pa.uint16())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1 << 20):
            n = min(1 << 20, rows - start)
            user = start * users // rows + np.sort(rng.integers(0, max(1, n * users // rows), n))
            columns = [
                user,
                (rng.random(n) ** 4 * tracks).astype(np.int64),
                rng.integers(0, 5_200_000, n) * 5,
                rng.integers(20, 101, n),
            ]
            columns = [pa.array(c).cast(k) for c, k in zip(columns, schema.types, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))


def _timed(work: Callable[[], object]) -> tuple[float, float, float]:
    started = time.process_time()
    seconds, peak = measure(work, 1)
    return seconds, time.process_time() - started, peak / 1e6


def _split(tracks: int):
    return split_of(Size(users=1_000, tracks=tracks, pairs=1_000 * LENGTH, listed=USERS), 0)


def knn(folder: Path, tracks: int) -> tuple[float, float, float]:
    split = _split(tracks)
    score = knn_scorer(split.train, vectors_of(tracks, WIDTH, 0), overwrite=True)
    return _timed(lambda: recommend_nearest(score, split))


def knn_users(folder: Path, users: int) -> tuple[float, float, float]:
    split = split_of(Size(users=users, tracks=1 << 16, pairs=users * LENGTH, listed=users), 0)
    score = knn_scorer(split.train, vectors_of(1 << 16, WIDTH, 0), overwrite=True)
    return _timed(lambda: recommend_nearest(score, split))


def bert4rec(folder: Path, tracks: int, sampled: bool = False) -> tuple[float, float, float]:
    split = _split(tracks)
    data = SequenceDataset(split.train, tracks, LENGTH, "cpu")
    more = {"sampler": ClassSampler(data.tokens, tracks, CLASSES)} if sampled else {}
    batch = next(data.masked_batches(32, 0, mask_share=0.2, shuffle=True, **more))
    vectors = vectors_of(tracks, WIDTH, 0)
    network = BERT4Rec(vectors, train_tracks=False, max_length=LENGTH, logit_scale=WIDTH**-0.5)
    return _timed(lambda: network.loss(batch).backward())


def sampled(folder: Path, tracks: int) -> tuple[float, float, float]:
    return bert4rec(folder, tracks, sampled=True)


def _of_histories(network: torch.nn.Module, tracks: int) -> tuple[float, float, float]:
    data = HistoryDataset(_split(tracks).train, device="cpu")
    batch = next(data.batches(USERS, 0, shuffle=True))
    return _timed(lambda: network.loss(batch).backward())


def elsa(folder: Path, tracks: int) -> tuple[float, float, float]:
    return _of_histories(Elsa(tracks, WIDTH), tracks)


def hybrid(folder: Path, tracks: int) -> tuple[float, float, float]:
    return _of_histories(Hybrid(vectors_of(tracks, WIDTH, 0), tracks, WIDTH), tracks)


CASES = {
    "stage_0": ("rows", 1 << 20, stage_0),
    "stage_1": ("rows", 1 << 20, stage_1),
    "knn": ("tracks", 1 << 16, knn),
    "knn_users": ("users", 1 << 10, knn_users),
    "bert4rec": ("tracks", 1 << 16, bert4rec),
    "sampled": ("tracks", 1 << 16, sampled),
    "elsa_step": ("tracks", 1 << 16, elsa),
    "hybrid_step": ("tracks", 1 << 16, hybrid),
}


if __name__ == "__main__":
    run(main, ScaleConfig, __doc__)
