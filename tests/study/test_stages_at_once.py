"""Stages side by side: their order, what is seen of them, and how they end."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HERE

import run_study
from core.options import InputError, WorkError, parse_config
from study import room
from study.config import StudyConfig
from study.room import free_memory, settings_of, stages_at_once
from study.side_by_side import run_stages
from study.stage import Stage

SAYS = """
import sys, time
from pathlib import Path
folder, name, seconds, code = Path(sys.argv[1]), *sys.argv[2:]
with open(folder / "order", "a") as file:
    print("begin", name, file=file)
print(f"{name} says this", flush=True)
try:
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end and not (folder / f"end {name}").exists():
        time.sleep(0.01)
finally:
    with open(folder / "order", "a") as file:
        print("end", name, file=file)
print(f"{name} says that", file=sys.stderr)
sys.exit(int(code))
"""


def stage(folder, name, *needs, seconds=0.0, code=0, **more):
    flags = (str(folder), name, str(seconds), str(code))
    return Stage(name=name, script=("-c", SAYS), flags=flags, missing=list, needs=needs, **more)


def run(folder, stages, at_once=2, **more):
    """Run stages; return those that had the terminal."""
    alone = []

    def call(one):
        alone.append(one.name)
        subprocess.run([sys.executable, *one.script, *one.flags], check=True)

    run_stages(stages, call, at_once, folder / "logs", **more)
    return alone


def order(folder):
    return (folder / "order").read_text().splitlines()


def test_a_stage_begins_once_those_it_needs_are_done_and_no_more_run_than_may(tmp_path):
    stages = [stage(tmp_path, "a", seconds=0.2)]
    stages += [stage(tmp_path, name, "a", seconds=0.2) for name in "bcde"]
    stages.append(stage(tmp_path, "f", "b", "e"))
    stages.append(stage(tmp_path, "g", "c", "d", "f"))
    alone = run(tmp_path, stages, at_once=3)
    assert (alone[0], alone[-1]) == ("a", "g")  # e and f too where those beside them end at once
    assert not {"b", "c", "d"} & set(alone)
    said, running, most = order(tmp_path), set(), 0
    needs = {each.name: set(each.needs) for each in stages}
    done = set()
    for line in said:
        what, name = line.split()
        if what == "begin":
            assert needs[name] <= done
            running.add(name)
            most = max(most, len(running))
        else:
            running.remove(name)
            done.add(name)
    assert done == set("abcdefg") and most == 3


def test_one_at_a_time_each_has_the_terminal(tmp_path):
    assert run(tmp_path, [stage(tmp_path, name) for name in "abc"], at_once=1) == list("abc")
    assert not (tmp_path / "logs").exists()


def test_what_others_need_and_what_takes_long_begins_first(tmp_path):
    stages = [stage(tmp_path, "short", seconds=0.2), stage(tmp_path, "long", seconds=1, long=True)]
    stages.append(stage(tmp_path, "first", seconds=1))
    stages += [stage(tmp_path, name, "first") for name in "xy"]
    assert run(tmp_path, stages, at_once=1) == ["short", "long", "first", "x", "y"]
    (tmp_path / "order").unlink()
    run(tmp_path, stages)
    assert set(order(tmp_path)[:2]) == {"begin first", "begin long"}


def test_two_that_need_the_gpu_do_not_run_together(tmp_path):
    stages = [stage(tmp_path, name, seconds=0.2, batch="train.sh") for name in "ab"]
    run(tmp_path, [*stages, stage(tmp_path, "c", seconds=0.2)], one_gpu=True)
    said = order(tmp_path)
    assert abs(said.index("begin a") - said.index("begin b")) >= 2
    assert said.index("begin c") < 2, "what needs none runs beside it"


def test_what_each_says_is_shown_in_one_piece_with_what_it_took(tmp_path, capfd):
    run(tmp_path, [stage(tmp_path, name, seconds=0.3) for name in "ab"])
    out, err = capfd.readouterr()
    for name in "ab":
        block = rf"\n== {name}\n{name} says this\n{name} says that\ntook \d+ s, .* MB at most\n"
        assert re.search(block, out), out
    assert not err and "\x1b" not in out
    assert not (tmp_path / "logs").exists()


def test_a_failure_is_said_last_and_ends_what_runs_beside_it(tmp_path, capfd, monkeypatch):
    stages = [stage(tmp_path, "long", seconds=60), stage(tmp_path, "bad", seconds=0.5, code=2)]
    stages.append(stage(tmp_path, "never", "bad"))
    with pytest.raises(InputError, match="ended with exit code 2, see above; then run this again"):
        run(tmp_path, stages)
    out, err = capfd.readouterr()
    assert err == "\n== bad\nbad says this\nbad says that\n"
    assert "-- long was ended as well" in out and "took" not in out
    assert "begin never" not in order(tmp_path)
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    with pytest.raises(WorkError, match="exit code 1"):
        run(tmp_path, [stage(tmp_path, "c", seconds=60), stage(tmp_path, "d", code=1)])
    assert capfd.readouterr().out.endswith("\n== d\nd says this\nd says that\n"), "last"


def test_one_that_is_killed_is_named_with_what_may_have_killed_it(tmp_path):
    stages = [stage(tmp_path, "a", seconds=60)]
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    stages.append(Stage(name="b", script=("-c", kill), flags=(), missing=list))
    with pytest.raises(WorkError, match="was killed.*--at-once 1"):
        run(tmp_path, stages)


def test_what_is_optional_may_fail_beside_others(tmp_path, capfd):
    stages = [stage(tmp_path, "a", seconds=0.5), stage(tmp_path, "b", code=1, optional=True)]
    run(tmp_path, [*stages, stage(tmp_path, "c", "a", "b")])
    out = capfd.readouterr().out
    assert "b says that\nthe study goes on without b: -c ended with exit code 1" in out
    assert order(tmp_path)[-1] == "end c"


STUDY = """
import sys
from pathlib import Path
sys.path[:0] = [{here!r}, {tests!r}]
import test_stages_at_once as made
from core.options import run
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    pass

def main(config):
    folder = Path({folder!r})
    stages = [made.stage(folder, name, seconds=60) for name in "abc"]
    made.run_stages(stages, None, 2, folder / "logs")

run(main, Config, "")
"""


def begun(folder, **more):
    """Return a process that runs two stages, once both have begun."""
    code = STUDY.format(here=str(HERE), tests=str(Path(__file__).parent), folder=str(folder))
    path = str(HERE / "tests")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        cwd=HERE,
        **more,
    )
    deadline = time.monotonic() + 60
    while not (folder / "order").exists() or len(order(folder)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("to", ["one", "all"])
def test_a_signal_ends_all_that_runs(tmp_path, signum, code, to):
    """Ctrl-C reaches all of a terminal's processes; `kill` the one that is named."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = begun(tmp_path, start_new_session=True, **pipes)
    if to == "all":
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert len(err.splitlines()) == 1 and "the same command goes on from there" in err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not (tmp_path / "logs").exists()


def test_on_a_terminal_one_line_tells_how_far_all_are_and_goes_before_others(tmp_path):
    ours, theirs = pty.openpty()
    process = begun(tmp_path, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    time.sleep(0.5)
    (tmp_path / "end a").touch()
    while "begin c" not in order(tmp_path):
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # how a terminal ends
        pass
    text = seen.decode().replace("\r\n", "\n")
    assert "\r\x1b[K0 of 3 stages done; a: 0 s; b: 0 s" in text
    assert "\r\x1b[K1 of 3 stages done; b: " in text
    assert "\r\x1b[K\n== a\na says this\na says that\ntook " in text, "the line was wiped"


def test_far_is_what_a_training_said_last(tmp_path, monkeypatch, capfd):
    from study import side_by_side

    monkeypatch.setattr(side_by_side, "EVERY", 0.3)
    line = "epoch   3/30  loss 0.1  NDCG@50 0.1  2.5 s"
    code = f"import time; print({line!r}, flush=True); time.sleep(1.5)"
    stages = [Stage(name="net", script=("-c", code), flags=(), missing=list)]
    run(tmp_path, [*stages, stage(tmp_path, "b", seconds=1.5)])
    out = capfd.readouterr().out
    assert "0 of 2 stages done; net: epoch 3/30, at most 68 s left; b: " in out


def test_a_line_in_a_file_comes_where_nothing_was_said_for_long(tmp_path, monkeypatch, capfd):
    from study import side_by_side

    monkeypatch.setattr(side_by_side, "EVERY", 1.0)
    alone = stage(tmp_path, "a", seconds=1.2)
    run(tmp_path, [alone, *(stage(tmp_path, name, "a", seconds=0.1) for name in "bc")])
    assert "stages done" not in capfd.readouterr().out


# How many


def asked(*flags):
    return parse_config(StudyConfig, "", [*map(str, flags)])


def test_as_many_run_as_there_are_cores_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "available_cores", lambda: 4)
    monkeypatch.setattr(room, "free_memory", lambda: 7e9)
    own = ("--log", tmp_path / "log", "--audio", tmp_path)
    assert stages_at_once(asked("--root", tmp_path))[0] == 4, "a sample's stages are small"
    assert stages_at_once(asked("--root", tmp_path, *own))[0] == 2, "3 GB each"
    assert stages_at_once(asked("--root", tmp_path, *own, "--at-once", 5))[0] == 5
    monkeypatch.setattr(room, "free_memory", lambda: 1e9)
    assert stages_at_once(asked("--root", tmp_path, *own))[0] == 1
    monkeypatch.setattr(room, "available_cores", lambda: 64)
    monkeypatch.setattr(room, "free_memory", lambda: 500e9)
    assert stages_at_once(asked("--root", tmp_path, *own))[0] == 8


def test_trainings_that_the_clock_ends_have_the_machine_for_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "available_cores", lambda: 4)
    monkeypatch.setattr(room, "free_memory", lambda: 500e9)
    n, why = stages_at_once(asked("--onion", "--root", tmp_path))
    assert n == 1 and "max_minutes of shallow" in why
    options = tmp_path / "own.yaml"
    options.write_text("elsa: {max_minutes: 60}\n")
    assert stages_at_once(asked("--root", tmp_path, "--config", options))[0] == 1
    options.write_text("elsa: {max_minutes: none}\n")
    assert stages_at_once(asked("--root", tmp_path, "--config", options))[0] == 4


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("0::/a/b", "sys/fs/cgroup/a/memory.max"),
        ("0::/elsewhere", "sys/fs/cgroup/memory.max"),
        ("4:cpu,memory:/a/b", "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes"),
    ],
)
def test_memory_is_what_is_free_or_what_the_group_may_have(tmp_path, group, file):
    files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  4000000 kB\n"}
    files |= {"proc/self/cgroup": f"1:name=systemd:/\n{group}\n", file: "max\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == 4_096_000_000
    (tmp_path / file).write_text("1000000000\n")
    assert free_memory(tmp_path) == 1_000_000_000


def test_a_stage_of_the_sample_alone_has_one_thread(tmp_path):
    own = ("--log", tmp_path / "log", "--audio", tmp_path)
    assert settings_of(asked("--root", tmp_path)) == {"OMP_NUM_THREADS": "1"}
    assert settings_of(asked("--root", tmp_path, *own)) == settings_of(asked("--onion")) == {}


def test_a_stage_has_its_settings_alone_and_beside_others_and_what_is_set_counts(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("STAGE_TWO", "the user's")
    monkeypatch.delenv("STAGE_ONE", raising=False)
    code = "import os, sys; e = os.environ; "
    code += "open(sys.argv[1], 'w').write(e['STAGE_ONE'] + e['STAGE_TWO'])"
    settings = {"STAGE_ONE": "ours and ", "STAGE_TWO": "ours"}
    made = [
        Stage(
            name=name, script=("-c", code), flags=(str(tmp_path / name),), missing=list,
            settings=settings,
        )
        for name in "abc"
    ]  # fmt: skip
    run_stages(made[:2], None, 2, tmp_path / "logs")
    run_study.call(made[2])
    assert {(tmp_path / name).read_text() for name in "abc"} == {"ours and the user's"}
    assert "STAGE_ONE" not in os.environ
