"""A file that exists is whole: after failures, kills, beside other processes, on a full disk."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from core.artifacts import (
    atomic_path,
    exclusive,
    read_json,
    sha256,
    write_json,
    write_npy,
    write_table,
)
from core.names import check_name
from core.options import InputError, WorkError

HERE = Path(__file__).resolve().parents[2]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole_and_not_before(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "half"
    assert names(target.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path, error):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error):
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error("why")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from core.artifacts import atomic_path, exclusive
from pathlib import Path
with exclusive(Path({folder!r}) / "lock", "it"), atomic_path(Path({folder!r}) / "file.txt") as half:
    half.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_is_never_the_file_and_goes_with_the_next_write(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    code = KILLED.format(here=str(HERE), folder=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    left = [name for name in names(tmp_path) if name.endswith(".tmp")]
    assert len(left) == 1
    assert (tmp_path / "file.txt").read_text() == "old"

    with exclusive(tmp_path / "lock", "it"), atomic_path(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["file.txt", "lock"]
    assert (tmp_path / "file.txt").read_text() == "new"


def test_temporaries_of_living_processes_other_hosts_and_other_files_are_left_alone(tmp_path):
    host, parent, gone = socket.gethostname(), os.getppid(), process_id_of_nobody()
    kept = [
        f".file.txt.{host}.{parent}.tmp",
        f".file.txt.other-{host}.{gone}.tmp",
        f".other.txt.{host}.{gone}.tmp",
    ]
    for name in [*kept, f".file.txt.{host}.{gone}.tmp"]:
        (tmp_path / name).touch()
    with atomic_path(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == sorted([*kept, "file.txt"])


def process_id_of_nobody():
    return next(n for n in range(100_000, 200_000) if not Path(f"/proc/{n}").exists())


def test_equal_tables_give_equal_bytes(tmp_path):
    frame = pd.DataFrame({"user_id": [1, 2], "score": np.float32([0.5, 0.25])})
    labelled = frame.set_index(pd.Index(["a", "b"], name="other"))
    labelled.attrs["made"] = "elsewhere"
    arrow = pa.Table.from_pandas(frame).replace_schema_metadata({"made": "elsewhere"})
    for number, table in enumerate((frame, labelled, arrow, frame.copy())):
        write_table(tmp_path / f"{number}.pqt", table)
    assert len({sha256(tmp_path / f"{n}.pqt") for n in range(4)}) == 1
    assert pq.read_table(tmp_path / "0.pqt").to_pandas().equals(frame)


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"mean": 0.1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"mean": float("nan")})
    assert read_json(tmp_path / "a.json", "a command") == {"mean": 0.1}
    assert names(tmp_path) == ["a.json"]


def test_a_json_that_is_missing_or_broken_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(InputError, match="a.json is missing; make it with python x.py"):
        read_json(tmp_path / "a.json", "python x.py")
    (tmp_path / "a.json").write_text('{"half": ')
    with pytest.raises(InputError, match="a.json cannot be read .* make it with python x.py"):
        read_json(tmp_path / "a.json", "python x.py")


def test_an_array_is_written_in_c_order(tmp_path):
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    write_npy(tmp_path / "a.npy", array)
    read = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert read.flags.c_contiguous
    assert read.tolist() == array.tolist()


def test_a_fingerprint_is_of_contents_in_their_order(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    a, b = tmp_path / "a", tmp_path / "b"
    # sha256 of b"ab", as every implementation of it gives
    expected = "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603"
    assert sha256(a, b) == expected
    assert sha256(b, a) != expected


def test_one_lock_is_held_once_and_freed_afterwards(tmp_path):
    with exclusive(tmp_path / "lock", "the run"):
        with pytest.raises(InputError, match="another process is working on the run"):
            with exclusive(tmp_path / "lock", "the run"):
                pass
    with exclusive(tmp_path / "lock", "the run"):
        pass


@pytest.mark.parametrize("name", ["", "MERT", "a-b", "../a", "a b", "a\n"])
def test_a_name_that_would_be_no_good_in_a_path_is_refused(name):
    with pytest.raises(InputError, match="must be lower-case letters, digits and '_' only"):
        check_name("tag", name)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB and a function that leaves so many bytes of it free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("this account may not mount a small file system")

    def leave(free):
        with open(folder / "filler", "wb") as filler:
            state = os.statvfs(folder)
            filler.write(b"x" * (state.f_bavail * state.f_frsize - free))

    yield folder, leave
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_an_error_that_says_so_and_the_old_file_stays(small_disk):
    disk, leave = small_disk
    write_json(disk / "a.json", {"old": 1})
    leave(8192)
    with pytest.raises(WorkError, match="no space left on the disk of .*a.json; make room"):
        write_json(disk / "a.json", {"new": "x" * 100_000})
    with pytest.raises(WorkError, match="no space left on the disk of .*a.pqt; make room"):
        write_table(disk / "a.pqt", pd.DataFrame({"x": np.random.default_rng(0).random(50_000)}))
    assert read_json(disk / "a.json", "") == {"old": 1}
    assert names(disk) == ["a.json", "filler"]


def test_a_file_larger_than_its_owner_may_write_leaves_nothing(tmp_path):
    # What a quota does, where the test may not mount a disk.
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
    try:
        with pytest.raises(OSError):
            write_npy(tmp_path / "a.npy", np.zeros(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert names(tmp_path) == []


READERS = {
    ".json": lambda path: json.loads(path.read_text()),
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
    ".pqt": pq.read_table,
    ".pt": lambda path: torch.load(path, weights_only=True),
}
TRAIN = ("train.py", "--embedding", "toy", "--epochs", 2, "--batch-size", 400, "--device", "cpu")


def test_a_command_on_a_full_disk_says_so_leaves_nothing_half_and_goes_on_afterwards(
    small_disk, toy_root, call
):
    """With a page more room at every attempt, so that one file after another does not fit."""
    disk, leave = small_disk
    undisturbed = toy_root(users=48, width=32)
    shutil.copytree(undisturbed, disk, dirs_exist_ok=True)
    script, *flags = TRAIN
    call("train", "--root", undisturbed, *flags)
    run, expected = disk / "runs" / "shallow-toy-s1", undisturbed / "runs" / "shallow-toy-s1"

    failed_at = []
    for free in range(0, 81_920, 4096):
        leave(free)
        try:
            call("train", "--root", disk, *flags)
        except WorkError as error:
            assert "no space left on the disk of" in str(error)
            failed_at.append(str(error).split("shallow-toy-s1/")[1].split(";")[0])
        else:
            break
        assert not (run / "metrics.json").exists()
        for path in run.iterdir():
            assert not path.name.endswith(".tmp")
            READERS.get(path.suffix, Path.stat)(path)
    assert {"config.yaml", "best.pt", "last.pt"} <= set(failed_at)

    (disk / "filler").unlink()
    call("train", "--root", disk, *flags)
    assert sha256(run / "recs.pqt") == sha256(expected / "recs.pqt")


def write_log(path):
    """Write a log of 4,000 plays in the first months of 2019."""
    rng = np.random.default_rng(0)
    days = pd.to_timedelta(rng.integers(0, 90 * 86_400, 4_000), unit="s")
    log = pd.DataFrame({"user_id": rng.integers(50, size=4_000)})
    log["track_id"] = [f"T{n:015d}" for n in rng.integers(90, size=4_000)]
    log.assign(timestamp=pd.Timestamp("2019-01-01") + days).to_csv(path, sep="\t", index=False)
    return path


def test_the_exit_code_on_a_full_disk_is_1_with_one_line(small_disk, toy_root, command, tmp_path):
    disk, leave = small_disk
    shutil.copytree(toy_root(), disk, dirs_exist_ok=True)
    log = write_log(tmp_path / "log.tsv")
    leave(8192)
    stage_0 = ("0_get_plays_pqt.py", "--log", log)
    sample = ("make_sample.py", "--tracks", 24, "--users", 20, "--plays", 400)
    for script, *flags in (("knn.py", "--embedding", "toy"), TRAIN, stage_0, sample):
        failed = command(script, "--root", disk, *flags)
        assert failed.returncode == 1, failed.stderr
        assert len(failed.stderr.splitlines()) == 1, failed.stderr
        assert "no space left on the disk" in failed.stderr
    assert not list(disk.rglob("*.tmp")) and not (disk / "data" / "plays.pqt").exists()

    (disk / "filler").unlink()
    for root in (disk, tmp_path / "undisturbed"):
        (root / "trackid_sorted.csv").unlink(missing_ok=True)  # the toy's holds other tracks
        again = command(*stage_0, "--root", root)
        assert again.returncode == 0, again.stderr
    plays = "data/plays.pqt"
    assert sha256(disk / plays) == sha256(tmp_path / "undisturbed" / plays)
