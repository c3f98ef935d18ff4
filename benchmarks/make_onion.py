"""Make every file of open data that the study reads, in its format and size, of made-up numbers.

    python -m benchmarks.make_onion --out made                          # full size: hours, 6 GB
    python -m benchmarks.make_onion --out made --only maest,genres      # some of it
    python -m benchmarks.make_onion --out small --scale 0.001           # for tests: seconds
    (cd made && python -m http.server 8000)                             # serve it
    bash run_all.sh --onion --sources made/data_sources.yaml --root onion

Writes  OUT/FILE                 for each entry of data_sources.yaml that is made, under its name
        OUT/data_sources.yaml    the list of these, with their sizes and checksums; written last

The log has 252,984,396 plays as benchmarks/make_log.py makes them; the tables 109,269 rows, among
them most tracks of the log (98.5 %), in an order that is not that of the ids, with numbers of nine
digits as float32 has them. The vectors have eight tastes in common, which listeners do not follow:
that a recommender is right cannot be seen here, only what it costs. The published split is made of
this log, so its counts are not the published ones. Everything is a function of --seed and --scale.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks.make_log import ROWS, TRACKS, USERS, make_plays, track_ids, write_tables
from core.artifacts import atomic_path, write_table
from core.options import InputError, option, run
from core.trackids import read_trackids
from listening_log.plays import convert_log
from listening_log.split_plays import PROTOCOLS, Rule, split_plays
from open_data.sources import Source, read_sources
from open_data.transfer import verify

ALL_TRACKS = 109_269  # rows of a table
COVERED = 0.985  # of the log's tracks
GENRES, FACTORS = 685, 8
RELEASED = "2019-02-01"  # of the tracks that a cold test is about
MADE = ("log", "mfcc_stats", "maest", "jukebox", "musicnn", "gems", "genres", "artists", "journal")
HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class OnionConfig:
    out: Path = option(help="folder to write")
    only: tuple[str, ...] = option(MADE, f"what to make, of {', '.join(MADE)}")
    scale: float = option(1.0, "share of the plays; of tracks and users its square root")
    plays: int | None = option(None, "rows of the log; auto: by --scale")
    seed: int = option(0, "of everything that is drawn")
    address: str = option("http://127.0.0.1:8000", "where the files will be served")
    start: str = option("2005-02-14", "first day of the log; late ones for small logs")


def main(config: OnionConfig) -> None:
    unknown = [name for name in config.only if name not in MADE]
    if unknown or not 0 < config.scale <= 1:
        raise InputError(f"--only knows {', '.join(MADE)}; --scale is above 0 and at most 1")
    sources = read_sources(HERE / "data_sources.yaml")
    for name in config.only:
        if name == "journal":
            make_journal(config)
        elif not (config.out / sources[name].file).exists():
            make(config, sources[name])
        print(f"{name:<12} is made", flush=True)
    write_list(config, sources)


def ids_of(config: OnionConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of the log's tracks, and of the rows of a table, in its order."""
    share = config.scale**0.5  # else a small log's listeners have soon played every track
    n_log, n_all = round(TRACKS * share), round(ALL_TRACKS * share)
    log = track_ids(np.random.default_rng(config.seed), n_log)
    rng = np.random.default_rng([config.seed, 1])
    others = np.setdiff1d(track_ids(rng, n_all), log)
    covered = rng.permutation(log)[: round(COVERED * len(log))]
    return log, rng.permutation(np.concatenate([covered, others])[:n_all])


def make(config: OnionConfig, source: Source) -> None:
    """Write one file."""
    path = config.out / source.file
    if source.group == "log":
        rows = config.plays or max(2_000, round(ROWS * config.scale))
        ids = ids_of(config)[0]
        users = round(USERS * config.scale**0.5)
        plays = make_plays(rows, config.seed, config.start, len(ids), users)
        plays = with_new_tracks(plays, ids)
        write_tables(path, b"user_id\ttrack_id\ttimestamp\n", plays, rows)
        return
    _, ids = ids_of(config)
    if source.name == "artists":
        write_artists(path, ids)
        return
    rng = np.random.default_rng([config.seed, *source.name.encode()])
    genres = source.name == "genres"
    width = GENRES if genres else source.width
    names = [f"genre {at}" if genres else str(at) for at in range(width)]
    tables = weights(ids, names, rng) if genres else vectors(ids, names, config.seed, rng)
    write_tables(
        path, "\t".join(["id", *names, ""]).rstrip("\t").encode() + b"\n", tables, len(ids)
    )


def with_new_tracks(plays: Iterator[pa.Table], ids: np.ndarray) -> Iterator[pa.Table]:
    """Yield the plays with every 97th track unheard until RELEASED: its neighbour was, before."""
    new = pa.array(ids[:-1][::97])
    before = pa.array(ids[1:][::97])
    for table in plays:
        at = pc.index_in(table["track_id"], new)
        early = pc.less(table["timestamp"], RELEASED)
        tracks = pc.if_else(
            pc.and_(pc.is_valid(at), early), before.take(at.combine_chunks()), table["track_id"]
        )
        yield table.set_column(1, "track_id", tracks)


def vectors(ids, names, seed: int, rng) -> Iterator[pa.Table]:
    """Yield rows whose numbers are a mixture of FACTORS hidden ones and noise."""
    hidden = np.random.default_rng([seed, 2]).standard_normal((len(ids), FACTORS))
    mixing = rng.standard_normal((FACTORS, len(names)))
    rows = max(1, 4_000_000 // len(names))
    for first in range(0, len(ids), rows):
        part = slice(first, first + rows)
        noise = rng.standard_normal((len(ids[part]), len(names)))
        numbers = (hidden[part] @ mixing + noise).astype(np.float32)
        yield pa.table(
            [pa.array(ids[part]), *(pa.array(numbers[:, at]) for at in range(len(names)))],
            ["id", *names],
        )


def weights(ids, names, rng) -> Iterator[pa.Table]:
    """Yield rows with one to four genres, of uneven frequency, each with a weight."""
    shares = 1 / np.arange(1, len(names) + 1)
    for first in range(0, len(ids), 4_000):
        part = ids[first : first + 4_000]
        table = np.zeros((len(part), len(names)))
        for row, n in enumerate(rng.integers(1, 5, len(part))):
            chosen = rng.choice(len(names), n, replace=False, p=shares / shares.sum())
            table[row, chosen] = rng.random(n) + 0.01
        columns = (pa.array(np.round(table[:, at], 6)) for at in range(len(names)))
        yield pa.table([pa.array(part), *columns], ["id", *names])


def write_artists(path: Path, ids: np.ndarray) -> None:
    """Write the archive: a json an artist, each with some of the tracks."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number, first in enumerate(range(0, round(0.65 * len(ids)), 10)):
            about = {
                "mbid": f"{number:08d}",
                "artist_info": {"artist": {"name": f"Artist {number}", "genres": []}},
                "music4all_onion_id": ids[first : first + 10].tolist(),
            }
            archive.writestr(f"artists_json/{number:08d}.json", json.dumps(about))


def make_journal(config: OnionConfig) -> None:
    """Split the made log as the journal did, under the names of the published files."""
    log, folder = config.out / "userid_trackid_timestamp.tsv.bz2", config.out / "journal"
    if (folder / "train.pqt").exists():
        return
    if not log.exists():
        raise InputError(f"{log} is missing; the published split is made of it: --only log,journal")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=config.out) as name:
        scratch, ids = Path(name), ids_of(config)[0].tolist()
        convert_log(log, scratch / "plays.pqt", ids, block_bytes=4 << 20, threads=2, max_rejected=0)
        dates = asdict(PROTOCOLS["journal"])
        first, test, until = (dates.pop(n) for n in ("train_from", "test_from", "test_until"))
        rule = Rule.parse(first, test, until, seed=42, **dates)
        (scratch / "work").mkdir()
        parts = {part: scratch / f"{part}.pqt" for part in rule.parts}
        limits = {"memory": 1_500_000_000, "threads": 2}
        split_plays(scratch / "plays.pqt", rule, parts, scratch / "work", **limits)
        for part, path in parts.items():
            table = pq.read_table(path)
            tracks = table["track_idx"].cast(pa.int64())
            table = table.set_column(1, "track_id", tracks)
            name = {"test": "hot_test"}.get(part, part)
            write_table(folder / f"{name}.pqt", table)
    lines = ["idx,trackid", *(f"{at},{track}" for at, track in enumerate(ids))]
    (folder / "trackid_sorted.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read_trackids(folder)


def write_list(config: OnionConfig, sources: dict[str, Source]) -> None:
    """Write the list of what is there, as get_data.py reads it."""
    entries = {}
    for name, source in sources.items():
        path = config.out / source.file
        if path.exists():
            bare = replace(source, md5=None, git=None, sha256=None, bytes=None)
            facts = verify(bare, path)
            entry = asdict(replace(bare, bytes=facts["bytes"], sha256=facts["sha256"]))
            entry["addresses"] = [f"{config.address.rstrip('/')}/{source.file}"]
            entry["licence"] = "none needed: made up"
            del entry["name"]
            entries[name] = {key: value for key, value in entry.items() if value is not None}
            print(f"{source.file:<34} {facts['bytes']:>15,} bytes")
    with atomic_path(config.out / "data_sources.yaml") as temporary:
        temporary.write_text(yaml.safe_dump({"sources": entries}, sort_keys=False))


if __name__ == "__main__":
    run(main, OnionConfig, __doc__)
