"""A signal while a command is still importing: one line and the signal's exit code."""

import ast
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HERE

COMMANDS = [
    path
    for path in (*sorted(HERE.glob("*.py")), *sorted(HERE.glob("extract_item_embeddings/*.py")))
    if "\nif __name__ ==" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_a_command_takes_signals_before_it_imports_what_is_heavy(path):
    light = {*sys.stdlib_module_names, "__future__"}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            name = getattr(node, "module", None) or node.names[0].name
            if name.partition(".")[0] not in light:
                assert name == "core.start"
                return
    pytest.fail(f"{path.name} does not import core.start")


BACKBONE = ("-m", "extract_item_embeddings.mfcc", "--help")
SCRIPT = (HERE / "train.py", "--embedding", "mfcc", "--root", "absent")


@pytest.mark.fresh_starts
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("words", "said"), [(BACKBONE, "before it began"), (SCRIPT, "the same command goes on")]
)
def test_a_signal_during_the_imports_is_one_line(words, said, number, code):
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
    ) as process:
        maps, deadline = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
        while "numpy" not in maps.read_text() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert len(err.splitlines()) == 1 and said in err and "Traceback" not in err
    assert out == ""
