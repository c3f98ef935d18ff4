"""Every command of docs/open-data.md is one that its script takes."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from core.options import parse_config
from study.config import StudyConfig

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "open-data.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for line in PAGE.splitlines()
    if re.match(r"(python|bash run_all.sh) ", line)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_its_script_takes_it(line):
    words = shlex.split(line)
    if words[0] == "bash":
        parse_config(StudyConfig, "", words[2:])
        return
    name, flags = (words[2], words[3:]) if words[1] == "-m" else (words[1][:-3], words[2:])
    module = importlib.import_module(name)
    own = [v for v in vars(module).values() if getattr(v, "__module__", "") == name]
    kind = next(v for v in own if isinstance(v, type) and v.__name__.endswith("Config"))
    parse_config(kind, module.__doc__, flags)


def test_there_are_commands_of_every_script():
    names = " ".join(COMMANDS)
    for script in ("get_data.py", "import_embedding.py", "make_onion", "--published", "--onion"):
        assert script in names
