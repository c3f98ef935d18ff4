"""The loop every backbone runs in: decode, batch, embed, check, resume, write.

A backbone is one file: a `Backbone` with its facts, `load` and `embed`, and `main(ThatBackbone)`
under the guard. What a run computed is kept in parts (see parts.py), so that the same command goes
on after a kill, and computes only the mended files after failures. The matrix is written when
every row is there, its json last. The parts can be computed by several processes (see shards.py).
"""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import resource
import sys
import time
from pathlib import Path

import numpy as np

from core.artifacts import atomic_path, exclusive
from core.options import InputError, WorkError, run
from extract_item_embeddings.engine.backbone import Backbone, ExtractConfig
from extract_item_embeddings.engine.batches import Batches
from extract_item_embeddings.engine.decoding import CANCELLED, LOUD, OUT_OF_RANGE, SILENT
from extract_item_embeddings.engine.finished import audio_hash, write
from extract_item_embeddings.engine.jobs import (
    Job,
    begin,
    follow,
    is_computed,
    is_finished,
    replaces_finished,
)
from extract_item_embeddings.engine.parts import PENDING
from extract_item_embeddings.engine.perturb import failures
from extract_item_embeddings.engine.progress import Progress
from extract_item_embeddings.engine.shards import (
    array_expression,
    shard_index,
    shard_lock,
    shard_windows,
)

MEANING = {
    CANCELLED: "the loudest channel was taken",
    OUT_OF_RANGE: f"samples beyond {LOUD:g} times full scale, taken as they are",
    "silent": "failed, nothing is to be heard in the clip",
}
SHOWN = 10  # failed tracks that are printed; failed.csv or the json lists all


def main(backbone_class: type[Backbone]) -> None:
    """Run the extraction from the command line; what a backbone's file ends in."""
    doc = sys.modules[backbone_class.__module__].__doc__
    run(functools.partial(extract, backbone_class), backbone_class.config_class, doc)


def extract(backbone_class: type[Backbone], config: ExtractConfig) -> None:
    """Write embeddings/NAME.npy and NAME.json for every track of trackid_sorted.csv.

    With --shards one part of it is computed, or all parts are joined.
    """
    if config.shards and not config.join:
        shard_index(config.shards, config.shard)  # before anything is looked at
    extract_job(Job.prepare(backbone_class, config))


def extract_job(job: Job) -> None:
    """Do what the job's options ask for, as `extract` says."""
    config = job.config
    if config.shards and not config.join:
        extract_shard(job, shard_index(config.shards, config.shard))
    else:
        extract_all(job, join=config.join)


def extract_all(job: Job, *, join: bool) -> None:
    """Write the embedding: compute what is missing, or --join what shards have computed."""
    device = "" if join else job.backbone.pick_device(job.config.device)
    parts, config = job.parts, job.config
    with exclusive(job.matrix.parent / f".{job.matrix.stem}.lock", str(job.matrix)):
        if not (join and replaces_finished(job)) and is_finished(job):
            say_finished(job)
            return
        computed, seconds = 0, 0.0
        if join:
            require_shards(job)
        else:
            if not is_computed(job):
                job.load(device)  # before anything is touched
            begin(job)
            computed, seconds = compute(job, parts.windows(), job.marks, device)
        windows = parts.windows()
        failed = failures_of(job, windows)
        remarks = remarks_of(job, windows, failed)
        report(failed, len(job.ids), parts.folder / "failed.csv", config.missing)
        audio = {"audio_sha256": audio_hash(job.marks, job.ids, failed)}
        what = {"missing": config.missing, "failed": failed, "remarks": remarks}
        write(parts, job.matrix, {**job.plan, **audio, **what})

    now = "" if join else f", {computed:,} now in {seconds:,.1f} s on {device}"
    print(f"tracks {len(job.ids):>12,}{now}")
    print(f"failed {len(failed):>12,}")
    print_remarks(remarks)
    print(f"wrote  {job.matrix} float32 ({len(job.ids):,}, {parts.width:,})")


def extract_shard(job: Job, shard: int) -> None:
    """Compute one shard; it stays in the parts until all are joined."""
    device = job.backbone.pick_device(job.config.device)
    parts, name = job.parts, f"shard {shard} of {job.parts.shards}"
    # looked at before the lock, so that shards do not wait for each other
    if job.record.exists() and not job.config.overwrite:
        _ = job.marks
    elif not is_computed(job, shard):
        job.load(device)  # before anything is touched

    def start(alone: bool) -> bool:
        if is_finished(job):
            return False
        begin(job, alone=alone)
        return True

    with shard_lock(job.matrix, parts.folder, shard, start) as needed:
        if not needed:
            say_finished(job)
            return
        windows = shard_windows(parts.windows(), parts.shards, shard)
        n_tracks = sum(map(len, windows))
        marks = job.marks_of(windows)
        if not parts.pending(marks, windows):
            print(f"{name} is finished ({n_tracks:,} tracks); --join writes {job.matrix}")
            return
        computed, seconds = compute(job, windows, marks, device)
        failed = failures_of(job, windows)
        remarks = remarks_of(job, windows, failed)
        report(failed, n_tracks, parts.folder / f"failed-{shard}.csv", job.config.missing)

    print(f"tracks {n_tracks:>12,} of {name}, {computed:,} now in {seconds:,.1f} s on {device}")
    print(f"failed {len(failed):>12,}")
    print_remarks(remarks)
    print(f"next   --shards {parts.shards} --join, when all are finished")


def require_shards(job: Job) -> None:
    """Raise InputError unless every shard is finished; it names those that are not."""
    parts, missing = job.parts, list(range(job.parts.shards))
    if parts.exist():
        follow(job)
        windows = parts.windows()
        work = parts.pending(job.marks, windows)
        lacking = {window for window, rows in work.items() if PENDING in rows.values()}
        missing = [
            shard for shard in missing if lacking & {*shard_windows(windows, parts.shards, shard)}
        ]
    if missing:
        indices = array_expression(missing)
        raise InputError(
            f"{parts.folder}: shards {indices} of {parts.shards} are not finished, or their audio "
            f"has changed; submit them again (sbatch --array={indices}), then --join"
        )


def compute(job: Job, windows: list[range], marks: np.ndarray, device: str) -> tuple[int, float]:
    """Fill the parts with what these windows lack; return how many tracks, and the seconds."""
    started = time.monotonic()
    backbone, parts = job.backbone, job.parts
    work = parts.pending(marks, windows)
    rows = [row for wanted in work.values() for row in wanted]
    total = sum(map(len, windows))
    done = total - len(rows)
    if done:
        print(f"going on: {done:,} of {total:,} tracks are done")
    if not rows:
        return 0, 0.0

    name = backbone.name
    print(f"{name}: {len(rows):,} tracks on {device}, {job.batch_size} at once", flush=True)
    job.load(device)
    if not backbone.is_commercial():
        print(f"{backbone.name}: weights under {backbone.licence}, not for commercial use")
    remarks: dict[int, str] = {}
    ahead = 2 * job.batch_size + 2 * backbone.workers
    how = {"workers": backbone.workers, "ahead": ahead, "remarks": remarks}
    clips = job.read_clips(job.files, rows, backbone.clip_length, **how)
    batches = Batches(backbone, job.batch_size)
    with contextlib.closing(clips), Progress(name, total, done) as progress:
        for window, wanted in work.items():
            begun = time.monotonic()
            part = parts.load(window)
            for row, result in batches.embed(itertools.islice(clips, len(wanted))):
                part.put(row - window.start, result, marks[row], remarks.pop(row, ""))
                progress.update()
            part.cost(time.monotonic() - begun, peak_memory(), device)
            parts.save(window, part)
    return len(rows), time.monotonic() - started


def failures_of(job: Job, windows: list[range]) -> dict[str, str]:
    """Return {track id: reason} of what failed; what was not drawn for --perturb did not."""
    reasons = failures(job.parts.failures(windows))
    return {job.ids[row]: why for row, why in reasons.items()}


def remarks_of(job: Job, windows: list[range], failed: dict[str, str]) -> dict[str, list[str]]:
    """Return {what is to be said: track ids}: of odd clips that have a vector, and of silence."""
    found: dict[str, list[str]] = {}
    for row, remark in job.parts.remarks(windows).items():
        found.setdefault(remark, []).append(job.ids[row])
    if silent := [track_id for track_id, why in failed.items() if why == SILENT]:
        found["silent"] = silent
    return found


def print_remarks(remarks: dict[str, list[str]]) -> None:
    for remark, found in sorted(remarks.items()):
        print(f"{remark} {len(found):>{max(1, 18 - len(remark))},}: {MEANING[remark]}")


def say_finished(job: Job) -> None:
    """Say that nothing is to be done; parts that were left behind are removed."""
    if replaces_finished(job):
        print(
            f"{job.matrix} is finished; {job.parts.folder} holds a newer one that is not: "
            "--overwrite, or --mend, goes on with it"
        )
        return
    if not job.parts.shards > 1:
        job.parts.remove()
    print(f"{job.matrix} is finished; --overwrite extracts it again")


def report(failed: dict[str, str], n_tracks: int, path: Path, missing: str) -> None:
    """Print what failed; raise WorkError unless rows of NaN are wanted and some row is whole.

    Args:
        failed: {track id: reason}.
        n_tracks: those that failed are among.
        path: of the table of all failures, which goes with the error.
        missing: --missing.
    """
    if not failed:
        return
    for track_id, why in itertools.islice(failed.items(), SHOWN):
        print(f"failed {track_id}: {why}")
    if missing == "nan" and len(failed) < n_tracks:
        return
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("track_id", "reason"), *failed.items()])
    track_id, why = next(iter(failed.items()))
    raise WorkError(
        f"{len(failed):,} of {n_tracks:,} tracks have no vector, for example {track_id}: "
        f"{why}; all are listed in {path}; mend them and run the same command, which computes "
        "these alone, or take rows of NaN with --missing nan"
    )


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
