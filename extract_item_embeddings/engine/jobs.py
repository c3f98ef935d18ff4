"""What one command works on, whether that is finished, and how it begins."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.artifacts import sha256
from core.options import InputError
from core.trackids import read_trackids
from extract_item_embeddings.engine.audio_files import find_audio, fingerprint
from extract_item_embeddings.engine.backbone import Backbone, ExtractConfig
from extract_item_embeddings.engine.decoder_processes import read_clips
from extract_item_embeddings.engine.finished import describe, fill, read_finished, versions
from extract_item_embeddings.engine.parts import Parts, differences
from extract_item_embeddings.engine.perturb import only_drawn, perturbed_name
from extract_item_embeddings.engine.shards import shard_windows

WINDOW = 32  # tracks a part holds, at least: what a kill can cost


@dataclass
class Job:
    """What one command works on."""

    backbone: Backbone
    config: ExtractConfig
    ids: list[str]
    files: list[Path | str]  # or the reason why a track has none
    facts: dict  # what decides the vectors, see finished.describe
    versions: dict
    matrix: Path
    parts: Parts
    batch_size: int
    command: str
    read_clips: Callable = read_clips  # a stream of one's own, or a shared one
    loaded: bool = False  # whether the backbone has its weights

    @classmethod
    def prepare(cls, backbone_class: type[Backbone], config: ExtractConfig) -> Job:
        backbone = backbone_class.from_config(config)
        backbone.workers = config.workers or available_cores()
        ids = read_trackids(config.root)
        files = find_audio(config.audio, ids, config.pattern)
        if config.perturb:
            backbone.perturb = config.perturb
            backbone.name = perturbed_name(backbone.name, config.perturb)
            files = only_drawn(files)
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
            files,
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

    @property
    def old(self) -> str:
        """The hash of the json of what is finished and to be replaced, '' if there is none."""
        there = self.matrix.exists() and self.record.exists()
        return sha256(self.record) if there else ""

    def load(self, device: str) -> None:
        """Load the backbone's weights, once."""
        if not self.loaded:
            self.backbone.load(device)
            self.loaded = True

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


def is_computed(job: Job, shard: int | None = None) -> bool:
    """Say whether the parts hold all rows, of one shard or of all: then no weights are needed."""
    parts = job.parts
    if not _goes_on(job) or parts.changed(job.plan):
        return False
    windows = parts.windows()
    if shard is not None:
        windows = shard_windows(windows, parts.shards, shard)
    return not parts.pending(job.marks_of(windows), windows)


def begin(job: Job, *, alone: bool = True) -> None:
    """Make sure that the parts are of this job's plan; what is not to stay is cleared away.

    A finished embedding is left as it is: it is replaced when the new one is complete.

    Args:
        alone: no other process works on the parts; without that nothing can be cleared away.
    """
    parts, config = job.parts, job.config
    if job.matrix.exists() and not (job.record.exists() or parts.exist() or config.overwrite):
        raise InputError(
            f"{job.matrix} has no {job.record.name}, so it was not made by this command; move it "
            f"away, or {job.command} --overwrite replaces it"
        )
    if parts.exist() and not _goes_on(job):
        _clear(job, alone)
    if parts.exist() and parts.changed(job.plan):
        if config.overwrite or config.mend or (alone and not parts.have_rows()):
            _clear(job, alone)
    mend = _is_mend(job)
    parts.begin(job.plan, {"replaces": job.old, "mend": mend})
    follow(job)
    if mend:
        record, _ = read_finished(job.matrix, job.config, job.facts, job.marks, job.ids)
        fill(parts, job.matrix, record, job.marks, job.ids)


def follow(job: Job) -> None:
    """Take over the windows of the parts that are there, or raise InputError if they differ."""
    if changed := job.parts.changed(job.plan):
        raise InputError(
            f"{job.parts.folder} holds an unfinished extraction, but {'; '.join(changed)}; "
            f"{job.command} --overwrite starts again"
        )


def replaces_finished(job: Job) -> bool:
    """Say whether the parts are on their way to take the place of what is finished."""
    return job.parts.exist() and job.old != "" and job.parts.origin().get("replaces") == job.old


def _goes_on(job: Job) -> bool:
    """Say whether the parts that are there belong to this command.

    Beside something finished they do if they were begun to replace it, in the same way; without,
    they are an extraction that was never finished.
    """
    if not job.parts.exist():
        return False
    same_way = job.parts.origin().get("mend", False) == _is_mend(job)
    return job.old == "" or (replaces_finished(job) and same_way)


def _is_mend(job: Job) -> bool:
    return job.config.mend and job.old != ""


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
