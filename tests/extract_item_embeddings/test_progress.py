"""What a job says into a file, and of odd audio."""

import errno
import fcntl
import json

import numpy as np
import pytest
import soundfile

from core.artifacts import exclusive
from core.options import InputError
from extract_item_embeddings.engine import progress
from extract_item_embeddings.engine.progress import duration
from tests.extract_item_embeddings.test_replacing import run, write_audio


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7, "7 s"), (600, "10 min"), (4 * 3600, "4.0 h"), (14.5 * 86400, "14.5 days")],
)
def test_a_time_is_told_in_the_unit_that_suits_it(seconds, words):
    assert duration(seconds) == words


def test_a_job_without_a_terminal_says_what_it_does_and_how_far_it_is(
    tmp_path, capsys, monkeypatch
):
    write_audio(tmp_path, 0.5)
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    run(tmp_path, batch_size=8)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy: 70 tracks on cpu, 8 at once"
    assert lines[1].startswith("toy: 1 of 70 tracks, ") and lines[1].endswith(" left")
    assert lines[69].startswith("toy: 69 of 70 tracks") and " a second, " in lines[69]


def test_odd_audio_is_counted_in_the_last_lines_and_in_the_json(tmp_path, capsys):
    write_audio(tmp_path, 0.5)
    wave = np.sin(np.arange(8000) * 0.3)
    soundfile.write(tmp_path / "audio/t03.wav", np.stack([wave, -wave], 1), 8000)
    soundfile.write(tmp_path / "audio/t05.wav", 0 * wave, 8000)
    soundfile.write(tmp_path / "audio/t60.wav", 9999 * wave, 8000, subtype="FLOAT")
    (tmp_path / "audio/t07.wav").unlink()
    (tmp_path / "audio/t07.wav").symlink_to("t07.wav")
    run(tmp_path, missing="nan")
    record = json.loads((tmp_path / "embeddings/toy.json").read_text())
    remarks = {"channels cancel": ["t03"], "out of range": ["t60"], "silent": ["t05"]}
    assert record["remarks"] == remarks
    loop = "cannot be read: Too many levels of symbolic links"
    assert record["failed"] == {"t05": "is silent", "t07": loop}
    last = capsys.readouterr().out.splitlines()[-6:]
    assert last[2:5] == [
        "channels cancel   1: the loudest channel was taken",
        "out of range      1: samples beyond 4 times full scale, taken as they are",
        "silent            1: failed, nothing is to be heard in the clip",
    ]
    (tmp_path / "audio/t05.wav").write_bytes((tmp_path / "audio/t06.wav").read_bytes())
    run(tmp_path, missing="nan", mend=True)
    record = json.loads((tmp_path / "embeddings/toy.json").read_text())
    assert record["remarks"] == {"channels cancel": ["t03"], "out of range": ["t60"]}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_line_with_the_next_step(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "none")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(InputError, match=f"{tmp_path} is on a file system without locks .* --root"):
        with exclusive(tmp_path / ".lock", "it"):
            pass
    write_audio(tmp_path, 0.5)
    for options in ({}, {"shards": 2, "shard": 0}):
        with pytest.raises(InputError, match="without locks"):
            run(tmp_path, **options)
