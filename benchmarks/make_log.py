"""Make a listening log of any size with the shape of the real one.

    python -m benchmarks.make_log --out log.tsv --rows 20000000
    python -m benchmarks.make_log --out log.tsv.bz2             # as many rows as the real log

Writes  --out    user_id, track_id, timestamp; tab separated, in the order of time; packed if its
                 name ends in .gz, .bz2 or .zst

Like Music4All-Onion's: 2,123 plays a user on average, few users with most of them; 56,512 tracks,
few of them with most plays; users come and go between 2005 and March 2020 and play the same tracks
again and again. A log of fewer rows has fewer users, each with as many plays. The rows are a
function of --rows and --seed.
"""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from tqdm import tqdm

from core.artifacts import atomic_path
from core.options import InputError, option, run

ROWS, USERS, TRACKS = 252_984_396, 119_140, 56_512  # of the real log
CHUNK = 1_000_000  # rows made at a time
START, END = np.datetime64("2005-02-14", "s"), np.datetime64("2020-03-20", "s")
# Plays of each year from START on, relative to the others.
YEARS = np.array([0.5, 2, 4, 6, 8, 9, 11, 13, 13, 10, 7, 5, 4, 4, 6])
YEARS_OF_A_USER = 2.5  # mean time between first and last play
POOL = 0.25  # tracks a user chooses from, for each play
LETTERS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "S1")


@dataclass(frozen=True)
class LogConfig:
    out: Path = option(help="file to write")
    rows: int = option(ROWS, "plays")
    seed: int = option(0, "of everything that is drawn")
    start: str = option("2005-02-14", "first day; a late one puts all plays within the split")


def main(config: LogConfig) -> None:
    if config.rows < 1:
        raise InputError(f"--rows must be at least 1, got {config.rows}")
    write_tables(
        config.out,
        b"user_id\ttrack_id\ttimestamp\n",
        make_plays(config.rows, config.seed, config.start),
        config.rows,
    )
    print(f"{config.out}  {config.rows:,} rows  {config.out.stat().st_size:,} bytes")


def write_tables(out: Path, header: bytes, tables: Iterator[pa.Table], rows: int) -> None:
    """Write a header and the tables as tab-separated text, packed as the file's name says."""
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": _zstd}.get(out.suffix, bytes)
    with atomic_path(out) as temporary, open(temporary, "wb") as file:
        file.write(pack(header))
        bar = tqdm(total=rows, unit="row", unit_scale=True, disable=None, desc=out.name)
        for n, packed in _in_threads(pack, tables):
            file.write(packed)
            bar.update(n)


def track_ids(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return n ids of 16 characters, distinct and ascending by code point."""
    return np.unique(rng.choice(LETTERS, (n, 16)).view("S16").ravel()).astype(str)


def make_plays(
    rows: int, seed: int, start: str, tracks: int = TRACKS, users: int | None = None
) -> Iterator[pa.Table]:
    """Yield the plays in tables of `CHUNK` rows, in the order of time.

    Their track ids are the first that `track_ids` draws from the seed.
    """
    rng = np.random.default_rng(seed)
    n_users = users or max(20, round(rows * USERS / ROWS))
    ids = pa.array(track_ids(rng, tracks))
    user_ids = rng.permutation(n_users)

    # Everything in time is drawn in shares of all plays, 0 to 1, and dated at the end.
    years = (END - START).astype(float) / (365.25 * 86_400)
    passed = np.append(0, np.cumsum(YEARS) / YEARS.sum())
    began = (np.datetime64(start, "s") - START) / (END - START) * len(YEARS)
    before = np.interp(began, np.arange(len(passed)), passed)
    middle = rng.random(n_users)
    length = rng.exponential(YEARS_OF_A_USER / years, n_users) + 0.01
    weights = rng.lognormal(0, 1.3, n_users)
    plays = rows * weights * length / (weights * length).sum()
    pool = np.maximum(2, POOL * plays)

    for first in range(0, rows, CHUNK):
        n = min(CHUNK, rows - first)
        share = (first + np.sort(rng.random(n)) * n) / rows
        active = np.flatnonzero(np.abs(middle - share[n // 2]) < length / 2 + 0.01)
        chosen = rng.choice(active, n, p=weights[active] / weights[active].sum())
        favourite = (pool[chosen] * rng.random(n) ** 2).astype(np.uint64)
        taste = _hash(chosen.astype(np.uint64) << np.uint64(32) | favourite)
        tracks = (len(ids) * taste**1.8).astype(np.int64) * 7_919 % len(ids)
        years_in = np.interp(before + (1 - before) * share, passed, np.arange(len(passed))) / len(
            YEARS
        )
        times = START.astype(np.int64) + (years_in * (END - START).astype(float)).astype(np.int64)
        yield pa.table(
            {
                "user_id": user_ids[chosen],
                "track_id": ids.take(pa.array(tracks)),
                "timestamp": pa.array(times).cast(pa.timestamp("s")).cast(pa.string()),
            }
        )


def _hash(values: np.ndarray) -> np.ndarray:
    """Return a number in [0, 1) for each uint64, always the same (the finaliser of splitmix64)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return (values >> np.uint64(11)) / 2.0**53


def _in_threads(
    pack: Callable[[bytes], bytes], tables: Iterator[pa.Table]
) -> Iterator[tuple[int, bytes]]:
    """Yield (rows, packed text) of the tables, in their order, two of them packed at a time."""

    def work(table: pa.Table) -> tuple[int, bytes]:
        sink = pa.BufferOutputStream()
        options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        pa.csv.write_csv(table, sink, options)
        return len(table), pack(sink.getvalue())

    with ThreadPoolExecutor(2) as pool:
        waiting = []
        for table in tables:
            waiting.append(pool.submit(work, table))
            if len(waiting) > 2:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


if __name__ == "__main__":
    run(main, LogConfig, __doc__)
