"""Every clip is the clip: what is there is decoded, and what is missing is said."""

import dataclasses
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from extract_item_embeddings.engine import decoding
from extract_item_embeddings.engine.decoding import (
    CANCELLED,
    OUT_OF_RANGE,
    ClipLength,
    clip_or_reason,
    clips_or_reasons,
    hear,
    read_clip,
)
from extract_item_embeddings.engine.mono import Unheard
from tests.extract_item_embeddings.odd_audio import (
    KINDS,
    RATE,
    damaged,
    encoded,
    likeness,
    melody,
    plainly,
    without_length,
    write,
)

LENGTH = ClipLength(rate=16_000, longest=6 * 16_000, shortest=8_000, step=1_600)
LOSSLESS = ("wav", "flac", "aiff")


@pytest.fixture(scope="module")
def source():
    """Four seconds, (samples, 2)."""
    return melody(4)


@pytest.fixture(scope="module")
def whole(source):
    return {kind: encoded(source, kind) for kind in (*KINDS, "m4a", "wma", "aiff")}


@pytest.fixture
def heard(tmp_path):
    """Write a file and return its clip in seconds, or the reason: heard(content, ending)."""

    def call(content, ending):
        clip, _ = clip_or_reason(write(tmp_path, f"x.{ending}", content), LENGTH)
        return clip if isinstance(clip, str) else round(len(clip) / LENGTH.rate, 1)

    return call


@pytest.mark.parametrize("kind", [*KINDS, "m4a", "wma", "aiff"])
def test_a_clip_is_the_sound_that_was_written_from_its_first_sample(kind, source, whole, tmp_path):
    path = write(tmp_path, f"x.{kind.rpartition('.')[2]}", whole[kind])
    clip = read_clip(path, LENGTH)
    assert len(clip) / LENGTH.rate == pytest.approx(4, abs=0.1 if kind != "wma" else 0.15)
    wave = soxr.resample(source.mean(axis=1), RATE, 16_000)
    if kind != "wma":  # whose files do not say how much silence their encoder put first
        assert likeness(clip, wave) > (0.999999 if kind in LOSSLESS else 0.99)
    if kind not in ("m4a", "wma"):  # libsndfile is another decoder
        other, rate = soundfile.read(io.BytesIO(whole[kind]), dtype="float32")
        other = soxr.resample(other.mean(axis=1), rate, 16_000, quality="HQ")
        assert likeness(clip, other) > 0.9999
    assert likeness(clip, plainly(whole[kind], 16_000)) > 0.9999


def test_headers_that_promise_less_than_there_is_give_the_whole(source, whole, heard):
    assert heard(without_length(whole["vbr.mp3"]), "mp3") == 4.0
    two = [encoded(part, "mp3") for part in (source[:RATE], source[RATE:])]
    assert heard(b"".join(two), "mp3") == pytest.approx(4.0, abs=0.11)
    for kind in ("wav", "ogg", "flac"):
        two = [encoded(part, kind) for part in (source[:RATE], source[RATE:])]
        assert heard(b"".join(two), kind) == pytest.approx(4.0, abs=0.11), kind
    flac = bytearray(whole["flac"])
    flac[21] &= 0xF0
    for samples in (0, RATE):  # unknown, and one second
        flac[22:26] = samples.to_bytes(4)
        assert heard(bytes(flac), "flac") == 4.0
    wav = bytearray(whole["wav"])
    for size in (0, 4 * RATE, 0xFFFFFFFF):  # written before the end was known; one second
        wav[40:44] = size.to_bytes(4, "little")
        assert heard(bytes(wav), "wav") == 4.0


def test_what_stands_behind_the_sound_is_no_sound(whole, heard):
    chunk = b"LIST" + (2000).to_bytes(4, "little") + bytes(range(200)) * 10
    assert heard(whole["wav"] + chunk, "wav") == 4.0
    garbage = np.random.default_rng(0).bytes(400_000)
    assert heard(whole["wav"] + garbage, "wav") == 4.0


@pytest.mark.parametrize("kind", [*KINDS, "m4a", "aiff"])
def test_half_a_file_is_a_reason_that_says_both_lengths(kind, whole, heard):
    reason = heard(whole[kind][: len(whole[kind]) // 2], kind.rpartition(".")[2])
    if kind == "m4a":
        assert reason == "lacks its index: it was cut, or never finished"
    elif kind in ("ogg", "opus"):  # no header of theirs says how long they are
        assert reason.startswith("ends after 2.") or reason.startswith("ends after 1.")
        assert reason.endswith("without its last page: it has been cut")
    else:
        assert reason.startswith(("ends after 2.", "ends after 1.9"))
        assert reason.endswith(" of 4.0 s")


def test_a_clip_that_is_there_needs_no_more_of_its_file(source, tmp_path):
    path = write(tmp_path, "x.wav", encoded(source, "wav")[:-RATE])
    short = ClipLength(rate=16_000, longest=48_000, shortest=8_000, step=1_600)
    assert len(read_clip(path, short)) == 48_000


def test_a_change_of_rate_inside_a_file_is_followed(source, heard):
    slow = encoded(soxr.resample(source, RATE, 22_050), "mp3", 22_050)
    assert heard(encoded(source[:RATE], "mp3") + slow, "mp3") == pytest.approx(5.0, abs=0.15)


def test_silence_fails_and_channels_that_cancel_give_the_louder_one(source, tmp_path):
    with pytest.raises(Unheard, match="^is silent$"):
        hear(write(tmp_path, "s.wav", encoded(np.zeros((RATE, 2)), "wav")), LENGTH)
    one = source[:, :1]
    for kind, level in (("wav", -1.0), ("mp3", -1.0), ("flac", -0.98)):
        stereo = np.concatenate([level * one, one], axis=1)
        clip, remark = hear(write(tmp_path, f"a.{kind}", encoded(stereo, kind)), LENGTH)
        assert remark == CANCELLED
        wave = soxr.resample(one[:, 0], RATE, 16_000)
        assert abs(likeness(clip, wave)) > 0.99  # of two that are equally loud, either
        assert np.std(clip) == pytest.approx(np.std(wave), rel=0.02)
    clip, remark = hear(write(tmp_path, "b.wav", encoded(source, "wav")), LENGTH)
    assert remark == ""


def test_samples_far_beyond_full_scale_are_remarked_and_left(source, tmp_path):
    for scale, remark in ((2, ""), (32_768, OUT_OF_RANGE)):
        path = tmp_path / "x.wav"
        soundfile.write(path, scale * source, RATE, subtype="FLOAT")
        clip, said = hear(path, LENGTH)
        assert said == remark and np.abs(clip).max() > 0.2 * scale


def test_a_playlist_is_not_followed(whole, tmp_path, heard):
    inner = write(tmp_path, "inner.mp3", whole["mp3"])
    for text in (
        f"ffconcat version 1.0\nfile {inner}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{inner}\n#EXT-X-ENDLIST\n",
    ):
        assert heard(text.encode(), "mp3") == "is not audio of a known kind"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_fails_is_the_reason(number, tmp_path, whole, monkeypatch):
    path = write(tmp_path, "x.wav", whole["wav"])

    class Failing(io.FileIO):
        def read(self, size=-1):
            if self.tell() > 100_000:
                raise OSError(number, os.strerror(number))
            return super().read(size)

    monkeypatch.setattr(decoding, "open", lambda path, mode: Failing(path), raising=False)
    assert clip_or_reason(path, LENGTH)[0] == f"cannot be read: {os.strerror(number)}"


def test_clips_of_one_file_are_decoded_once_for_as_many_seconds(tmp_path, whole, monkeypatch):
    lengths = [LENGTH, dataclasses.replace(LENGTH, shortest=RATE // 2)]
    lengths.append(ClipLength(4_000, longest=6 * 4_000, shortest=1, step=1))
    half = ClipLength(4_000, longest=lengths[2].longest // 2, shortest=1, step=1)
    path, decoded, resampled = write(tmp_path, "x.wav", whole["wav"]), [], []
    alone = [clip_or_reason(path, length) for length in [*lengths, half]]
    read, resample = decoding.read_mono, decoding.soxr.resample
    monkeypatch.setattr(decoding, "read_mono", lambda *args: decoded.append(args[1]) or read(*args))

    def noted(*given, **how):
        resampled.append(given[2])
        return resample(*given, **how)

    monkeypatch.setattr(decoding.soxr, "resample", noted)
    together = clips_or_reasons(path, [*lengths, half])
    for (clip, remark), (expected, said) in zip(together, alone, strict=True):
        np.testing.assert_array_equal(clip, expected)
        assert remark == said
    assert len(decoded) == 2 and len(resampled) == len(set(resampled)) + 1


def test_a_file_that_fails_for_one_length_serves_the_others(tmp_path):
    wave = np.concatenate([np.zeros(RATE), 0.1 * np.sin(np.arange(RATE))])
    path = write(tmp_path, "x.wav", encoded(wave[:, None], "wav"))
    first, whole = (ClipLength(RATE, longest=n * RATE, shortest=1, step=1) for n in (1, 2))
    (silent, _), (clip, _) = clips_or_reasons(path, [first, whole])
    assert silent == "is silent" and len(clip) == 2 * RATE
    (cut, _), (clip, _) = clips_or_reasons(tmp_path / "none.wav", [first, whole])
    assert cut == clip == "cannot be read: No such file or directory"


def test_after_200_accidents_a_clip_is_ffmpegs_or_there_is_a_reason(source, tmp_path):
    whole, reasons = {kind: encoded(source[: 2 * RATE], kind) for kind in KINDS}, 0
    for seed in range(200):
        how, ending, content = damaged(seed, whole)
        path = write(tmp_path, f"{seed}.{ending}", content)
        clip, _ = clip_or_reason(path, LENGTH)
        path.unlink()
        if isinstance(clip, str):
            assert clip and "\n" not in clip, seed
            assert how in ("cut", "flips", "tags"), (seed, how, clip)
            reasons += 1
            continue
        expected = plainly(content, LENGTH.rate)
        assert likeness(clip, expected) > 0.999, (seed, how)
        assert len(clip) >= min(len(expected), LENGTH.longest) - LENGTH.step, (seed, how)
        assert len(clip) >= 1.9 * LENGTH.rate, (seed, how)
        assert how != "cut", seed
    assert 36 <= reasons <= 60  # all those cut, and some of those with flipped bits


def test_the_cases_from_the_field(shared, tmp_path):
    script = shared / "cases" / "make_audio.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    length = ClipLength(rate=16_000, longest=31 * 16_000, shortest=8_000, step=1_600)
    right = {
        "vbr_with_length.mp3": 30.0,
        "vbr_without_length.mp3": 30.0,
        "joined.mp3": 30.0,
        "unknown_length.flac": 30.0,
        "antiphase.wav": 30.0,
        "cut.wav": "ends after 10.0 of 20.0 s",
        "silence.wav": "is silent",
    }
    assert {path.name for path in Path(tmp_path).iterdir()} == set(right)
    for name, expected in right.items():
        clip, remark = clip_or_reason(tmp_path / name, length)
        found = clip if isinstance(clip, str) else len(clip) / 16_000
        assert found == (expected if isinstance(expected, str) else pytest.approx(30, abs=0.11))
        assert (remark == CANCELLED) == (name == "antiphase.wav")
