"""What one command works on, whether that is finished, and how it begins."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.options import InputError
from core.trackids import read_trackids
from extract_item_embeddings.engine.audio_files import find_audio, fingerprint
from extract_item_embeddings.engine.backbone import Backbone, ExtractConfig
from extract_item_embeddings.engine.decoder_processes import read_clips
from extract_item_embeddings.engine.finished import describe, fill, read_finished, versions
from extract_item_embeddings.engine.parts import Parts, differences

WINDOW = 32  # tracks a part holds, at least: what a kill can cost


@dataclass
class Job:
    """What one command works on."""

    backbone: Backbone
    config: ExtractConfig
    ids: list[str]
    files: list[Path | None]
    facts: dict  # what decides the vectors, see finished.describe
    versions: dict
    matrix: Path
    parts: Parts
    batch_size: int
    command: str
    read_clips: Callable = read_clips  # a stream of one's own, or a shared one

    @classmethod
    def prepare(cls, backbone_class: type[Backbone], config: ExtractConfig) -> Job:
        backbone_class.check_environment()
        backbone = backbone_class.from_config(config)
        backbone.workers = config.workers or available_cores()
        ids = read_trackids(config.root)
        matrix = config.root / "embeddings" / f"{backbone.name}.npy"
        batch_size = config.batch_size or backbone.batch_size
        parts = Parts(
            matrix.with_suffix(".parts"),
            len(ids),
            backbone.embedding_size,
            window=max(WINDOW, batch_size),
            shards=config.shards or 1,
        )
        return cls(
            backbone,
            config,
            ids,
            find_audio(config.audio, ids),
            describe(backbone, config),
            versions(backbone),
            matrix,
            parts,
            batch_size,
            f"python -m extract_item_embeddings.{backbone_class.name}",
        )

    @property
    def record(self) -> Path:
        return self.matrix.with_suffix(".json")

    @property
    def plan(self) -> dict:
        return {**self.facts, "versions": self.versions}

    @functools.cached_property
    def marks(self) -> np.ndarray:
        """A mark of every track's audio, uint64 (n_tracks,)."""
        return fingerprint(self.files, self.backbone.workers)

    def marks_of(self, windows: list[range]) -> np.ndarray:
        """Return the marks, but look at the files of neighbouring windows alone; 0 elsewhere."""
        if "marks" in vars(self):
            return self.marks
        marks = np.zeros(len(self.files), np.uint64)
        rows = slice(windows[0].start, windows[-1].stop) if windows else slice(0)
        marks[rows] = fingerprint(self.files[rows], self.backbone.workers)
        return marks


def is_finished(job: Job) -> bool:
    """Say whether the matrix is there to stay; made from other things it is an InputError."""
    config, matrix = job.config, job.matrix
    if config.overwrite or not (matrix.exists() and job.record.exists()):
        return False
    record, changed = read_finished(matrix, config, job.facts, job.marks, job.ids)
    if config.mend and record["failed"]:
        changed += differences({"versions": record["versions"]}, {"versions": job.versions})
    if changed:
        raise InputError(
            f"{matrix} is finished, but {'; '.join(changed)}; {job.command} --overwrite makes it "
            "again"
        )
    if config.missing == "error" and record["failed"] and not config.mend:
        raise InputError(
            f"{matrix} is finished, but {len(record['failed']):,} of its rows are NaN (--missing "
            f"nan); {job.command} --mend computes these alone, and --overwrite all"
        )
    return not (config.mend and record["failed"])


def begin(job: Job, *, alone: bool = True) -> None:
    """Make sure that the parts are of this job's plan; what is not to stay is cleared away.

    Args:
        alone: no other process works on the parts; without that nothing can be cleared away.
    """
    parts, matrix, overwrite = job.parts, job.matrix, job.config.overwrite
    mend = job.config.mend and matrix.exists() and job.record.exists()
    if mend or (overwrite and job.record.exists()):
        _clear(job, alone)
    elif matrix.exists() and not (job.record.exists() or parts.exist() or overwrite):
        raise InputError(
            f"{matrix} has no {job.record.name}, so it was not made by this command; move it away, "
            f"or {job.command} --overwrite replaces it"
        )
    if overwrite and parts.exist() and parts.changed(job.plan):
        _clear(job, alone)
    parts.begin(job.plan)
    follow(job)
    if mend:
        record, _ = read_finished(matrix, job.config, job.facts, job.marks, job.ids)
        fill(parts, matrix, record, job.marks, job.ids)
    job.record.unlink(missing_ok=True)  # last, so that from here on the parts are gone on with
    matrix.unlink(missing_ok=True)


def follow(job: Job) -> None:
    """Take over the windows of the parts that are there, or raise InputError if they differ."""
    if changed := job.parts.changed(job.plan):
        raise InputError(
            f"{job.parts.folder} holds an unfinished extraction, but {'; '.join(changed)}; "
            f"{job.command} --overwrite starts again"
        )


def _clear(job: Job, alone: bool) -> None:
    if not alone:
        raise InputError(
            f"--overwrite cannot start {job.parts.folder} again while other shards of it run; wait "
            "for them or cancel them"
        )
    job.parts.remove()


def available_cores() -> int:
    """Return the cores this process may use: of its cpu set, or of its Slurm job."""
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK", cores)))
