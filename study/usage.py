"""What a stage's process took: time, and memory at its highest."""

from __future__ import annotations

import os
import subprocess
import sys
import time

KIB = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss in bytes: getrusage(2)


def wait_for(process: subprocess.Popen) -> str:
    """Wait for a process that starts now to end; return what it took, in words.

    The processor's time is that of the process and of all it has waited for; memory is the
    resident set of the largest of them at its highest, pages of files that it maps included.
    """
    return ended(process, time.perf_counter(), wait=True)


def ended(process: subprocess.Popen, started: float, *, wait: bool = False) -> str:
    """Return what a process took that has ended, as wait_for; '' if it has not.

    Args:
        started: time.perf_counter() when it did.
        wait: for its end.
    """
    pid, status, usage = os.wait4(process.pid, 0 if wait else os.WNOHANG)
    if pid == 0:
        return ""
    process.returncode = os.waitstatus_to_exitcode(status)
    spent, most = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * KIB
    clock = duration(time.perf_counter() - started)
    return f"{clock}, {duration(spent)} of a processor, {most / 1e6:,.0f} MB at most"


def duration(seconds: float) -> str:
    """Return a length of time in the unit that reads best, as `12 s`, `25 min`, `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
