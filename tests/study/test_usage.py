"""What a stage took is what its process took, not what this one did."""

import re
import subprocess
import sys

import pytest

import run_study
from core.options import WorkError
from study.stage import Stage
from study.usage import wait_for

# Linux counts the parent's memory at the start as the child's, so that the parent is a small one.
HELD = """
import subprocess, sys
from study.usage import wait_for
words = [sys.executable, "-c", "import sys; block = b'x' * 700_000_000; sys.exit(3)"]
with subprocess.Popen(words) as process:
    print(wait_for(process), process.returncode)
"""


def test_memory_and_code_are_those_of_the_process():
    words = [sys.executable, "-c", HELD]
    said = subprocess.run(words, cwd=run_study.HERE, capture_output=True, text=True, check=True)
    found = re.search(r"([\d,]+) MB at most 3$", said.stdout.strip())
    assert 700 <= int(found[1].replace(",", "")) <= 760


def test_the_processors_time_is_that_of_children_too():
    busy = "import time\nwhile time.process_time() < 1.6: pass"
    words = [sys.executable, "-c", busy]
    nested = f"import subprocess; subprocess.run({words!r})"
    with subprocess.Popen([sys.executable, "-c", nested]) as process:
        spent = re.search(r"(\d+) s of a processor", wait_for(process))
    assert 2 <= int(spent[1]) <= 4


def test_a_stage_that_ends_well_says_what_it_took(capfd):
    run_study.call(Stage(name="s", script=("-c", "print('done')"), flags=(), missing=list))
    assert re.search(
        r"done\ntook \d+ s, \d+ s of a processor, [\d,]+ MB at most\n", capfd.readouterr().out
    )
    with pytest.raises(WorkError, match="exit code 3"):
        run_study.call(Stage(name="s", script=("-c", "exit(3)"), flags=(), missing=list))
    assert "took" not in capfd.readouterr().out
