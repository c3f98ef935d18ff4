"""Work shared out to processes: every result at its place, and what ends them."""

import os
import signal
import time

import pytest

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
