"""A finished run, read: metrics.json tells of its files, which must be those that were written.

Everything that reads a run's config.yaml, tables or lists does so through here.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from core.artifacts import read_json, read_record, read_sealed, sha256
from core.options import InputError

COMPLETE = "metrics.json"  # written last
RECORDED = ("options", "split", "embedding_hash", "changed")  # what a run's config.yaml must hold
NUMBERS = ("recommender", "embedding", "seed", "val", "test")  # and its metrics.json
AGAIN = "make the run again, by its own command with --overwrite"
LOG = "log.jsonl"
FILES = "files"  # key of metrics.json: {name: sha256}


def fingerprints(folder: Path) -> dict[str, str]:
    """Return {name: sha256} of those files of a run that a later stage reads."""
    names = [*folder.glob("*.pqt"), folder / "config.yaml", folder / LOG]
    return {path.name: sha256(path) for path in sorted(names) if path.exists()}


def run_folder(root: Path, name: str, flag: str) -> Path:
    """Return the folder of a run by its name; what is none is an InputError.

    Args:
        flag: that the name came with.
    """
    folder = root / "runs" / name
    if Path(name).name != name or name in ("", "..") or not folder.is_dir():
        raise InputError(f"{folder} is missing; {flag} takes a folder's name under ROOT/runs")
    return folder


def read_finished(folder: Path) -> dict:
    """Return what config.yaml and metrics.json hold, in one dict.

    Raises:
        InputError: one of them is missing, damaged, or not what was written.
    """
    results = read_json(folder / COMPLETE, "this run's own command and --overwrite", NUMBERS)
    digest = _digest(folder, "config.yaml", results)
    return {**read_record(folder / "config.yaml", RECORDED, AGAIN, digest), **results}


def made_of(run: dict) -> str | None:
    """Return a fingerprint of a run, as read_finished returns it: of all its files' fingerprints.

    None of a run from before they were recorded.
    """
    if FILES not in run:
        return None
    return hashlib.sha256(json.dumps(run[FILES], sort_keys=True).encode()).hexdigest()


def refuse_other_split(root: Path, runs: list[dict], fingerprint: str) -> None:
    """Raise InputError if a run was made from another split than the one that is there.

    Args:
        runs: as read_finished returns them, with `folder`, the run's name.
        fingerprint: of the split.
    """
    for run in runs:
        if run["split"] != fingerprint:
            raise InputError(
                f"{root / 'runs' / run['folder']} was made from another split than {root / 'data'} "
                f"holds; {AGAIN}"
            )


def check_whole(folder: Path) -> None:
    """Raise InputError unless every file of a finished run is the one that was written."""
    results = read_finished(folder)
    for name in results.get(FILES, {}):
        read_sealed(folder / name, _digest(folder, name, results), AGAIN)


def has_table(folder: Path, name: str, results: dict) -> bool:
    """Say whether a finished run has a table; one that metrics.json tells of must be there."""
    if FILES in results:
        return name in results[FILES]
    return (folder / name).exists()


def read_table(
    folder: Path, name: str, results: dict, remedy: str = AGAIN, columns: list[str] | None = None
) -> pd.DataFrame:
    """Return a table of a finished run.

    Args:
        name: such as recs.pqt.
        results: as read_finished returns it.
        remedy: what the message tells to do.
        columns: those that are wanted; None for all.

    Raises:
        InputError: the file is missing, damaged, or not what was written.
    """
    content = read_sealed(folder / name, _digest(folder, name, results), remedy)
    try:
        return pd.read_parquet(io.BytesIO(content), columns=columns)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder / name} cannot be read ({error}); {remedy}") from error


def read_log(folder: Path, results: dict) -> list[dict]:
    """Return the records of a finished run's epochs, in order; none of a run that learns nothing.

    Raises:
        InputError: log.jsonl is missing, damaged, or not what was written.
    """
    if not has_table(folder, LOG, results):
        return []
    content = read_sealed(folder / LOG, _digest(folder, LOG, results), AGAIN)
    try:
        return [json.loads(line) for line in content.decode("utf-8").splitlines()]
    except ValueError as error:
        raise InputError(f"{folder / LOG} cannot be read ({error}); {AGAIN}") from error


def _digest(folder: Path, name: str, results: dict) -> str | None:
    """Return the recorded sha256 of a file; None of a run from before they were recorded."""
    if FILES not in results:
        return None
    if not isinstance(results[FILES], dict) or name not in results[FILES]:
        raise InputError(f"{folder / COMPLETE} does not tell of {name}: it is damaged; {AGAIN}")
    return results[FILES][name]
