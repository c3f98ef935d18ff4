"""Recommenders and metrics stand in one place each; a new one is a script or function, a line."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import HERE, make_root

from core.registry import ALL

CODE = [
    path
    for path in sorted(HERE.rglob("*.py"))
    if not {"tests", ".venv"} & set(path.relative_to(HERE).parts)
    and not path.relative_to(HERE).parts[0].startswith(".")
]

TOY = '''"""Toy: recommend the tracks whose first number is largest, to everybody."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from core.options import option, run
from recommenders.interactions import load_split
from recommenders.lists import recommend
from recommenders.run_options import EmbeddingOptions, each_run, each_seed
from recommenders.runs import Run
from recommenders.vectors import embedding_hash, load_item_vectors


@dataclass(frozen=True, kw_only=True)
class ToyConfig(EmbeddingOptions):
    section: ClassVar[str] = "toy_net"

    config: Path | None = option(None, "yaml of options", outcome=False)
    sign: int = option(1, "1: the largest first; -1: the smallest")


def main(config):
    split = load_split(config.root)
    vectors = load_item_vectors(
        config.root, config.embedding, split, missing=config.missing, width=config.width
    )
    made_from = dict(split_hash=split.fingerprint,
                     embedding_hash=embedding_hash(config.root, config.embedding, config.width))
    for options in each_seed(config):
        with Run("toy_net", options, **made_from) as this_run:
            if not this_run.finished:
                scores = options.sign * options.arranged(vectors)[:, 0]
                lists = recommend(lambda users: np.tile(scores, (len(users), 1)), split)
                this_run.finish(lists, split, width=vectors.shape[1], device="cpu", parameters=0)


if __name__ == "__main__":
    run(each_run(main), ToyConfig, __doc__)
'''
LINE = (
    '    Recommender(name="toy_net", label="Toy Net", script="toy_net.py", '
    'space={"sign": [1, -1]}),\n'
)
METRIC = '    "FirstHit": lambda hits: hits.at[:, 0].astype(float),\n'


def test_nothing_but_the_registry_and_its_own_script_knows_a_recommender_by_name():
    own = {HERE / each.script: set() for each in ALL.values() if each.script != "baselines.py"}
    for name, each in ALL.items():
        own.get(HERE / each.script, set()).add(name)
        for part in (name, f"{name}_options"):  # where several scripts need how it learns
            own[HERE / "training" / f"{part}.py"] = {name}
    found = []
    for path in CODE:
        if path == HERE / "core" / "registry.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in ALL:
                names_a_script = (HERE / f"{node.value}.py").exists()  # as the tests call it
                if "benchmarks" in path.parts and names_a_script:
                    continue
                if node.value not in own.get(path, ()):
                    found.append(f"{path.relative_to(HERE)}:{node.lineno} {node.value}")
    assert len(CODE) > 100 and found == []


@pytest.mark.parametrize("name", ALL)
def test_what_the_registry_says_of_a_recommender_is_there(name):
    known = ALL[name]
    assert (HERE / known.script).exists() and (HERE / known.batch).exists()
    if known.options_file:
        assert known.learns and yaml.safe_load((HERE / known.options_file).read_text())
    if known.batch != "stage.sh":
        assert f"python {known.script}" in (HERE / known.batch).read_text()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with a recommender and a metric of one's own, and a root in it."""
    project = tmp_path_factory.mktemp("project")
    # With the kernels that numba has compiled, half a minute's work, but not what is being written.
    ignored = (".venv*", ".git", "sample", "tests", ".*_cache", "*.pyc*", "*.tmp.*")
    left_out = shutil.ignore_patterns(*ignored)
    shutil.copytree(HERE, project, ignore=left_out, dirs_exist_ok=True)
    (project / "toy_net.py").write_text(TOY)
    _add_line(project / "core" / "registry.py", "LISTED = (\n", LINE)
    _add_line(project / "evaluation" / "measures.py", "METRICS = {\n", METRIC)
    make_root(project / "R")
    return project


def _add_line(path: Path, after: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert after in text
    path.write_text(text.replace(after, after + line, 1), encoding="utf-8")


def _run(project: Path, line: str) -> str:
    environment = {**os.environ, "PYTHONPATH": ""}
    words = [sys.executable, *line.split()]
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_recommender_and_a_metric_of_ones_own_are_everywhere_after_a_line_each(project):
    _run(project, "toy_net.py --root R --embedding toy")
    _run(project, "toy_net.py --root R --embedding toy --shuffle")
    _run(project, "knn.py --root R --embedding toy")
    _run(project, "baselines.py --root R --only random_lists,popular")
    _run(project, "sweep.py --root R --recommender toy_net --embeddings toy --trials 2")
    assert "Toy Net" in _run(project, "table.py --root R --resamples 100")
    table = pd.read_csv(project / "R" / "tables" / "results.csv", keep_default_na=False)
    assert set(table[table.recommender == "toy_net"].tag) == {"", "shuffled", "tuned"}
    assert table["FirstHit@50"].between(0, 1).all()
    assert (project / "R" / "tables" / "toy_net.csv").exists()
    searched = pd.read_csv(project / "R" / "tables" / "search.csv")
    assert searched.recommender.tolist() == ["toy_net"] and searched.complete.tolist() == [2]
    path = project / "R" / "runs" / "random_lists-none-s1" / "metrics.json"
    levels = json.loads(path.read_text())["chance"]["test"]
    assert "HitRate@50" in levels and "FirstHit@50" not in levels, "no formula, no level"
    _run(project, "report.py --root R")
    page = (project / "R" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Toy Net" in page and "FirstHit@50" in page


PLAN = """
import pathlib, sys
from core.options import parse_config
from study.config import StudyConfig
from study.stages import plan
flags = ["--root", "R", "--log", "log.tsv", "--audio", ".", "--embeddings", "toy"]
for stage in plan(parse_config(StudyConfig, "", flags)):
    print(stage.name, stage.batch, stage.python, sep="|")
"""


def test_the_study_and_its_jobs_have_it_too(project):
    (project / "plan.py").write_text(PLAN)
    stages = dict(line.split("|", 1) for line in _run(project, "plan.py").splitlines())
    assert {"toy_net toy", "toy_net toy shuffled", "toy_net noise"} <= set(stages)
    assert re.match(
        r"stage\.sh\|python toy_net\.py --root \S+R --embedding toy", stages["toy_net toy"]
    )
    done = subprocess.run(
        ["bash", "run_all.sh", "--help"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0 and "toy_net" in done.stdout.splitlines()[-1]
