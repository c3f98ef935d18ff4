"""The processes that decode: order, what their death costs, and that none is left behind."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from extract_item_embeddings.engine import decoder_processes
from extract_item_embeddings.engine.decoder_processes import Decoder, read_clips
from extract_item_embeddings.engine.decoding import ClipLength, read_clip

pytestmark = pytest.mark.fresh_starts
HERE = Path(__file__).resolve().parents[2]
LENGTH = ClipLength(rate=8_000, longest=8_000, shortest=2_000, step=800)
# A decoder that a file of this name kills, each time or the first time.
DEADLY = """
import os, signal
from pathlib import Path
from extract_item_embeddings.engine import decoder_processes
decode = decoder_processes.clips_or_reasons
def clips_or_reasons(path, lengths):
    once = path.with_suffix(".once")
    if path.stem == "deadly" or (path.stem == "unlucky" and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGSEGV if path.stem == "deadly" else signal.SIGKILL)
    return decode(path, lengths)
decoder_processes.clips_or_reasons = clips_or_reasons
decoder_processes.serve()
"""


def write(folder, names):
    """Write a wav file of another loudness for each name; return the paths."""
    files = [folder / f"{name}.wav" for name in names]
    noise = np.random.default_rng(0).normal(size=8_000) / 10
    for number, path in enumerate(files):
        soundfile.write(path, noise * (number + 1) / len(files), 8_000)
    return files


def children(pid):
    """The processes that any thread of this one started and has not waited for."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found += (task / "children").read_text().split()
    return found


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_clips_come_in_order_and_are_those_of_a_plain_call(tmp_path):
    files = [*write(tmp_path, "abcdefg"), "no audio file"]
    rows = [3, 0, 7, 6, 1]
    found = list(read_clips(files, rows, LENGTH, workers=2, ahead=1))
    assert [row for row, _ in found] == rows
    assert found[2][1] == "no audio file"
    for row, clip in found[:2] + found[3:]:
        assert clip.tolist() == read_clip(files[row], LENGTH).tolist()


def test_several_clips_of_a_file_are_those_of_a_plain_call_each(tmp_path):
    (file,), others = write(tmp_path, "a"), [dataclasses.replace(LENGTH, rate=6_000)]
    others += [ClipLength(4_000, longest=4_000, shortest=2_000, step=4), LENGTH]
    with Decoder() as decoder:
        found = decoder.read(file, tuple(others))
    for length, (clip, _) in zip(others, found, strict=True):
        assert clip.tolist() == read_clip(file, length).tolist()


def test_a_file_that_crashes_its_decoder_costs_its_own_row(tmp_path, monkeypatch):
    monkeypatch.setattr(decoder_processes, "COMMAND", DEADLY)
    files = write(tmp_path, ["a", "deadly", "b", "c"])
    found = dict(read_clips(files, range(4), LENGTH, workers=1, ahead=2))
    assert found[1] == "ends its decoder (SIGSEGV)"
    for row in (0, 2, 3):
        assert found[row].tolist() == read_clip(files[row], LENGTH).tolist()


def test_a_decoder_that_was_killed_once_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(decoder_processes, "COMMAND", DEADLY)
    (file,) = write(tmp_path, ["unlucky"])
    with Decoder() as decoder:
        for _ in range(2):
            ((clip, remark),) = decoder.read(file, (LENGTH,))
            assert clip.tolist() == read_clip(file, LENGTH).tolist() and remark == ""


def test_a_loop_that_is_left_early_leaves_no_process(tmp_path):
    files = write(tmp_path, "abcdef")
    clips = read_clips(files, range(6), LENGTH, workers=2, ahead=3)
    before = children(os.getpid())
    next(clips)
    started = set(children(os.getpid())) - set(before)
    assert 1 <= len(started) <= 2
    clips.close()
    assert not any(map(alive, started))


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_extraction_that_ends_however_leaves_no_process(tmp_path, ending):
    (tmp_path / "audio").mkdir()
    names = [f"t{number:03d}" for number in range(60)]
    write(tmp_path / "audio", names)
    lines = ["idx,trackid", *(f"{number},{name}" for number, name in enumerate(names))]
    (tmp_path / "trackid_sorted.csv").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "tests.extract_item_embeddings.toy_backbone", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--root", tmp_path, "--audio", tmp_path / "audio"],
        cwd=HERE,
        env={**os.environ, "TOY_SECONDS_A_BATCH": "0.5"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    assert wait_until(lambda: len(children(process.pid)) == 2)
    pids = children(process.pid)
    os.kill(process.pid, ending)
    process.wait(timeout=20)
    assert wait_until(lambda: not any(map(alive, pids)))
