"""Convert the listening log to data/plays.pqt, with track ids replaced by their track_idx.

    python 0_get_plays_pqt.py --log userid_trackid_timestamp.tsv
    python 0_get_plays_pqt.py --root study --log userid_trackid_timestamp.tsv.bz2 --audio clips
    python 0_get_plays_pqt.py --root m4a --log userid_trackid_timestamp.tsv.bz2 \\
        --tracks trackid_sorted.csv                  # rows of embeddings as in the published study
    python 0_get_plays_pqt.py --root yambda --log listens.parquet --preset yambda
    python 0_get_plays_pqt.py --root own --log plays.csv --columns user=who,track=song,time=at \\
        --users text --time-zone Europe/Vienna

Reads   --log                 user_id, track_id, timestamp; tab separated with a header, columns in
                              any order, plain or .gz, .bz2, .zst; one row a play. Or csv, parquet,
                              a folder of parts, and any columns: docs/own-data.md
        trackid_sorted.csv    idx, trackid; where it is absent it is made from --tracks, a file of
                              its form, or from the names of the files in --audio, or else from the
                              ids of the log
Writes  trackid_sorted.csv    only where it is absent; ascending by code point
        data/plays.pqt        user_id int64, track_idx int32, timestamp timestamp[us] (UTC); one row
                              a play, in the order of the log
        data/users.pqt        with --users text: user_id, user; ascending by code point
        data/rejected.json    rows that could not be used: how many, why, the first line numbers
        data/plays.json       counts and the fingerprints of what was read; written last

Timestamps are `YYYY-MM-DD hh:mm:ss` with up to six digits of fraction; one with a zone is converted
to UTC. Rows with another number of fields, a user id or timestamp that is none, or an unknown track
are rejected; more than --max-rejected of them is an error. Numbers are times too: --time-format.

Takes 3 s and 250 MB for 20 million rows (840 MB of text) on two free cores; memory does not grow
with the log (benchmarks/bench_stages.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive, read_json, sha256, write_json
from core.late import options_are_read
from core.options import InputError, option, run
from core.trackids import audio_ids, read_trackids, read_trackids_file, write_trackids
from listening_log.without_pandas import hide_pandas

if options_are_read(__name__):
    from tqdm import tqdm

    from core.days import day_of
    from core.users import users_file, write_users
    from listening_log.large_tables import OWN, memory_bytes, scratch_folder, thread_count
    from listening_log.plays import (
        Conversion,
        convert_log,
        fingerprint,
        is_same_file,
        played_users,
        renumber,
    )
    from listening_log.shapes import Shape, shape_of
    from listening_log.sources import parts_of
    from listening_log.times import NAMES, TimeReader

RECORD = ("log", "trackid_sorted_sha256", "sha256", "bytes")  # what plays.json must hold
UNCHECKED = "the zst file has no checksum (zstd --check): what it lost, nobody can notice"
BLOCK = 4 << 20  # bytes of the log parsed at a time, when memory allows


@dataclass(frozen=True)
class PlaysConfig:
    log: Path = option(help="the listening log: a file, or a folder of its parts")
    root: Path = option(Path("."), "folder of trackid_sorted.csv and data/", outcome=False)
    tracks: Path | None = option(
        None, "csv of idx,trackid that the root starts from where it has none of its own"
    )
    audio: Path | None = option(None, "folder of TRACKID.mp3 (or ogg, flac, wav, m4a ...) files")
    pattern: str | None = option(None, "the files in --audio that are meant, such as '**/*.mp3'")
    preset: Literal["onion", "yambda", "lastfm1k", "lfm2b"] = option(
        "onion", "a published log, whose columns, times and users are known"
    )
    columns: tuple[str, ...] = option(
        (), "user=COLUMN,track=COLUMN,time=COLUMN,played=COLUMN: names, or numbers from 1"
    )
    separator: str | None = option(
        None, "tab, comma, semicolon, pipe, space or one character; auto: the first line tells"
    )
    header: bool | None = option(
        None, "whether the first line names the columns; auto: if --columns has names"
    )
    time_format: Literal["auto", "iso", "s", "ms", "us", "relative"] | None = option(
        None,
        "dates (iso), s, ms or us since 1970, relative: seconds since some day; auto: the first "
        "rows tell",
    )
    time_zone: str | None = option(None, "of dates that tell none, as Europe/Vienna; auto: UTC")
    min_played: float | None = option(
        None, "plays with less in the column played are left out; auto: 50 of yambda"
    )
    users: Literal["integers", "text"] | None = option(
        None, "user ids; text takes any and keeps them in data/users.pqt; auto: as of the preset"
    )
    max_rejected: float = option(0.01, "share of rows, 0 to 1, that may be unusable", outcome=False)
    memory: str = option("2GB", "most memory, from 300MB; less: smaller blocks", outcome=False)
    threads: int | None = option(None, "threads to use; auto: one a core", outcome=False)
    overwrite: bool = option(False, "make data/plays.pqt again", outcome=False)


def main(config: PlaysConfig) -> None:
    if not 0 <= config.max_rejected <= 1:
        raise InputError(f"--max-rejected must be between 0 and 1, got {config.max_rejected}")
    threads = thread_count(config.threads)
    block_bytes = (memory_bytes(config.memory) - OWN) // (24 * (threads + 2))
    if not config.log.exists():
        raise InputError(f"--log {config.log} is missing; expected a tab-separated file")
    parts_of(config.log)  # refuses what is no log before the root is made
    shape = shape_asked_for(config)
    data = config.root / "data"
    with exclusive(data / ".lock", f"{data}"), scratch_folder(data) as scratch:
        if not config.overwrite and is_finished(config):
            print(f"{data}/plays.pqt is finished; --overwrite makes it again")
        else:
            make_plays(config, shape, scratch, min(BLOCK, block_bytes), threads)


def shape_asked_for(config: PlaysConfig) -> "Shape":
    """Return how the log is laid out; what cannot be is an InputError."""
    return shape_of(
        config.preset,
        config.columns,
        config.separator,
        config.header,
        config.time_format,
        config.time_zone,
        config.min_played,
        config.users,
    )


def is_finished(config: PlaysConfig) -> bool:
    """Say whether plays.pqt is there; made from another log or other ids is an InputError."""
    shape = shape_asked_for(config)
    record, plays = config.root / "data" / "plays.json", config.root / "data" / "plays.pqt"
    if not record.exists() or not plays.exists():
        return False
    made = read_json(record, "python 0_get_plays_pqt.py --overwrite", RECORD)
    ids = config.root / "trackid_sorted.csv"
    if not ids.exists() or sha256(ids) != made["trackid_sorted_sha256"]:
        changed = f"{ids} has changed"
    elif not is_same_file(config.log, made["log"]):
        changed = f"--log {config.log} is not the log it was made from ({made['log']['path']})"
    elif made.get("shape", {}) != shape.told():
        changed = f"the log was read otherwise ({described(made.get('shape', {}))})"
    elif shape.text_users and not users_file(config.root).exists():
        changed = f"{users_file(config.root)} is missing"
    elif shape.text_users and sha256(users_file(config.root)) != made.get("users_sha256"):
        changed = f"{users_file(config.root)} is not the file that {record.name} tells of"
    elif plays.stat().st_size != made["bytes"] or sha256(plays) != made["sha256"]:
        changed = f"it is not the file that {record.name} tells of: it was damaged or replaced"
    else:
        return True
    raise InputError(f"{plays} is finished, but {changed}; --overwrite makes it again")


def described(told: dict) -> str:
    """Return in words what Shape.told says."""
    return ", ".join(f"{name} {value}" for name, value in told.items()) or "as Onion's log"


def make_plays(
    config: PlaysConfig, shape: "Shape", scratch: Path, block_bytes: int, threads: int
) -> None:
    """Write every file of the module docstring."""
    root, data = config.root, config.root / "data"
    has_ids = (root / "trackid_sorted.csv").exists()
    if has_ids:
        ids = read_trackids(root)
    elif config.tracks:
        ids = read_trackids_file(config.tracks)
    else:
        ids = audio_ids(config.audio, config.pattern) if config.audio else None
    if has_ids and config.tracks and ids != read_trackids_file(config.tracks):
        raise InputError(
            f"{root}/trackid_sorted.csv holds other ids than --tracks {config.tracks}; leave "
            "--tracks away, or use a new --root"
        )
    with atomic_path(data / "plays.pqt") as target, fingerprint(config.log) as log:
        size = sum(part.stat().st_size for part in parts_of(config.log))
        directly = ids is not None and not shape.text_users
        users = None
        with tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
            found = convert_log(
                config.log,
                target if directly else scratch / "plays.pqt",
                ids,
                block_bytes=block_bytes,
                threads=threads,
                max_rejected=config.max_rejected,
                progress=lambda position: bar.update(position - bar.n),
                shape=shape,
            )
        check_rejected(config, found)
        if not directly:
            first = scratch / "plays.pqt"
            new = renumber(first, target, found.ids if ids is None else None, found.user_ids)
            ids = ids or new
            users = played_users(first, found.user_ids) if shape.text_users else None
        made_from = log()
        if not has_ids:
            write_trackids(root, ids)
        # All of the old plays goes before any of the new comes: a kill in between leaves no plays
        # beside the names of other users.
        for old in (data / "plays.json", data / "plays.pqt", users_file(root)):
            old.unlink(missing_ok=True)
        if users is not None:
            write_users(root, users)
    record = {
        "rows": found.rows,
        "users": found.users,
        "tracks": found.tracks,
        "first": found.first,
        "last": found.last,
        "rejected": found.rejected.total,
        "max_rejected": config.max_rejected,
        "log": made_from,
        "trackid_sorted_sha256": sha256(root / "trackid_sorted.csv"),
        "sha256": sha256(data / "plays.pqt"),
        "bytes": (data / "plays.pqt").stat().st_size,
    }
    if users is not None:
        record["users_sha256"] = sha256(users_file(root))
    if shape.told():
        record |= {"shape": shape.told(), "times": found.time_format}
    elif found.time_format != "iso":
        record["times"] = found.time_format
    if found.left_out:
        record["left_out"] = found.left_out
    write_json(data / "plays.json", record)
    print(f"plays     {found.rows:>13,} rows {found.users:>10,} users {found.tracks:>10,} tracks")
    print(f"rejected  {found.rejected.total:>13,} rows {found.rejected}".rstrip())
    if shape.min_played is not None:
        print(f"left out  {found.left_out:>13,} rows played less than {shape.min_played:g}")
    relative = found.time_format == "relative"
    first, last = (day_of(time) if relative else time for time in (found.first, found.last))
    print(f"from      {first} to {last}{'' if relative else ' UTC'}")
    if found.time_format != "iso":
        told = ", as the first rows say (--time-format)" if shape.time_format == "auto" else ""
        print(f"times     {NAMES[found.time_format]}{told}")
    if found.unchecked:
        print(f"note      {UNCHECKED}")


def check_rejected(config: PlaysConfig, found: "Conversion") -> None:
    """Write data/rejected.json; too many rejected rows, or no plays at all, are an InputError."""
    rejected, path = found.rejected, config.root / "data" / "rejected.json"
    reasons = {
        reason: {"rows": count, "first_lines": rejected.lines[reason]}
        for reason, count in rejected.counts.items()
    }
    told = {"lines": found.lines, "rejected": rejected.total, "reasons": reasons}
    if found.left_out:
        told["left_out"] = {"played too little": found.left_out}
    write_json(path, told)
    if not found.lines:
        raise InputError(f"--log {config.log} has a header and no rows; expected a play a line")
    if found.left_out and not found.rows and not rejected.total:
        raise InputError(
            f"--log {config.log}: all {found.lines:,} rows were played less than --min-played "
            "asks for; is it the right column, and a share of 100 or of 1?"
        )
    if rejected.total > config.max_rejected * found.lines or not found.rows:
        why = rejected.explain(TimeReader(found.time_format).expected())
        raise InputError(
            f"--log {config.log}: {rejected.total:,} of the {found.lines:,} rows read cannot be "
            f"used, more than --max-rejected {config.max_rejected:g} allows: {rejected}; "
            f"{why}; see {path}" + (f"; {UNCHECKED}" if found.unchecked else "")
        )


if __name__ == "__main__":
    hide_pandas()
    run(main, PlaysConfig, __doc__)
