"""Stages 0 and 1 in plain pandas, in the steps of the published scripts, without any check.

    python -m benchmarks.plain_stages --stage 0 --log log.tsv --root R    # R/trackid_sorted.csv
    python -m benchmarks.plain_stages --stage 1 --root R

Reads and writes the files of the real stages. As published, the log is read in chunks of a million
rows, put together in memory and written with its track ids beside their indices, and stage 1 reads
all of it; unlike them, stage 0 reads the log only once, and stage 1 groups by the index.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.options import option, run

CHUNK = 1_000_000  # rows of the log read at a time


@dataclass(frozen=True)
class PlainConfig:
    stage: int = option(help="0 or 1")
    root: Path = option(help="folder of trackid_sorted.csv and data/")
    log: Path | None = option(None, "the listening log, for stage 0")
    train_from: str = option("2019-02-20", "first day of train")
    test_from: str = option("2020-02-20", "first day of val and test")
    seed: int = option(42, "decides which users validate")


def main(config: PlainConfig) -> None:
    (config.root / "data").mkdir(exist_ok=True)
    [get_plays, split][config.stage](config)


def get_plays(config: PlainConfig) -> None:
    ids = pd.read_csv(config.root / "trackid_sorted.csv").set_index("trackid").idx
    chunks = []
    for chunk in pd.read_csv(config.log, sep="\t", chunksize=CHUNK, parse_dates=["timestamp"]):
        chunk["track_idx"] = chunk["track_id"].map(ids)
        chunks.append(chunk)
    pd.concat(chunks).to_parquet(config.root / "data" / "plays.pqt", index=False)


def split(config: PlainConfig) -> None:
    data = config.root / "data"
    plays = pd.read_parquet(data / "plays.pqt")
    plays = plays[plays.timestamp >= config.train_from]
    train = compress(plays[plays.timestamp < config.test_from])
    pairs = compress(plays)
    held = pairs[pairs.timestamp >= config.test_from]
    held = held[held.user_id.isin(train.user_id) & held.track_idx.isin(train.track_idx)]
    users = np.sort(held.user_id.unique())
    order = np.random.RandomState(config.seed).permutation(len(users))  # noqa: NPY002
    tests = held.user_id.isin(users[order[: -(-len(users) // 2)]])
    for part, table in {"train": train, "val": held[~tests], "test": held[tests]}.items():
        table.to_parquet(data / f"{part}.pqt", index=False)


def compress(plays: pd.DataFrame) -> pd.DataFrame:
    """Return one row a (user, track): first timestamp and number of plays."""
    grouped = plays.groupby(["user_id", "track_idx"])
    return grouped.timestamp.agg(timestamp="min", count="size").reset_index()


if __name__ == "__main__":
    run(main, PlainConfig, __doc__)
