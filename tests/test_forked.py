"""A forked command is what a fresh one is: bytes, streams, signals, exit codes, imports."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HERE, make_root
from forked import Forked, Started

BOTH = pytest.mark.parametrize("kind", [Started, Forked], ids=["fresh", "forked"])
# Says whether the libraries were there before the script began.
SEEN = "import sys\nprint('numpy' in sys.modules, __name__)\n"


def ended(kind, *words, **options):
    """Return the finished process with what it said."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = kind([sys.executable, *map(str, words)], **pipes, **options)
    process.said, process.told = process.communicate(timeout=120)
    return process


@pytest.fixture
def script(tmp_path):
    """Return a function text -> a script that holds it."""

    def write(text, name="script.py"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["knn", "train"])
def test_runs_of_both_kinds_have_the_same_bytes(tmp_path, name):
    fit = ("--epochs", 2, "--device", "cpu") if name == "train" else ()
    found = []
    for kind in (Started, Forked):
        root = make_root(tmp_path / kind.__name__)
        words = (f"{name}.py", "--root", root, "--embedding", "toy", *fit)
        done = ended(kind, *words, cwd=HERE)
        assert (done.returncode, done.told) == (0, "")
        (run,) = (root / "runs").iterdir()
        compared = ("recs.pqt", "per_user_val.pqt", "per_user_test.pqt", "best.pt")
        there = [run / each for each in compared if (run / each).exists()]
        found.append({path.name: path.read_bytes() for path in there})
    assert found[0] == found[1] and len(found[0]) == (4 if name == "train" else 3)


@BOTH
@pytest.mark.parametrize(
    ("text", "code", "said", "told"),
    [
        ("print('±')", 0, "±\n", ""),
        ("import sys\nsys.exit(7)", 7, "", ""),
        ("import sys\nsys.exit('no')", 1, "", "no\n"),
        ("import atexit\natexit.register(print, 'bye')", 0, "bye\n", ""),
        ("import threading\nthreading.Timer(0.1, print, ['late']).start()", 0, "late\n", ""),
        ("import os\nprint('lost')\nos._exit(3)", 3, None, ""),
        ("import os\nos.kill(os.getpid(), 11)", -signal.SIGSEGV, "", ""),
        ("import os, sys\nprint(sys.argv[1:], os.getcwd(), sys.path[0] in __file__)", 0, None, ""),
    ],
)
def test_a_command_ends_as_it_does_afresh(kind, script, tmp_path, text, code, said, told):
    done = ended(kind, script(text), "--flag", cwd=tmp_path)
    assert (done.returncode, done.told) == (code, told)
    assert said is None or done.said == said
    if "argv" in text:
        assert done.said == f"['--flag'] {tmp_path} True\n"


@BOTH
@pytest.mark.parametrize(("text", "code"), [("1 / 0", 1), ("raise KeyboardInterrupt", -2)])
def test_a_traceback_begins_with_the_command(kind, script, text, code):
    path = script(f"def f():\n    {text}\nf()\n")
    done = ended(kind, path)
    lines = done.told.splitlines()
    assert done.returncode == code and lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{path}", line 3, in <module>'


@BOTH
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command_itself(kind, script, number):
    text = (
        "import os, signal, time\n"
        # A shell without job control starts its background jobs deaf to Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    words = [sys.executable, str(script(text))]
    with kind(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert int(process.stdout.readline()) == process.pid and process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) == -number


@BOTH
def test_its_time_is_limited_and_its_input_read(kind, script, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", kind)
    path = script("print(input()[::-1])\nimport time\ntime.sleep(60)\n")
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, path], input="abc\n", text=True, timeout=1)
    assert time.monotonic() - began < 30


def test_a_module_is_run_from_its_folder_and_sees_the_path_it_is_given(tmp_path, script):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "beside.py").write_text("print('beside')")
    script("import beside, sys\nprint(__name__, sys.modules['__main__'].__file__)\n", "part.py")
    for kind in (Started, Forked):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "own")}
        done = ended(kind, "-m", "part", cwd=tmp_path, env=environment)
        assert (done.said, done.told) == (f"beside\n__main__ {tmp_path}/part.py\n", "")


def test_what_libraries_read_as_they_are_imported_and_other_words_start_afresh(script):
    path = script(SEEN)
    assert ended(Forked, path).said == "True __main__\n"
    for words, options in (
        ((path,), {"env": {**os.environ, "OMP_NUM_THREADS": "7"}}),
        ((path,), {"env": {**os.environ, "HF_HOME": str(path.parent)}}),
        ((path,), {"preexec_fn": os.getpid}),
        (("-X", "utf8", path), {}),
        (("-c", SEEN), {}),
    ):
        assert ended(Forked, *words, **options).said == "False __main__\n", (words, options)


def test_a_forked_command_knows_nothing_of_the_project_before_it_begins(script):
    text = "import sys\nprint(*{str(getattr(m, '__file__', '')) for m in sys.modules.values()})\n"
    files = map(Path, ended(Forked, script(text), cwd="/").said.split())
    ours = {path.name for path in files if HERE in path.parents and ".venv" not in path.parts}
    assert ours == {"forked.py"} or ours == set()


def test_commands_of_a_test_are_forked(script):
    assert subprocess.Popen is Forked
    assert subprocess.run([sys.executable, script(SEEN)], capture_output=True).stdout[:4] == b"True"


@pytest.mark.fresh_starts
def test_unless_a_mark_forbids_it(script):
    done = subprocess.run([sys.executable, script(SEEN)], capture_output=True, text=True)
    assert subprocess.Popen is Started and done.stdout == "False __main__\n"
