"""The loop every backbone runs in: decode, batch, embed, check, resume, write.

A backbone is one file: a `Backbone` with its facts, `load` and `embed`, and `main(ThatBackbone)`
under the guard. What a run computed is kept in parts (see parts.py), so that the same command goes
on after a kill, and computes only the mended files after failures. The matrix is written when
every row is there, its json last.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import itertools
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from artifacts import atomic_path, exclusive, read_json, sha256, write_json
from config import InputError, WorkError, option, outcome_options, run
from extract_item_embeddings.decoding import (
    ClipLength,
    find_audio,
    fingerprint,
    messages_to,
    read_clips,
)
from extract_item_embeddings.parts import Parts, differences
from trackids import read_trackids

WINDOW = 32  # tracks a part holds, at least: what a kill can cost
SHOWN = 10  # failed tracks that are printed; failed.csv or the json lists all


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    root: Path = option(Path("."), "folder of trackid_sorted.csv and embeddings/", outcome=False)
    audio: Path = option(help="folder of TRACKID.EXT: mp3, ogg, opus, flac or wav", outcome=False)
    device: str = option("auto", "cpu, cuda, cuda:N; auto: a GPU if there is one", outcome=False)
    batch_size: int | None = option(None, "clips at once; auto: the backbone's own", outcome=False)
    workers: int | None = option(None, "threads that decode; auto: one a core", outcome=False)
    missing: Literal["error", "nan"] = option(
        "error", "tracks that fail: exit 1 without a matrix, or a row of NaN each", outcome=False
    )
    overwrite: bool = option(False, "extract a finished embedding again", outcome=False)

    def __post_init__(self):
        for name in ("batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be at least 1, got {value}; see --help")


class Backbone:
    """Facts about a model, and how it turns clips into vectors.

    A subclass sets the facts, and fills `load` and `embed`. Options beyond ExtractConfig go into
    a dataclass of its own (`config_class`), and `from_config` makes of them what it needs; one
    that changes the vectors also changes `name`, and so the files' names.
    """

    name: str
    sample_rate: int  # Hz
    clip_seconds: float  # the longest clip the model gets: the start of the file
    min_seconds: float = 0.5  # the shortest it takes; a shorter file is repeated
    step_seconds: float = 0.1  # a clip shorter than clip_seconds is cut to a multiple of this
    embedding_size: int
    batch_size: int = 16
    packages: tuple[str, ...] = ()  # whose versions decide the vectors
    config_class: type = ExtractConfig
    workers: int = 1  # threads for `map_clips`; set by the engine

    @classmethod
    def from_config(cls, config) -> Backbone:
        return cls()

    def weights(self) -> dict:
        """Return where the weights come from and their revision or hash; {} without weights."""
        return {}

    def pick_device(self, wanted: str) -> str:
        """Return the device for `--device`, or raise InputError."""
        if wanted not in ("auto", "cpu"):
            raise InputError(f"--device {wanted}: {self.name} runs on the cpu; use cpu or auto")
        return "cpu"

    def load(self, device: str) -> None:
        """Get ready for `embed`."""

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """Return the vectors of equally long clips.

        Args:
            audio: float32 (batch, samples), mono in [-1, 1] at sample_rate.

        Returns:
            float32 (batch, embedding_size); row i depends on clip i alone.
        """
        raise NotImplementedError

    def map_clips(self, function: Callable, clips: Iterable) -> list:
        """Return [function(clip), ...], computed in threads: for models small enough for one."""
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(function, clips))

    @property
    def clip_length(self) -> ClipLength:
        seconds = (self.clip_seconds, self.min_seconds, self.step_seconds)
        return ClipLength(self.sample_rate, *(round(s * self.sample_rate) for s in seconds))


def main(backbone_class: type[Backbone]) -> None:
    """Run the extraction from the command line; what a backbone's file ends in."""
    doc = sys.modules[backbone_class.__module__].__doc__
    run(functools.partial(extract, backbone_class), backbone_class.config_class, doc)


def extract(backbone_class: type[Backbone], config: ExtractConfig) -> None:
    """Write embeddings/NAME.npy and NAME.json for every track of trackid_sorted.csv."""
    backbone = backbone_class.from_config(config)
    backbone.workers = config.workers or available_cores()
    device = backbone.pick_device(config.device)
    batch_size = config.batch_size or backbone.batch_size
    command = f"python -m extract_item_embeddings.{backbone_class.name}"

    ids = read_trackids(config.root)
    files = find_audio(config.audio, ids)
    marks = fingerprint(files, backbone.workers)
    facts = describe(backbone, config)
    plan = {**facts, "versions": versions(backbone)}
    facts["audio_sha256"] = hashlib.sha256(marks.tobytes()).hexdigest()

    matrix = config.root / "embeddings" / f"{backbone.name}.npy"
    parts = Parts(
        matrix.with_suffix(".parts"), len(ids), backbone.embedding_size, max(WINDOW, batch_size)
    )
    with exclusive(matrix.parent / f".{backbone.name}.lock", str(matrix)):
        if is_finished(matrix, facts, config, command):
            parts.remove()
            print(f"{matrix} is finished; --overwrite extracts it again")
            return
        begin(parts, plan, matrix, config, command)
        computed, seconds = compute(backbone, parts, files, marks, device, batch_size)
        failed = {ids[row]: why for row, why in parts.failures().items()}
        report(failed, parts, config)
        record = {**plan, **facts, "missing": config.missing, "failed": failed, "device": device}
        write(parts, matrix, record)

    print(f"tracks {len(ids):>12,}, {computed:,} now in {seconds:,.1f} s on {device}")
    print(f"failed {len(failed):>12,}")
    print(f"wrote  {matrix} float32 ({len(ids):,}, {backbone.embedding_size:,})")


def describe(backbone: Backbone, config: ExtractConfig) -> dict:
    """Return what decides the vectors, apart from the audio and the packages' versions."""
    return {
        "embedding": backbone.name,
        "sample_rate": backbone.sample_rate,
        "clip_seconds": backbone.clip_seconds,
        "min_seconds": backbone.min_seconds,
        "width": backbone.embedding_size,
        "options": outcome_options(config),
        "weights": backbone.weights(),
        "trackids_sha256": sha256(config.root / "trackid_sorted.csv"),
    }


def versions(backbone: Backbone) -> dict:
    """Return the versions of Python and of the packages that decide the vectors."""
    packages = ("numpy", "soundfile", "soxr", *backbone.packages)
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}


def is_finished(matrix: Path, facts: dict, config: ExtractConfig, command: str) -> bool:
    """Say whether the matrix is there to stay; made from other things it is an InputError."""
    path = matrix.with_suffix(".json")
    if config.overwrite or not path.exists() or not matrix.exists():
        return False
    record = read_json(path, f"{command} --overwrite")
    changed = differences({key: record.get(key) for key in facts}, facts)
    if record["sha256"] != sha256(matrix):
        changed.append(f"it is not the file that {path.name} describes")
    if record["failed"] and config.missing == "error":
        changed.append(f"{len(record['failed']):,} of its rows are NaN (--missing nan)")
    if changed:
        raise InputError(
            f"{matrix} is finished, but {'; '.join(changed)}; {command} --overwrite makes it again"
        )
    return True


def begin(parts: Parts, plan: dict, matrix: Path, config: ExtractConfig, command: str) -> None:
    """Open the parts; with --overwrite, clear a finished matrix away."""
    record = matrix.with_suffix(".json")
    if config.overwrite and record.exists():
        parts.remove()
    elif matrix.exists() and not record.exists() and not parts.exist() and not config.overwrite:
        raise InputError(
            f"{matrix} has no {record.name}, so it was not made by this command; move it away, or "
            f"{command} --overwrite replaces it"
        )
    parts.begin(plan, overwrite=config.overwrite, command=command)
    record.unlink(missing_ok=True)  # after the plan, so that from here on the run is resumed
    matrix.unlink(missing_ok=True)


def compute(
    backbone: Backbone,
    parts: Parts,
    files: list[Path | None],
    marks: np.ndarray,
    device: str,
    batch_size: int,
) -> tuple[int, float]:
    """Fill the parts with what they lack; return how many tracks that were, and the seconds."""
    started = time.monotonic()
    work = parts.pending(marks)
    rows = [row for wanted in work.values() for row in wanted]
    done = len(files) - len(rows)
    if done:
        print(f"going on: {done:,} of {len(files):,} tracks are done")
    if not rows:
        return 0, 0.0

    backbone.load(device)
    ahead = batch_size + 2 * backbone.workers
    clips = read_clips(files, rows, backbone.clip_length, workers=backbone.workers, ahead=ahead)
    batches = Batches(backbone, batch_size)
    with (
        contextlib.closing(clips),
        messages_to(parts.folder / "messages.txt"),
        tqdm(total=len(files), initial=done, unit=" tracks", disable=None) as progress,
    ):
        for window, wanted in work.items():
            begun = time.monotonic()
            part = parts.load(window)
            for row, result in batches.embed(itertools.islice(clips, len(wanted))):
                part.put(row - window.start, result, marks[row])
                progress.update()
            part.seconds += time.monotonic() - begun
            parts.save(window, part)
    return len(rows), time.monotonic() - started


class Batches:
    """Clips to checked vectors; clips of equal length share a batch."""

    def __init__(self, backbone: Backbone, size: int):
        self.backbone, self.size = backbone, size
        self.tried = False

    def embed(self, clips: Iterable) -> Iterator[tuple[int, np.ndarray | str]]:
        """Yield (track_idx, vector) for each (track_idx, clip), or (track_idx, reason)."""
        waiting: dict[int, list] = {}
        for row, clip in clips:
            if isinstance(clip, str):
                yield row, clip
                continue
            batch = waiting.setdefault(len(clip), [])
            batch.append((row, clip))
            if len(batch) == self.size:
                yield from self._embed(waiting.pop(len(clip)))
        for batch in waiting.values():
            yield from self._embed(batch)

    def _embed(self, batch: list) -> list[tuple[int, np.ndarray | str]]:
        rows, clips = zip(*batch, strict=True)
        vectors = self.backbone.embed(np.stack(clips))
        expected = (len(rows), self.backbone.embedding_size)
        if vectors.shape != expected or vectors.dtype != np.float32:
            raise WorkError(
                f"{self.backbone.name} returned {vectors.dtype} {vectors.shape} for a batch, "
                f"expected float32 {expected}: its embed() or embedding_size is wrong"
            )
        results = [
            (row, _vector_or_reason(vector)) for row, vector in zip(rows, vectors, strict=True)
        ]
        if not self.tried and len(rows) > 1 and all(isinstance(r, str) for _, r in results):
            raise WorkError(
                f"{self.backbone.name}: every vector of the first batch {results[0][1]}; expected "
                "numbers: check its weights and --device before more time goes into it"
            )
        self.tried = True
        return results


def _vector_or_reason(vector: np.ndarray) -> np.ndarray | str:
    if not np.isfinite(vector).all():
        return "gives a vector with NaN or infinite values"
    return vector if vector.any() else "gives a vector of zeros"


def report(failed: dict[str, str], parts: Parts, config: ExtractConfig) -> None:
    """Print what failed; raise WorkError unless rows of NaN are wanted and some row is whole."""
    if not failed:
        return
    for track_id, why in itertools.islice(failed.items(), SHOWN):
        print(f"failed {track_id}: {why}")
    if config.missing == "nan" and len(failed) < parts.n_tracks:
        return
    path = parts.folder / "failed.csv"
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("track_id", "reason"), *failed.items()])
    track_id, why = next(iter(failed.items()))
    raise WorkError(
        f"{len(failed):,} of {parts.n_tracks:,} tracks have no vector, for example {track_id}: "
        f"{why}; all are listed in {path}; mend them and run the same command, which computes "
        "these alone, or take rows of NaN with --missing nan"
    )


def write(parts: Parts, matrix: Path, record: dict) -> None:
    """Write the matrix, then its json, which says that it is complete; then remove the parts."""
    seconds = parts.write_matrix(matrix)
    costs = {"seconds": round(seconds, 1), "peak_memory_bytes": peak_memory()}
    shape = {"n_tracks": parts.n_tracks, "sha256": sha256(matrix)}
    write_json(matrix.with_suffix(".json"), {**record, **costs, **shape})
    parts.remove()


def available_cores() -> int:
    """Return the cores this process may use: of its cpu set, or of its Slurm job."""
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK", cores)))


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
