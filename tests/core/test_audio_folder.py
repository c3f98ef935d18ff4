"""Which file is which track's, and what is said of files that are none."""

import errno
import os

import pytest

from core.audio_folder import scan
from core.options import InputError


@pytest.fixture
def folder(tmp_path):
    """Return a function that makes empty files in a folder and gives the folder."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def names(found, folder):
    return {track_id: str(path.relative_to(folder)) for track_id, path in found.files.items()}


def test_upper_case_and_one_level_of_folders_are_found(folder):
    audio = folder("UP.WAV", "Song.Mp3", "00/ID.mp3", "01/other.m4a", "00/deep/no.mp3", ".x/h.mp3")
    assert names(scan(audio), audio) == {
        "UP": "UP.WAV",
        "Song": "Song.Mp3",
        "ID": "00/ID.mp3",
        "other": "01/other.m4a",
    }
    assert names(scan(audio, "**/*.mp3"), audio) == {"ID": "00/ID.mp3", "no": "00/deep/no.mp3"}
    assert names(scan(audio, "00/*/*"), audio) == {"no": "00/deep/no.mp3"}


def test_two_files_for_one_id_are_named_both(folder):
    audio = folder("same.mp3", "same.wav", "b/one.mp3", "one.mp3")
    found = scan(audio)
    with pytest.raises(InputError, match="same.mp3 and same.wav are two files for the id 'same'"):
        found.require_one_each({"same"})
    with pytest.raises(InputError, match=r"b/one.mp3 and one.mp3 are two files for the id 'one'"):
        found.require_one_each({"one"})
    with pytest.raises(InputError, match=r"\(2 ids have two\); move one away, or .* --pattern"):
        found.require_one_each()
    found.require_one_each({"another"})
    scan(audio, "*.mp3").require_one_each()


def test_each_reason_is_the_true_one(folder):
    audio = folder("good.wav", "text.txt", "ID.aac")
    (audio / "loop.mp3").symlink_to(audio / "loop.mp3")
    (audio / "gone.mp3").symlink_to(audio / "nowhere.mp3")
    os.mkfifo(audio / "pipe.wav")
    found = scan(audio)
    assert list(found.files) == ["good"]
    assert found.reason("loop") == "cannot be read: Too many levels of symbolic links"
    assert found.reason("gone") == "cannot be read: No such file or directory"
    assert found.reason("pipe") == "pipe.wav is no regular file"
    assert found.reason("ID") == "no audio file, only ID.aac"
    assert found.reason("nobody") == "no audio file"
    assert found.contents() == "3 .wav, 2 .mp3, 1 .aac, 1 .txt" or "2 .wav" in found.contents()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_fails_costs_what_is_on_it(number, folder, monkeypatch):
    audio = folder("good.wav", "00/bad.wav", "01/fine.wav")
    scandir = os.scandir

    def failing(path):
        if str(path).endswith("00"):
            raise OSError(number, os.strerror(number))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    found = scan(audio)
    assert sorted(found.files) == ["fine", "good"]
    assert found.reason("bad") == f"no audio file; 00/ cannot be read: {os.strerror(number)}"
    monkeypatch.setattr(os, "scandir", lambda path: failing("00"))
    with pytest.raises(InputError, match=f"cannot be read: {os.strerror(number)}"):
        scan(audio)


def test_a_pattern_that_leaves_the_folder_is_an_error(folder):
    with pytest.raises(InputError, match="--pattern '/etc/.*' is none .*expected one inside"):
        scan(folder("a.mp3"), "/etc/*")
