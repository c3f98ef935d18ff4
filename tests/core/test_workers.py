"""Work shared out to processes: every result at its place, and what ends them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HERE

from core.options import InputError, WorkError
from core.workers import in_processes


def squared(value, wait=0.0):
    time.sleep(wait)
    return value**2, os.getpid()


def refused(value):
    raise InputError(f"{value} is refused")


def killed(value):
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_result_comes_once_with_its_place_from_other_processes():
    tasks = [(value, 0.05 * (value == 0)) for value in range(7)]
    found = list(in_processes(squared, tasks, 2))
    assert sorted(place for place, _ in found) == list(range(7))
    assert all(result == place**2 for place, (result, _) in found)
    processes = {process for _, (_, process) in found}
    assert len(processes) == 2 and os.getpid() not in processes


def test_nothing_is_begun_for_no_tasks():
    assert list(in_processes(squared, [], 2)) == []


def test_what_work_raises_is_raised_where_it_was_asked_for():
    with pytest.raises(InputError, match="3 is refused"):
        list(in_processes(refused, [(3,)], 2))


def test_a_killed_process_is_told_and_the_others_end():
    with pytest.raises(WorkError, match="a worker was killed"):
        list(in_processes(killed, [(1,), (2,)], 2))


ASKS = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from core.workers import in_processes

def work(folder, number):
    (Path(folder) / f"{{number}} {{os.getpid()}}").touch()
    time.sleep(1)

if __name__ == "__main__":
    list(in_processes(work, [(sys.argv[1], number) for number in range(9)], 2))
"""


@pytest.mark.fresh_starts
def test_when_who_asked_is_killed_its_processes_end_after_what_they_are_at(tmp_path):
    (tmp_path / "asks.py").write_text(ASKS.format(here=str(HERE)))
    (begun := tmp_path / "begun").mkdir()
    asking = subprocess.Popen([sys.executable, tmp_path / "asks.py", begun])
    deadline = time.monotonic() + 60
    while len(list(begun.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    asking.kill()
    asking.wait()
    at = [path.name.split() for path in begun.iterdir()]
    while running := [process for _, process in at if is_running(process)]:
        assert time.monotonic() < deadline, running
        time.sleep(0.02)
    assert len(list(begun.iterdir())) == len(at)


def is_running(process):
    """Say whether a process is there and no zombie, which nobody may wait for in a container."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
