"""Convert the listening log to data/plays.pqt, with track ids replaced by their track_idx.

    python 0_get_plays_pqt.py --log userid_trackid_timestamp.tsv
    python 0_get_plays_pqt.py --root study --log userid_trackid_timestamp.tsv.bz2 --audio clips
    python 0_get_plays_pqt.py --root m4a --log userid_trackid_timestamp.tsv.bz2 \\
        --tracks trackid_sorted.csv                  # rows of embeddings as in the published study

Reads   --log                 user_id, track_id, timestamp; tab separated with a header, columns in
                              any order, plain or .gz, .bz2, .zst; one row a play
        trackid_sorted.csv    idx, trackid; where it is absent it is made from --tracks, a file of
                              its form, or from the names of the files in --audio, or else from the
                              ids of the log
Writes  trackid_sorted.csv    only where it is absent; ascending by code point
        data/plays.pqt        user_id int64, track_idx int32, timestamp timestamp[us] (UTC); one row
                              a play, in the order of the log
        data/rejected.json    rows that could not be used: how many, why, the first line numbers
        data/plays.json       counts and the fingerprints of what was read; written last

Timestamps are `YYYY-MM-DD hh:mm:ss` with up to six digits of fraction; one with a zone is converted
to UTC. Rows with another number of fields, a user id or timestamp that is none, or an unknown track
are rejected; more than --max-rejected of them is an error.

Takes 3 s and 250 MB for 20 million rows (840 MB of text) on two free cores; memory does not grow
with the log (benchmarks/bench_stages.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive, read_json, sha256, write_json
from core.late import options_are_read
from core.options import InputError, option, refuse_special, run
from core.trackids import audio_ids, read_trackids, read_trackids_file, write_trackids
from listening_log.without_pandas import hide_pandas

if options_are_read(__name__):
    from tqdm import tqdm

    from listening_log.large_tables import OWN, memory_bytes, scratch_folder, thread_count
    from listening_log.plays import Conversion, convert_log, fingerprint, is_same_file, renumber

RECORD = ("log", "trackid_sorted_sha256", "sha256", "bytes")  # what plays.json must hold
UNCHECKED = "the zst file has no checksum (zstd --check): what it lost, nobody can notice"
BLOCK = 4 << 20  # bytes of the log parsed at a time, when memory allows


@dataclass(frozen=True)
class PlaysConfig:
    log: Path = option(help="the listening log")
    root: Path = option(Path("."), "folder of trackid_sorted.csv and data/", outcome=False)
    tracks: Path | None = option(
        None, "csv of idx,trackid that the root starts from where it has none of its own"
    )
    audio: Path | None = option(None, "folder of TRACKID.mp3 (or ogg, flac, wav, m4a ...) files")
    pattern: str | None = option(None, "the files in --audio that are meant, such as '**/*.mp3'")
    max_rejected: float = option(0.01, "share of rows, 0 to 1, that may be unusable", outcome=False)
    memory: str = option("2GB", "most memory, from 300MB; less: smaller blocks", outcome=False)
    threads: int | None = option(None, "threads to use; auto: one a core", outcome=False)
    overwrite: bool = option(False, "make data/plays.pqt again", outcome=False)


def main(config: PlaysConfig) -> None:
    if not 0 <= config.max_rejected <= 1:
        raise InputError(f"--max-rejected must be between 0 and 1, got {config.max_rejected}")
    threads = thread_count(config.threads)
    block_bytes = (memory_bytes(config.memory) - OWN) // (24 * (threads + 2))
    if not config.log.is_file():
        refuse_special(config.log, f"--log {config.log}")
        raise InputError(f"--log {config.log} is missing; expected a tab-separated file")
    data = config.root / "data"
    with exclusive(data / ".lock", f"{data}"), scratch_folder(data) as scratch:
        if not config.overwrite and is_finished(config):
            print(f"{data}/plays.pqt is finished; --overwrite makes it again")
        else:
            make_plays(config, scratch, min(BLOCK, block_bytes), threads)


def is_finished(config: PlaysConfig) -> bool:
    """Say whether plays.pqt is there; made from another log or other ids is an InputError."""
    record, plays = config.root / "data" / "plays.json", config.root / "data" / "plays.pqt"
    if not record.exists() or not plays.exists():
        return False
    made = read_json(record, "python 0_get_plays_pqt.py --overwrite", RECORD)
    ids = config.root / "trackid_sorted.csv"
    if not ids.exists() or sha256(ids) != made["trackid_sorted_sha256"]:
        changed = f"{ids} has changed"
    elif not is_same_file(config.log, made["log"]):
        changed = f"--log {config.log} is not the log it was made from ({made['log']['path']})"
    elif plays.stat().st_size != made["bytes"] or sha256(plays) != made["sha256"]:
        changed = f"it is not the file that {record.name} tells of: it was damaged or replaced"
    else:
        return True
    raise InputError(f"{plays} is finished, but {changed}; --overwrite makes it again")


def make_plays(config: PlaysConfig, scratch: Path, block_bytes: int, threads: int) -> None:
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
        with tqdm(total=config.log.stat().st_size, unit="B", unit_scale=True, disable=None) as bar:
            found = convert_log(
                config.log,
                target if ids else scratch / "plays.pqt",
                ids,
                block_bytes=block_bytes,
                threads=threads,
                max_rejected=config.max_rejected,
                progress=lambda position: bar.update(position - bar.n),
            )
        check_rejected(config, found)
        if ids is None:
            ids = renumber(scratch / "plays.pqt", target, found.ids)
        made_from = log()
        if not has_ids:
            write_trackids(root, ids)
        (data / "plays.json").unlink(missing_ok=True)
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
    write_json(data / "plays.json", record)
    print(f"plays     {found.rows:>13,} rows {found.users:>10,} users {found.tracks:>10,} tracks")
    print(f"rejected  {found.rejected.total:>13,} rows {found.rejected}".rstrip())
    print(f"from      {found.first} to {found.last} UTC")
    if found.unchecked:
        print(f"note      {UNCHECKED}")


def check_rejected(config: PlaysConfig, found: Conversion) -> None:
    """Write data/rejected.json; too many rejected rows, or no plays at all, are an InputError."""
    rejected, path = found.rejected, config.root / "data" / "rejected.json"
    reasons = {
        reason: {"rows": count, "first_lines": rejected.lines[reason]}
        for reason, count in rejected.counts.items()
    }
    write_json(path, {"lines": found.lines, "rejected": rejected.total, "reasons": reasons})
    if not found.lines:
        raise InputError(f"--log {config.log} has a header and no rows; expected a play a line")
    if rejected.total > config.max_rejected * found.lines or not found.rows:
        raise InputError(
            f"--log {config.log}: {rejected.total:,} of the {found.lines:,} rows read cannot be "
            f"used, more than --max-rejected {config.max_rejected:g} allows: {rejected}; "
            f"{rejected.explain()}; see {path}" + (f"; {UNCHECKED}" if found.unchecked else "")
        )


if __name__ == "__main__":
    hide_pandas()
    run(main, PlaysConfig, __doc__)
