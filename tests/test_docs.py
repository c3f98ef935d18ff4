"""The commands that README and docs/ show exist, and take the flags they are shown with."""

import dataclasses
import importlib
import importlib.util
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import HERE

PAGES = [HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))]
TARGET = r"(-m [\w.]+|[\w./-]+\.(?:py|sh))"
CALL = rf"(?:^|\s)(?:(?:\S*python[\d.]*|bash|sbatch(?: -\S+)*) {TARGET}|\./([\w/]+\.sh))((?: .*)?)$"
ELSEWHERE = ("-m venv", "-m pytest", "-m pip")  # modules that are not ours
PLACEHOLDERS = {"NAME", "RUN", "X"}  # a page that speaks of any backbone or script


def commands(path) -> list[tuple[str, tuple[str, ...]]]:
    """Return (target, flags) of every command in the page's blocks and code spans."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"```python\n.*?```", "", text, flags=re.S)
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    found = []
    for line in (*lines, *(" ".join(span.split()) for span in spans)):
        for part in re.split(r"&&|;|\|", line.split("  #")[0]):
            match = re.search(CALL, part.rstrip())
            if match:
                words = shlex.split(match[3], comments=True)
                flags = [word.split("=")[0] for word in words if word.startswith("--")]
                found.append((match[1] or match[2], tuple(flags)))
    return found


SHOWN = sorted({(page.name, *found) for page in PAGES for found in commands(page)})


@cache
def flags_of(target: str) -> set[str]:
    """Return the flags of a script or module, from the dataclass it hands to `run`."""
    name = target.removeprefix("-m ")
    if name == target:
        path = HERE / target
        spec = importlib.util.spec_from_file_location(f"shown_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        package = (HERE / name.replace(".", "/") / "__main__.py").exists()
        module = importlib.import_module(f"{name}.__main__" if package else name)
    last = Path(module.__file__).read_text(encoding="utf-8").rstrip().splitlines()[-1]
    kind = re.search(r"(\w+)(?:, __doc__)?\)$", last)[1]
    options = getattr(module, kind)
    options = options if dataclasses.is_dataclass(options) else options.config_class
    return {"--" + field.name.replace("_", "-") for field in dataclasses.fields(options)}


def python_of(target: str) -> str:
    """Return what a batch file runs, so that its flags are its script's."""
    if target in ("run_all.sh",):
        return "run_study.py"
    if not target.endswith(".sh"):
        return target
    last = (HERE / target).read_text(encoding="utf-8").rstrip().splitlines()[-1]
    return re.search(r"python (-m \S+|\S+\.py|\"\$@\")", last)[1] if "python" in last else ""


def test_commands_are_found_in_every_page_that_shows_some():
    assert {page for page, _, _ in SHOWN} >= {"README.md", "speed.md", "extraction.md", "slurm.md"}
    assert ("README.md", "knn.py", ("--root", "--embedding", "--shuffle")) in SHOWN
    assert any(target == "-m benchmarks.bench_report" for _, target, _ in SHOWN)


@pytest.mark.parametrize(("page", "target", "flags"), SHOWN)
def test_what_a_page_shows_is_there_and_takes_these_flags(page, target, flags):
    if target in ELSEWHERE or PLACEHOLDERS & set(re.split(r"\W+", target)):
        return
    file = target.removeprefix("-m ").replace(".", "/") + ".py" if " " in target else target
    page_of_examples = (HERE / "docs" / "adding.md").read_text(encoding="utf-8")
    example = re.findall(r"`extract_item_embeddings/(\w+)\.py`:\n", page_of_examples)
    if any(f"/{name}." in f"/{file}" for name in example):
        return
    package = HERE / file.removesuffix(".py") / "__main__.py"
    assert (HERE / file).exists() or package.exists(), f"{page} shows {target}"
    inner = python_of(target)
    if flags and inner and inner != '"$@"':
        assert set(flags) - {"--array", "--help"} <= flags_of(inner), f"{page}: {target}"
