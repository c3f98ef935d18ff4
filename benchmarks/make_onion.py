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
that a recommender is right cannot be seen here, only what it costs. The published split is made by
itself, not of the log, with the published rows, users and tracks of every part. Everything is a
function of --seed, --scale and --plays.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from benchmarks.make_log import ROWS, TRACKS, USERS, make_plays, track_ids, write_tables
from core.artifacts import atomic_path, write_table
from core.options import InputError, option, run
from core.trackids import read_trackids
from listening_log.published_split import COUNTS, FILES
from listening_log.split_files import contains
from open_data.sources import Source, read_sources
from open_data.transfer import verify

ALL_TRACKS = 109_269  # rows of a table
COVERED = 0.985  # of the log's tracks
GENRES, FACTORS = 685, 8
KEY = 1 << 20  # a pair as one number: user * KEY + track
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
    """Write the published split's five files, with its rows, users and tracks of every part."""
    folder = config.out / "journal"
    if (folder / "trackid_sorted.csv").exists():
        return
    ids = ids_of(config)[0].tolist()
    rng = np.random.default_rng([config.seed, 3])
    sizes = {part: _scaled(numbers, config.scale) for part, numbers in COUNTS.items()}
    tracks = rng.permutation(len(ids))
    known, cold = np.split(tracks[: sizes["train"][2] + sizes["cold_test"][2]], [sizes["train"][2]])
    users = rng.permutation(USERS)[: sizes["train"][1]]
    validating, others = np.split(rng.permutation(users), [sizes["val"][1]])
    chosen = {"train": users, "val": validating, "test": others, "cold_test": others}
    heard = np.zeros(0, np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    for part, (n_rows, n_users, n_tracks) in sizes.items():
        pool = cold if part == "cold_test" else rng.permutation(known)[:n_tracks]
        keys = _pairs(rng, chosen[part][:n_users], pool, n_rows, heard)
        if part == "train":
            heard = np.sort(keys)
        first, days = ("2018-02-01", 365) if part == "train" else ("2019-02-01", 28)
        seconds = rng.integers(0, days * 86_400, n_rows)
        table = {
            "user_id": keys // KEY,
            "track_id": keys % KEY,
            "timestamp": np.datetime64(first, "ns") + seconds.astype("timedelta64[s]"),
            "count": rng.geometric(0.5, n_rows),
        }
        write_table(folder / f"{FILES[part]}.pqt", pa.table(table))
    lines = ["idx,trackid", *(f"{at},{track}" for at, track in enumerate(ids))]
    (folder / "trackid_sorted.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read_trackids(folder)


def _scaled(numbers: dict, scale: float) -> tuple[int, int, int]:
    """Return rows, users and tracks of a part at a scale; each user and track needs a row."""
    users, tracks = (max(4, round(numbers[what] * scale**0.5)) for what in ("users", "tracks"))
    return max(round(numbers["rows"] * scale), users + tracks), users, tracks


def _pairs(rng, users: np.ndarray, tracks: np.ndarray, n: int, heard: np.ndarray) -> np.ndarray:
    """Return n distinct keys user * KEY + track, none of `heard`; every user and track occurs."""

    def drawn(some_users, some_tracks) -> np.ndarray:
        return np.asarray(some_users, np.int64) * KEY + some_tracks

    def popular(count: int) -> np.ndarray:
        return tracks[(len(tracks) * rng.random(count) ** 1.5).astype(int)]

    of_tracks = drawn(rng.choice(users, len(tracks)), tracks)
    while (bad := contains(heard, of_tracks)).any():
        of_tracks[bad] = drawn(rng.choice(users, bad.sum()), tracks[bad])
    of_users = drawn(users, popular(len(users)))
    while (bad := contains(heard, of_users)).any():
        of_users[bad] = drawn(users[bad], popular(bad.sum()))
    keys = np.unique(np.concatenate([of_tracks, of_users]))
    while len(keys) < n:
        more = np.unique(drawn(rng.choice(users, n), popular(n)))
        more = more[~contains(heard, more) & ~contains(np.sort(keys), more)]
        keys = np.concatenate([keys, rng.permutation(more)[: n - len(keys)]])
    return keys


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
