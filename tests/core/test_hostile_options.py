"""What people can type, or give as a file, is one line and an exit code, never a traceback."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core import options
from core.artifacts import atomic_path, is_full
from core.options import InputError, WorkError, refuse_special
from core.yamls import load_yaml

HERE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Nothing:
    pass


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "references such as '\\*a' are not taken"),
        ("knn: &k\n  center: *k\n", "references such as '\\*k' are not taken"),
        ("center: true\ncenter: false\n", "the key 'center' stands twice"),
        ("knn: {center: true, center: false}\n", "the key 'center' stands twice"),
        ("center: " + "[" * 5_000, "more than 20 levels"),
        ("? [1, 2]\n: x\n", "found unhashable key"),
        ("center: !!python/object:os.system {}\n", "could not determine a constructor"),
    ],
)
def test_yaml_that_people_do_not_write_is_refused_at_once(toy_root, call, text, message):
    root = toy_root()
    (root / "own.yaml").write_text(text)
    started = time.monotonic()
    with pytest.raises(InputError, match=f"(?s)own.yaml is not a yaml file: .*{message}"):
        call("knn", "--root", root, "--embedding", "toy", "--config", root / "own.yaml")
    assert time.monotonic() - started < 5


def test_yaml_that_people_write_is_read():
    text = "seed: 3\nknn: {center: true}\nspace:\n  low: 1.5\n  values: [a, null, 2]\n"
    expected = {"low": 1.5, "values": ["a", None, 2]}
    assert load_yaml(text) == {"seed": 3, "knn": {"center": True}, "space": expected}
    assert load_yaml("") is None


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("baselines", ("--l2", "inf"), "--l2 must be a finite number, got 'inf'"),
        ("table", ("--resamples", 2**62), "--resamples must be at most 10,000,000, got 4,611"),
        ("baselines", ("--l2", "50,nan"), "--l2 must be a finite number, got 'nan'"),
        ("train", ("--embedding", "toy", "--learning-rate", "1e999"), "must be a finite number"),
        (
            "knn",
            ("--embedding", "noise", "--width", 10**12),
            "--width must be between 1 and 65,536",
        ),
        (
            "knn",
            ("--embedding", "toy", "--seed", 2**63),
            "--seed must be a whole number below 2",
        ),
        ("knn", ("--embedding", "toy", "--seed", "9" * 5_000), "--seed must be a whole number"),
        ("make_sample", ("--tracks", 10**15), "--tracks must be at most 1,000,000, got 1,000,000"),
        ("make_sample", ("--plays", 10**11), "--plays must be at most 100,000,000"),
        ("report", ("--pattern", "*.mp3"), "--pattern needs --audio DIR"),
        ("report", ("--audio", ""), "--audio must be a path, got ''"),
        ("metrics", ("--run", "knn-toy-s1", "--export", " "), "--export must be a path, got ' '"),
        ("artist_controls", ("--embedding", "toy", "--artists", "."), "--artists . cannot be read"),
        ("artist_controls", ("--embedding", "toy", "--artists", ".", "--seed", "-1"), "at least 0"),
        (
            "robustness",
            ("--embeddings", "toy", "--seed", "-1"),
            "--seed must be at least 0, got -1",
        ),
        ("robustness", ("--embeddings", "x" * 300), "100 at most"),
        ("robustness", ("--embeddings", "noise"), "noise is no file"),
        ("knn", ("--embedding", "toy", "--tag", "null"), "--tag null would be none; leave it away"),
        ("train", ("--embedding", "toy", "--tag", "Auto"), "--tag Auto would be none"),
    ],
)
def test_numbers_without_sense_are_refused(toy_root, call, script, flags, message):
    with pytest.raises(InputError, match=message):
        call(script, "--root", toy_root(), *flags)


@pytest.mark.parametrize("value", [1e30, 1e-30])
def test_vectors_whose_squared_length_is_no_float32_are_refused(toy_root, call, value):
    root = toy_root()
    vectors = np.load(root / "embeddings" / "toy.npy")
    vectors[7] = value
    np.save(root / "embeddings" / "toy.npy", vectors)
    with pytest.raises(InputError, match="toy.npy row 7 has values up to 1e.30, whose squared len"):
        call("knn", "--root", root, "--embedding", "toy")


SCRIPTS = [
    ("1_train_test_split",),
    ("1_train_test_split", "--check"),
    ("knn", "--embedding", "noise"),
    ("train", "--embedding", "noise", "--device", "cpu"),
    ("baselines",),
    ("metrics", "--run", "knn-noise-s1"),
    ("table",),
    ("report",),
    ("sweep", "--recommender", "knn", "--embeddings", "noise"),
]


@pytest.mark.parametrize("flags", SCRIPTS, ids=" ".join)
def test_a_mistyped_root_makes_no_folder(tmp_path, call, flags):
    script, *flags = flags
    with pytest.raises(InputError, match="mistyped"):
        call(script, "--root", tmp_path / "mistyped", *flags)
    assert not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize("kind", ["file", "fifo", "loop", "device"])
def test_a_root_that_is_no_folder_is_refused_by_every_script(tmp_path, call, kind):
    root = tmp_path / kind
    if kind == "file":
        root.write_text("")
    elif kind == "fifo":
        os.mkfifo(root)
    elif kind == "loop":
        root.symlink_to(root)
    else:
        root = Path("/dev/null")
    log = ("0_get_plays_pqt", "--log", HERE / "README.md")
    for script, *flags in (*SCRIPTS, log, ("make_sample",)):
        with pytest.raises(InputError, match=f"--root {root} is no folder"):
            call(script, "--root", root, *flags)


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("metrics", ("--run", "knn-toy-s1", "--artists")),
        ("artist_controls", ("--embedding", "toy", "--artists")),
        ("import_embedding", ("--name", "mine", "--table")),
        ("import_embedding", ("--name", "mine", "--table", HERE / "README.md", "--ids")),
        ("report", ("--about",)),
        ("sweep", ("--recommender", "knn", "--embeddings", "toy", "--space")),
        ("0_get_plays_pqt", ("--log", HERE / "README.md", "--tracks")),
        ("1_train_test_split", ("--published",)),
        ("get_data", ("--list", "--sources")),
    ],
)
def test_a_fifo_or_device_is_refused_for_every_path(toy_root, call, script, flags):
    root = toy_root()
    os.mkfifo(root / "fifo")
    for path, kind in ((root / "fifo", "a FIFO"), ("/dev/zero", "a device")):
        with pytest.raises(InputError, match=f"{flags[-1]} {path} is {kind}; expected a file"):
            call(script, "--root", root, *flags, path)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("alloc_cpu.cpp:1: DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904, 8]"),
        ValueError("Maximum allowed dimension exceeded"),
        ValueError("array is too big; `arr.size * arr.dtype.itemsize` is larger than"),
    ],
)
def test_more_memory_than_there_is_is_one_line(monkeypatch, capsys, error):
    def main(config):
        raise error

    monkeypatch.setattr(sys, "argv", ["knn.py"])
    monkeypatch.setattr(options, "_watch", lambda *_: None)
    handlers = {number: signal.getsignal(number) for number in options.SIGNALS}
    with pytest.raises(SystemExit) as ended:
        options.run(main, Nothing, "")
    for number, handler in handlers.items():
        signal.signal(number, handler)
    said = capsys.readouterr().err
    assert ended.value.code == 1 and said.startswith("knn.py: not enough memory (")
    assert said.count("\n") == 1


def test_a_name_that_no_file_can_have_is_refused(toy_root, call):
    root = toy_root()
    for flags in (("--embedding", "x" * 101), ("--embedding", "toy", "--tag", "x" * 300)):
        with pytest.raises(InputError, match="'_' only, 100 at most"):
            call("knn", "--root", root, *flags)
    with pytest.raises(InputError, match="--config holds a character NUL"):
        call("knn", "--root", root, "--embedding", "toy", "--config", "a\0b")
    assert not list((root / "runs").glob("*"))


def test_what_is_no_file_is_neither_read_nor_replaced(toy_root, call, tmp_path):
    root = toy_root()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match="--log .*fifo is a FIFO; expected a file"):
        call("0_get_plays_pqt", "--root", root, "--log", tmp_path / "fifo")
    with pytest.raises(InputError, match="--config .*fifo is a FIFO; expected a file"):
        call("knn", "--root", root, "--embedding", "toy", "--config", tmp_path / "fifo")
    call("knn", "--root", root, "--embedding", "toy")
    for path, kind in (
        (tmp_path / "fifo", "a FIFO"),
        ("/dev/null", "a device"),
        (root, "a folder"),
    ):
        with pytest.raises(InputError, match=f"{path} is {kind}; expected a file"):
            call("metrics", "--root", root, "--run", "knn-toy-s1", "--export", path)
    assert not Path("/dev/null").is_file() and (tmp_path / "fifo").is_fifo()
    for name in ("trackid_sorted.csv", "data/val.pqt", "embeddings/toy.npy"):
        (root / name).rename(tmp_path / "kept")
        os.mkfifo(root / name)
        with pytest.raises(InputError, match=f"{Path(name).name} is a FIFO; expected a file"):
            call("knn", "--root", root, "--embedding", "toy", "--tag", "again")
        (tmp_path / "kept").replace(root / name)
    refuse_special(tmp_path / "nothing", "it")


def test_only_a_disk_without_room_is_called_full(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: pytest.fail("asked of the disk"))
    for error in (OSError(5, "Input/output error"), ValueError("wrong"), InputError("wrong")):
        with pytest.raises(type(error)):
            with atomic_path(tmp_path / "a"):
                raise error
    for error in (
        OSError(28, "x"),
        OSError(122, "x"),
        RuntimeError("IO Error: No space left on device"),
    ):
        assert is_full(error)
        with pytest.raises(WorkError, match="no space left on the disk of .*a; make room"):
            with atomic_path(tmp_path / "a"):
                raise error


WORKING = """
import sys
from dataclasses import dataclass
sys.path.insert(0, {here!r})
import core.options
from core.options import option, run

core.options.PATIENCE, core.options.UNWINDING = 0.5, 1.0  # DuckDB would work on for all of 12 s

@dataclass(frozen=True)
class Working:
    kind: str = option(help="of work")

def main(config):
    print("±", flush=True)
    if config.kind == "memory":
        import numpy
        numpy.zeros((10**6, 10**6, 10))
    if config.kind == "deaf":  # a long call that lets other threads run, and no handler
        import hashlib
        print("begun", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)
    if config.kind == "duckdb":
        import duckdb
        print("begun", flush=True)
        duckdb.sql("SELECT sum(a.range * b.range) FROM range(9999999) a, range(9999) b").fetchall()

run(main, Working, "")
"""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("kind", ["duckdb", "deaf"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_inside_a_library_is_one_line_and_its_exit_code(signum, code, kind):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKING.format(here=str(HERE)), "--kind", kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() + process.stdout.readline() == "±\nbegun\n"
        begun = cpu_seconds(process.pid)
        while cpu_seconds(process.pid) < begun + 0.3:  # it is at the long call, no more on the way
            time.sleep(0.02)
        process.send_signal(signum)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()  # which else goes on for days
    assert (process.returncode, said.count("\n")) == (code, 1), said
    assert "what is done so far is kept; the same command goes on from there" in said


def test_too_little_memory_and_a_terminal_of_ascii_are_no_tracebacks():
    done = subprocess.run(
        [sys.executable, "-c", WORKING.format(here=str(HERE)), "--kind", "memory"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "?\n", 1), done.stderr
    assert "not enough memory (Unable to allocate" in done.stderr
