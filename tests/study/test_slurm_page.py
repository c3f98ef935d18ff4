"""What docs/slurm.md shows, as the commands on it would print it."""

import re

import pytest
from conftest import HERE
from made_up_slurm import made_up_queue

from core.options import parse_config
from study import forecast
from study.config import StudyConfig
from study.submission import foresee_study, submit_study
from study.tree import tree

PAGE = (HERE / "docs" / "slurm.md").read_text(encoding="utf-8")


@pytest.fixture
def sample(tmp_path, monkeypatch):
    made_up_queue(monkeypatch)
    flags = ["--slurm", "--gpus", "0", "--root", str(tmp_path / "sample")]
    flags += ["--recommenders", "knn,shallow,bert4rec"]  # and none that a user has added
    return parse_config(StudyConfig, "", flags)


def block(first: str) -> list[str]:
    """Return the lines of the block of text that begins so."""
    (found,) = re.findall(rf"^```text\n({re.escape(first)}.*?)^```", PAGE, re.M | re.S)
    return found.splitlines()


def test_the_tree_is_the_one_that_is_printed(sample):
    lines = tree(submit_study(sample))
    places = [lines.index(line) for line in block("sample: 100") if line.strip() != "..."]
    assert places == sorted(places) and len(places) > 6


def test_the_line_of_the_dry_run_is_printed(sample):
    (line,) = block("   ├─ shards of mfcc")
    assert line in forecast.foretell(sample, foresee_study(sample))


@pytest.mark.parametrize("row", re.findall(r"^\| `(\w+\.sh)`.*? \| (.*) \|$", PAGE, re.M))
def test_the_table_of_resources_is_what_the_files_say(row):
    name, (hours, memory, cores, gpus) = row[0], row[1].split(" | ")
    text = (HERE / name).read_text(encoding="utf-8")
    assert int(re.search(r"--time=(\d+):00:00", text)[1]) == int(hours.removesuffix(" h"))
    assert f"--mem={memory.removesuffix(' GB')}G" in text and f"--cpus-per-task={cores}" in text
    assert ("--gres=gpu:1" in text) == (gpus == "1")


def test_every_flag_of_the_page_is_one_and_every_setting_is_in_the_example():
    options = {f"--{name.replace('_', '-')}" for name in StudyConfig.__dataclass_fields__}
    table = re.findall(r"^\| `(--[a-z-]+)", PAGE, re.M)
    assert len(table) > 6 and set(table) <= options
    example = (HERE / "cluster.env.example").read_text(encoding="utf-8")
    script = (HERE / "cluster.sh").read_text(encoding="utf-8")
    for name in re.search(r"for setting in (.*); do", script)[1].split():
        assert re.search(rf"\b{name}\b", example), name
