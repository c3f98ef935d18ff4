"""What get_data.py fetched, known to whoever reads it by the record that lies beside it.

downloads/FILE.json     where FILE is from, its licence, and its sha256 when it was whole
"""

from __future__ import annotations

from pathlib import Path

from core.artifacts import read_json
from core.options import InputError

REMEDY = "python get_data.py"


def record_of(target: Path) -> Path:
    """Return the json that tells what a downloaded file is."""
    return target.with_name(f"{target.name}.json")


def read_download(path: Path, digest: str) -> dict:
    """Return the record of a file that was read; nothing of one that get_data.py did not fetch.

    Args:
        digest: sha256 of what was read.

    Raises:
        InputError: it is not what was fetched.
    """
    record = record_of(path.resolve())
    told = read_json(record, REMEDY, ("sha256",)) if record.exists() else {}
    if told.get("sha256", digest) != digest:
        raise InputError(
            f"{path} is not what was fetched, it was damaged or replaced (sha256 {digest[:12]}, "
            f"{record.name} tells of {str(told['sha256'])[:12]}); move both away and fetch it by "
            f"{REMEDY}, or remove {record.name} if the file is meant"
        )
    return told
