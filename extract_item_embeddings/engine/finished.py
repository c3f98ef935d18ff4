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

from core.artifacts import atomic_path, read_json, sha256, write_json
from core.options import outcome_options, recorded_options
from extract_item_embeddings.engine.backbone import Backbone, ExtractConfig
from extract_item_embeddings.engine.backbone_code import code_hash
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
        "code": code_hash(type(backbone)),
        "weights": backbone.weights(),
        "trackids_sha256": sha256(config.root / "trackid_sorted.csv"),
    }


def versions(backbone: Backbone) -> dict:
    """Return the versions of Python and of the packages that decide the vectors."""
    packages = ("numpy", "av", "soxr", *backbone.packages)
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
    record = {"failed": {}, "remarks": {}, "versions": {}, **record}
    if isinstance(record.get("options"), dict):
        record["options"] = recorded_options(record["options"], config)
    code = facts["code"]
    changed = differences({**{key: record.get(key) for key in facts}, "code": code}, facts)
    if record.get("code", code) != code:  # older ones do not say
        changed.append("it was made by another version of its backbone's code")
    if record.get("audio_sha256") != audio_hash(marks, ids, record["failed"]):
        changed.append("the audio is not what it was made from")
    if record.get("sha256") != sha256(matrix):
        changed.append(f"it is not the file that {path.name} describes")
    return record, changed


def fill(parts: Parts, matrix: Path, record: dict, marks: np.ndarray, ids: list[str]) -> None:
    """Make parts of a finished matrix, as they were before it was written."""
    vectors = np.load(matrix, mmap_mode="r")
    reasons = [record["failed"].get(track_id, "") for track_id in ids]
    said = {track_id: what for what, found in record["remarks"].items() for track_id in found}
    remarks = [said.get(track_id, "") for track_id in ids]
    costs = record["seconds"], record["peak_memory_bytes"], record["device"]
    for window in parts.windows():
        rows = slice(window.start, window.stop)
        part = Part(np.array(vectors[rows]), marks[rows], reasons[rows], remarks[rows], *costs)
        if not parts.has(window):  # it may have been mended before a kill
            parts.save(window, part)
        costs = 0.0, 0, ""  # the first window bears them all


def write(parts: Parts, matrix: Path, record: dict) -> None:
    """Write the matrix, then its json, which says that it is complete; then remove the parts.

    What was finished before stands until both are ready to take its place.
    """
    path = matrix.with_suffix(".json")
    with atomic_path(matrix) as temporary:
        costs = parts.write_matrix(temporary)
        shape = {"n_tracks": parts.n_tracks, "sha256": sha256(temporary)}
        if path.exists():
            path.unlink()  # at no time does a json stand beside another's matrix
    write_json(path, {**record, **costs, **shape})
    parts.remove()
