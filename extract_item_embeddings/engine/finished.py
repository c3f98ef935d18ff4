"""NAME.json says that an embedding is finished and what it was made from.

An embedding made from the same things is left alone; one made from others is refused by name; of
one that holds rows of NaN those alone can be computed again.
"""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

import numpy as np

from core.artifacts import read_json, sha256, write_json
from core.options import outcome_options, recorded_options
from extract_item_embeddings.engine.backbone import Backbone, ExtractConfig
from extract_item_embeddings.engine.parts import Part, Parts, differences


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


def audio_hash(marks: np.ndarray, ids: list[str], failed: dict[str, str]) -> str:
    """Return the fingerprint of the audio behind the vectors: a failed track's has no part in it.

    Args:
        marks: uint64 (n_tracks,), see decoding.fingerprint.
        ids: the track ids.
        failed: {track id: reason}.
    """
    behind = [mark if track not in failed else 0 for track, mark in zip(ids, marks, strict=True)]
    return hashlib.sha256(np.array(behind, np.uint64).tobytes()).hexdigest()


def read_finished(
    matrix: Path, config: ExtractConfig, facts: dict, marks: np.ndarray, ids: list[str]
) -> tuple[dict, list[str]]:
    """Return the json of a matrix, and what is not as it was when the matrix was written.

    Args:
        config: the options of now, which know what was done before there were such options.
        facts: what decides the vectors now, see `describe`.
        marks: of the audio that is there now.
        ids: the track ids.
    """
    path = matrix.with_suffix(".json")
    record = read_json(path, "the same command with --overwrite")
    record = {"failed": {}, "versions": {}, **record}
    if isinstance(record.get("options"), dict):
        record["options"] = recorded_options(record["options"], config)
    changed = differences({key: record.get(key) for key in facts}, facts)
    if record.get("audio_sha256") != audio_hash(marks, ids, record["failed"]):
        changed.append("the audio is not what it was made from")
    if record.get("sha256") != sha256(matrix):
        changed.append(f"it is not the file that {path.name} describes")
    return record, changed


def fill(parts: Parts, matrix: Path, record: dict, marks: np.ndarray, ids: list[str]) -> None:
    """Make parts of a finished matrix, as they were before it was written."""
    vectors = np.load(matrix, mmap_mode="r")
    reasons = [record["failed"].get(track_id, "") for track_id in ids]
    costs = record["seconds"], record["peak_memory_bytes"], record["device"]
    for window in parts.windows():
        rows = slice(window.start, window.stop)
        parts.save(window, Part(np.array(vectors[rows]), marks[rows], reasons[rows], *costs))
        costs = 0.0, 0, ""  # the first window bears them all


def write(parts: Parts, matrix: Path, record: dict) -> None:
    """Write the matrix, then its json, which says that it is complete; then remove the parts."""
    costs = parts.write_matrix(matrix)
    shape = {"n_tracks": parts.n_tracks, "sha256": sha256(matrix)}
    write_json(matrix.with_suffix(".json"), {**record, **costs, **shape})
    parts.remove()
