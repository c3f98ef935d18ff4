"""What a run was made with: versions of packages, the commit of the code, peak memory."""

from __future__ import annotations

import platform
import resource
import subprocess
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "pandas", "pyarrow", "scipy", "torch", "transformers", "rs_metrics")


def versions() -> dict:
    """Return {package: version} of Python and of what computes results here."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the commit of the code, with '+' when it was edited since; None outside git."""
    try:
        git = ["git", "-C", str(HERE)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout else "") if not head.returncode else None


def peak_memory_mb() -> int:
    """Return the largest memory this process has held, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
