"""--help of every command, and its typing errors, come before anything heavy is imported."""

import ast
import math
import subprocess
import sys
import traceback
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import HERE

from core.late import MARK, import_the_rest, options_are_read

SCRIPTS = [
    path
    for path in sorted(HERE.glob("*.py"))
    if "\nif __name__ ==" in path.read_text(encoding="utf-8")
]
LIGHT = {"yaml", "_yaml", "_distutils_hack"}  # of what is installed; the last is a hook's


def started(path, *flags):
    """Return the finished process of a command that says which modules it imported."""
    words = [sys.executable, "-X", "importtime", path, *flags]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def installed(stderr: str) -> set[str]:
    """Return which of the libraries that are installed here a process imported."""
    names = (line.rpartition("|")[2].strip() for line in stderr.splitlines() if "| " in line)
    there = {path.stem.partition(".")[0] for path in Path(np.__file__).parents[1].iterdir()}
    return {name.partition(".")[0] for name in names} & there - LIGHT


def late(path) -> list[ast.stmt]:
    """Return a script's late imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == MARK]
    return [statement for block in blocks for statement in block.body]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_help_imports_nothing_heavy(path):
    done = started(path, "--help")
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.startswith("usage: ")
    assert "core.options" in done.stderr
    assert not installed(done.stderr)


def test_a_typing_error_is_told_before_anything_heavy_is_imported():
    done = started(HERE / "train.py", "--embeding", "mfcc")
    assert done.returncode == 2
    assert "did you mean '--embedding'?" in done.stderr
    assert not installed(done.stderr)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_options_are_checked_without_what_is_imported_late(path):
    names = {
        alias.asname or alias.name.partition(".")[0] for node in late(path) for alias in node.names
    }
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for kind in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        checks = [n for n in kind.body if getattr(n, "name", "__post_init__") == "__post_init__"]
        for check in checks:
            found = list(ast.walk(check))
            used = {n.id for n in found if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            own = {a.name for n in found if isinstance(n, ast.ImportFrom) for a in n.names}
            assert not used & names - own


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("def main():\n    if options_are_read(__name__):\n        import math\n", LookupError),
        ("if options_are_read(__name__):\n    import no_such_library\n", ModuleNotFoundError),
        ("if options_are_read(__name__):\n    import math as found\n", None),
    ],
)
def test_what_can_be_wrong_with_a_block_is_told(tmp_path, monkeypatch, body, error):
    script = types.ModuleType("__main__")
    script.__file__, script.options_are_read = str(tmp_path / "script.py"), options_are_read
    Path(script.__file__).write_text("import sys\n" + body)
    monkeypatch.setitem(sys.modules, "__main__", script)
    if error is None:
        import_the_rest()
        assert script.found is math
        del script.options_are_read  # a script that imports nothing late
        return import_the_rest()
    with pytest.raises(error) as caught:
        import_the_rest()
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert "no block" in str(caught.value) or (last.filename, last.lineno) == (script.__file__, 3)


def test_a_script_that_is_imported_has_everything_at_once():
    import knn

    assert knn.recommend_nearest and knn.Run
