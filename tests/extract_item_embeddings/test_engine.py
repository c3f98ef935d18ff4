"""The extraction loop on a toy model: order, formats, failures, resuming, what is refused."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.artifacts import exclusive
from core.options import InputError, WorkError
from extract_item_embeddings.engine import finished
from extract_item_embeddings.engine.decoding import ClipLength, read_clip
from extract_item_embeddings.engine.extraction import ExtractConfig, extract
from extract_item_embeddings.engine.jobs import available_cores
from tests.extract_item_embeddings.toy_backbone import Toy

HERE = Path(__file__).resolve().parents[2]
LENGTH = ClipLength(rate=16_000, longest=32_000, shortest=8_000, step=1_600)


def sine(seconds, rate, frequency=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def make_audio(root, n, seconds=1.0, rate=8000):
    """Write n wav files of growing loudness, in another order than their ids, and the ids."""
    (root / "audio").mkdir(parents=True)
    for i in np.random.default_rng(0).permutation(n):
        wave = sine(seconds, rate, frequency=200 + i, level=(i + 1) / (n + 1))
        soundfile.write(root / "audio" / f"t{i:04d}.wav", wave, rate)
    lines = ["idx,trackid", *(f"{i},t{i:04d}" for i in range(n))]
    (root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def run():
    """Run the toy in this process: run(root, option=value) -> (matrix, json)."""

    def call(root, backbone=Toy, **options):
        extract(backbone, ExtractConfig(root=root, audio=root / "audio", **options))
        matrix = root / "embeddings" / f"{backbone.name}.npy"
        return np.load(matrix), json.loads(matrix.with_suffix(".json").read_text())

    return call


class Counting(Toy):
    """Remembers how many clips it embedded."""

    seen = 0

    def embed(self, audio):
        Counting.seen += len(audio)
        return super().embed(audio)


def test_rows_follow_the_ids_and_no_track_is_left_out(tmp_path, run):
    root = make_audio(tmp_path, 7)
    matrix, record = run(root)
    assert matrix.shape == (7, 3) and matrix.dtype == np.float32 and matrix.flags.c_contiguous
    expected = [np.abs(soundfile.read(root / f"audio/t{i:04d}.wav")[0]).mean() for i in range(7)]
    np.testing.assert_allclose(matrix[:, 0], expected, atol=1e-6)
    assert (record["embedding"], record["width"], record["n_tracks"]) == ("toy", 3, 7)
    assert (record["sample_rate"], record["clip_seconds"], record["failed"]) == (8000, 1.0, {})
    assert not (root / "embeddings" / "toy.parts").exists()


def test_workers_and_batches_do_not_change_the_vectors(tmp_path, run):
    root = make_audio(tmp_path, 45)
    one, _ = run(root, workers=1)
    many, _ = run(root, workers=5, batch_size=64, overwrite=True)
    np.testing.assert_array_equal(one, many)


def test_clips_of_several_lengths_keep_their_rows(tmp_path, run):
    root = make_audio(tmp_path, 9)
    for i in range(9):
        soundfile.write(root / f"audio/t{i:04d}.wav", sine(0.3 + 0.2 * (i % 3), 8000), 8000)
    matrix, _ = run(root, batch_size=2)
    np.testing.assert_allclose(matrix[:, 2], [0.3, 0.5, 0.7] * 3, atol=1e-6)


def test_every_format_rate_and_number_of_channels_gives_the_same_clip(tmp_path):
    for kind, rates in {
        "wav": (8000, 44100, 96000),
        "flac": (8000, 44100, 96000),
        "ogg": (8000, 44100, 96000),
        "mp3": (8000, 44100),
        "opus": (8000, 48000),
    }.items():
        for rate in rates:
            for channels in (1, 2, 6) if kind != "mp3" else (1, 2):
                path = tmp_path / f"{rate}-{channels}.{kind}"
                wave = np.repeat(sine(3, rate)[:, None], channels, axis=1)
                options = {"format": "OGG", "subtype": "OPUS"} if kind == "opus" else {}
                soundfile.write(path, wave, rate, **options)
                clip = read_clip(path, LENGTH)
                assert clip.dtype == np.float32 and len(clip) == 32_000, path.name
                spectrum = np.abs(np.fft.rfft(clip[8000:24_000]))
                assert spectrum.argmax() == 440, path.name
                peak = np.abs(clip[8000:24_000]).max()  # codecs keep a sixth, the bass, from 5.1
                assert peak == pytest.approx(0.5, abs=0.09), path.name


def test_channels_are_averaged_not_picked_or_summed(tmp_path):
    left, right = sine(1, 16_000, 300, 0.5), sine(1, 16_000, 500, 0.3)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(tmp_path / "x.wav", LENGTH), (left + right) / 2, atol=1e-6)


def test_a_long_file_costs_what_its_clip_costs_and_is_cut_without_an_edge(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=600 * 22_050).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "long.wav", noise, 22_050, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", noise[: 22_050 * 4], 22_050, subtype="FLOAT")
    tracemalloc.start()
    clip = read_clip(tmp_path / "long.wav", LENGTH)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # bytes; the file holds 53 MB
    longer = ClipLength(rate=16_000, longest=64_000, shortest=8_000, step=1_600)
    whole = read_clip(tmp_path / "short.wav", longer)
    np.testing.assert_allclose(clip, whole[:32_000], atol=1e-6)


def test_a_short_file_is_repeated_and_one_between_is_cut_to_whole_steps(tmp_path):
    soundfile.write(tmp_path / "x.wav", sine(0.2, 16_000), 16_000, subtype="FLOAT")
    clip = read_clip(tmp_path / "x.wav", LENGTH)
    np.testing.assert_allclose(clip, np.tile(sine(0.2, 16_000), 3)[:8000], atol=1e-7)
    soundfile.write(tmp_path / "y.wav", sine(1.27, 16_000), 16_000)
    assert len(read_clip(tmp_path / "y.wav", LENGTH)) == 1.2 * 16_000


def break_files(audio):
    """Break eight of the files, each in its own way; return {track id: the reason, in part}."""

    def replace(track_id, kind, content):
        (audio / f"{track_id}.wav").unlink()
        (audio / f"{track_id}.{kind}").write_bytes(content)

    noise = np.random.default_rng(0).normal(size=(20 * 8000, 2)).astype(np.float32) * 0.1
    for kind in ("mp3", "flac"):
        soundfile.write(audio / f"whole.{kind}", noise, 8000)
    whole = {kind: (audio / f"whole.{kind}").read_bytes() for kind in ("mp3", "flac")}

    (audio / "t0001.wav").write_bytes(b"not audio at all" * 99)
    (audio / "t0002.wav").write_bytes(b"")
    soundfile.write(audio / "t0003.wav", np.empty(0), 8000)
    soundfile.write(audio / "t0004.wav", sine(0.05, 8000), 8000)
    (audio / "t0005.wav").unlink()
    soundfile.write(audio / "t0006.wav", np.full(8000, np.nan), 8000, subtype="FLOAT")
    replace("t0007", "mp3", whole["mp3"][: len(whole["mp3"]) // 60])
    replace("t0008", "mp3", b"not audio at all" * 9999)
    replace("t0009", "flac", whole["flac"][: len(whole["flac"]) // 60])
    return {
        "t0001": "is not audio of a known kind",
        "t0002": "is empty (0 bytes)",
        "t0003": "holds 0.000 s of audio, at least 0.1 s needed",
        "t0004": "holds 0.050 s of audio, at least 0.1 s needed",
        "t0005": "no audio file",
        "t0006": "holds samples that are not finite",
        "t0007": "ends after 0.",
        "t0008": "is not audio of a known kind",
        "t0009": "cannot be decoded",
    }


def test_failed_files_cost_nothing_else_and_mending_them_computes_them_alone(
    tmp_path, run, capsys, monkeypatch
):
    clean, _ = run(make_audio(tmp_path / "clean", 40))
    root = make_audio(tmp_path / "broken", 40)
    reasons = break_files(root / "audio")
    with pytest.raises(
        WorkError, match=r"9 of 40 tracks have no vector, for example t0001: is not"
    ):
        run(root)
    out = capsys.readouterr().out
    for track_id, reason in reasons.items():
        assert f"failed {track_id}: {reason}" in out
    assert not list((root / "embeddings").glob("toy.np*"))
    assert not list((root / "embeddings").glob("toy.json"))
    listed = (root / "embeddings/toy.parts/failed.csv").read_text().splitlines()
    assert listed[0] == "track_id,reason" and len(listed) == 10

    for track_id in reasons:
        for path in (root / "audio").glob(f"{track_id}.*"):
            path.unlink()
        original = tmp_path / "clean" / "audio" / f"{track_id}.wav"
        (root / "audio" / f"{track_id}.wav").write_bytes(original.read_bytes())
    monkeypatch.setattr(Counting, "seen", 0)
    matrix, record = run(root, backbone=Counting)
    assert Counting.seen == 9
    np.testing.assert_array_equal(matrix, clean)
    assert record["failed"] == {}


def test_missing_nan_writes_rows_of_nan_and_says_which(tmp_path, run):
    root = make_audio(tmp_path, 40)
    reasons = break_files(root / "audio")
    matrix, record = run(root, missing="nan")
    assert sorted(record["failed"]) == sorted(reasons)
    assert np.flatnonzero(np.isnan(matrix).all(axis=1)).tolist() == list(range(1, 10))
    assert np.isfinite(np.delete(matrix, range(1, 10), axis=0)).all()
    with pytest.raises(InputError, match=r"9 of its rows are NaN .*--overwrite"):
        run(root)


def test_of_the_command_failures_are_one_line_on_stderr_and_exit_1(tmp_path, command):
    root = make_audio(tmp_path, 12)
    break_files(root / "audio")
    flags = ("--root", root, "--audio", root / "audio")
    failed = command("-m", "tests.extract_item_embeddings.toy_backbone", *flags)
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1, failed.stderr  # and none of the decoder's
    assert "9 of 12 tracks have no vector" in failed.stderr and "--missing nan" in failed.stderr
    done = command("-m", "tests.extract_item_embeddings.toy_backbone", *flags, "--missing", "nan")
    assert done.returncode == 0 and done.stderr == ""


def test_without_a_single_whole_track_there_is_no_matrix_of_nan(tmp_path, run):
    root = make_audio(tmp_path, 2)
    for path in (root / "audio").iterdir():
        path.write_bytes(b"")
    with pytest.raises(WorkError, match="2 of 2 tracks have no vector"):
        run(root, missing="nan")


def test_a_pipe_with_an_audio_name_is_no_audio_file(tmp_path, run):
    root = make_audio(tmp_path, 3)
    (root / "audio/t0001.wav").unlink()
    os.mkfifo(root / "audio/t0001.wav")  # opening it would wait for ever
    _, record = run(root, missing="nan")
    assert record["failed"] == {"t0001": "t0001.wav is no regular file"}


class Sick(Toy):
    """Its vector is not a number where the clip is loud, and zeros where it is very quiet."""

    def embed(self, audio):
        vectors = super().embed(audio)
        vectors[vectors[:, 0] > 0.5] = np.inf
        vectors[vectors[:, 0] < 0.05] = 0
        return vectors


def test_a_vector_that_is_no_number_or_zero_fails_its_track_alone(tmp_path, run):
    root = make_audio(tmp_path, 20)
    matrix, record = run(root, backbone=Sick, missing="nan")
    assert "zeros" in record["failed"]["t0000"] and "infinite" in record["failed"]["t0019"]
    assert np.isfinite(matrix[10]).all()


def test_a_model_that_is_wrong_stops_the_run_at_its_first_batch(tmp_path, run):
    root = make_audio(tmp_path, 40)

    class Wide(Counting):
        def embed(self, audio):
            return np.ones((super().embed(audio).shape[0], 9), np.float32)

    class Double(Counting):
        def embed(self, audio):
            return super().embed(audio).astype(np.float64)

    class Nothing(Counting):
        def embed(self, audio):
            return super().embed(audio) * np.float32("nan")

    for wrong, message in (
        (Wide, r"returned float32 \(4, 9\) .*expected float32 \(4, 3\)"),
        (Double, r"returned float64 \(4, 3\)"),
        (Nothing, "every clip of the first batch gives a vector with NaN"),
    ):
        Counting.seen = 0
        with pytest.raises(WorkError, match=message):
            run(root, backbone=wrong)
        assert Counting.seen == 4


def test_kill_9_then_the_same_command_ends_in_the_same_bytes_and_did_not_start_over(tmp_path):
    whole, killed = make_audio(tmp_path / "whole", 200), make_audio(tmp_path / "killed", 200)
    parts = killed / "embeddings" / "toy.parts"

    def command(root):
        names = ["--root", root, "--audio", root / "audio", "--workers", "2"]
        return [sys.executable, "-m", "tests.extract_item_embeddings.toy_backbone", *names]

    subprocess.run(command(whole), cwd=HERE, check=True, capture_output=True)
    slow = {**os.environ, "TOY_SECONDS_A_BATCH": "0.03"}
    for wanted in (2, 4):
        process = subprocess.Popen(
            command(killed), cwd=HERE, env=slow, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while len(list(parts.glob("*.npz"))) < wanted:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (killed / "embeddings" / "toy.npy").exists()
    done = 32 * len(list(parts.glob("0*.npz")))
    again = subprocess.run(command(killed), cwd=HERE, check=True, capture_output=True, text=True)
    assert f"going on: {done} of 200 tracks are done" in again.stdout
    bytes_of = [(root / "embeddings/toy.npy").read_bytes() for root in (whole, killed)]
    assert bytes_of[0] == bytes_of[1]
    leftovers = {p.name for p in (killed / "embeddings").iterdir()}
    assert leftovers == {"toy.npy", "toy.json", ".toy.lock"}


def test_killed_between_the_matrix_and_its_json_the_run_ends_without_computing(
    tmp_path, run, monkeypatch
):
    root = make_audio(tmp_path, 40)

    def power_cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finished, "write_json", power_cut)
        run(root)
    assert (root / "embeddings/toy.npy").exists() and not (root / "embeddings/toy.json").exists()
    monkeypatch.setattr(Counting, "seen", 0)
    run(root, backbone=Counting)
    assert Counting.seen == 0


def test_a_part_that_cannot_be_read_is_computed_again(tmp_path, run, monkeypatch):
    root = make_audio(tmp_path, 70)
    (root / "audio/t0069.wav").unlink()
    with pytest.raises(WorkError, match="1 of 70"):
        run(root)
    part = root / "embeddings/toy.parts/00000032.npz"
    part.write_bytes(part.read_bytes()[:200])
    monkeypatch.setattr(Counting, "seen", 0)
    matrix, _ = run(root, backbone=Counting, missing="nan")
    assert Counting.seen == 32 and np.isfinite(matrix[:69]).all()


def test_what_is_finished_is_said_to_be_and_left_alone(tmp_path, run, capsys):
    root = make_audio(tmp_path, 5)
    run(root)
    before = {p: p.stat().st_mtime_ns for p in (root / "embeddings").iterdir()}
    run(root, device="cpu", workers=1, batch_size=3)
    assert "toy.npy is finished; --overwrite extracts it again" in capsys.readouterr().out
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p.name != ".toy.lock")


class Heavier(Toy):
    def weights(self):
        return {"revision": "second"}


def test_what_is_finished_but_made_from_other_things_is_refused_by_name(tmp_path, run):
    root = make_audio(tmp_path, 5)
    old, _ = run(root)
    with pytest.raises(InputError, match=r"weights: revision was None and is second.*--overwrite"):
        run(root, backbone=Heavier)

    audio = root / "audio/t0002.wav"
    content = audio.read_bytes()
    soundfile.write(audio, sine(1, 8000, 999, level=0.9), 8000)
    assert audio.stat().st_size == len(content)  # only the content tells
    with pytest.raises(InputError, match="the audio is not what it was made from"):
        run(root)
    new, _ = run(root, overwrite=True)
    assert (np.abs(new - old).max(axis=1) > 1e-4).tolist() == [False, False, True, False, False]

    audio.write_bytes(content)
    os.utime(audio)
    run(root, overwrite=True)
    ids = root / "trackid_sorted.csv"
    ids.write_text(ids.read_text().replace("t0000", "a0000"))
    (root / "audio/t0000.wav").rename(root / "audio/a0000.wav")
    with pytest.raises(InputError, match="trackids_sha256 was"):
        run(root)


def test_a_copy_of_the_audio_with_new_times_is_the_same_audio(tmp_path, run, capsys):
    root = make_audio(tmp_path, 5)
    run(root)
    for path in (root / "audio").iterdir():
        os.utime(path, (1, 1))
    run(root)
    assert "is finished" in capsys.readouterr().out


def test_parts_of_other_weights_are_not_continued(tmp_path, run):
    root = make_audio(tmp_path, 40)
    (root / "audio/t0039.wav").unlink()
    with pytest.raises(WorkError):
        run(root)
    with pytest.raises(InputError, match=r"unfinished extraction, but weights: revision was None"):
        run(root, backbone=Heavier, missing="nan")
    _, record = run(root, backbone=Heavier, missing="nan", overwrite=True)
    assert record["weights"] == {"revision": "second"}


def test_on_the_way_a_changed_file_is_computed_anew(tmp_path, run, monkeypatch):
    root = make_audio(tmp_path, 40)
    (root / "audio/t0039.wav").unlink()
    with pytest.raises(WorkError):
        run(root)
    soundfile.write(root / "audio/t0002.wav", sine(1, 8000, level=0.25), 8000)
    monkeypatch.setattr(Counting, "seen", 0)
    matrix, _ = run(root, backbone=Counting, missing="nan")
    assert Counting.seen == 1
    assert matrix[2, 0] == pytest.approx(0.25 * 2 / np.pi, abs=0.01)


def test_a_matrix_of_the_user_is_not_written_over(tmp_path, run):
    root = make_audio(tmp_path, 3)
    (root / "embeddings").mkdir()
    own = np.ones((3, 2), np.float32)
    np.save(root / "embeddings/toy.npy", own)
    with pytest.raises(InputError, match="toy.npy has no toy.json, so it was not made by"):
        run(root)
    np.testing.assert_array_equal(np.load(root / "embeddings/toy.npy"), own)
    assert run(root, overwrite=True)[0].shape == (3, 3)


class Small(Counting):
    """Fits three clips; and none of the loudest track's."""

    loudest = 2.0

    def embed(self, audio):
        if len(audio) > 3 or np.abs(audio).mean(axis=1).max() > self.loudest:
            raise MemoryError("4 GiB wanted\n2 GiB free")
        return super().embed(audio)


def test_out_of_memory_halves_the_batch_and_changes_no_vector(tmp_path, run, capsys, monkeypatch):
    root = make_audio(tmp_path, 70)
    expected, _ = run(root)
    capsys.readouterr()
    monkeypatch.setattr(Counting, "seen", 0)
    matrix, record = run(root, backbone=Small, batch_size=16, overwrite=True)
    np.testing.assert_array_equal(matrix, expected)
    assert record["failed"] == {} and Counting.seen == 70
    said = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
    assert said == ["out of memory with 16 clips at once: from here on 2"]


def test_a_clip_that_does_not_fit_alone_fails_alone(tmp_path, run, monkeypatch):
    root = make_audio(tmp_path, 40)
    expected, _ = run(root)
    monkeypatch.setattr(Small, "loudest", 39.5 / 41 * 2 / np.pi)
    matrix, record = run(root, backbone=Small, missing="nan", overwrite=True)
    reason = "does not fit into the memory, even alone: 4 GiB wanted"
    assert record["failed"] == {"t0039": reason}
    np.testing.assert_array_equal(matrix[:39], expected[:39])


def test_a_model_that_fits_no_clip_stops_at_the_first_batch_and_other_errors_pass(tmp_path, run):
    root = make_audio(tmp_path, 40)

    class Big(Toy):
        def embed(self, audio):
            raise self.error

        def is_out_of_memory(self, error):  # as a backbone on a GPU does
            return "CUDA out of memory" in str(error)

    Big.error = RuntimeError("CUDA out of memory. Tried to allocate 4 GiB")
    with pytest.raises(WorkError, match="every clip of the first batch does not fit .*CUDA out of"):
        run(root, backbone=Big)
    Big.error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="^mat1 and mat2"):
        run(root, backbone=Big)


def mended(root, clean, track_ids):
    """Put whole files in the place of broken ones."""
    for track_id in track_ids:
        for path in (root / "audio").glob(f"{track_id}.*"):
            path.unlink()
        content = (clean / "audio" / f"{track_id}.wav").read_bytes()
        (root / "audio" / f"{track_id}.wav").write_bytes(content)


@pytest.fixture(scope="module")
def made_with_nan(tmp_path_factory, run):
    """What `with_nan` copies the root of."""
    folder = tmp_path_factory.mktemp("made")
    clean, root = make_audio(folder / "clean", 70), make_audio(folder / "root", 70)
    whole, _ = run(clean)
    reasons = break_files(root / "audio")
    for path in (root / "audio").glob("whole.*"):
        path.unlink()
    run(root, missing="nan")
    return root, clean, whole, list(reasons)


@pytest.fixture
def with_nan(tmp_path, made_with_nan):
    """Return (root of a finished embedding with nine rows of NaN, the clean root, its matrix)."""
    root, *others = made_with_nan
    Counting.seen = 0
    return (Path(shutil.copytree(root, tmp_path / "root")), *others)


def test_mend_computes_the_rows_of_nan_alone(with_nan, run, capsys):
    root, clean, whole, broken = with_nan
    mended(root, clean, broken[:5])
    capsys.readouterr()
    run(root, missing="nan", backbone=Counting)
    assert Counting.seen == 0 and "is finished" in capsys.readouterr().out
    with pytest.raises(InputError, match="9 of its rows are NaN .* --mend computes these alone"):
        run(root, backbone=Counting)
    matrix, record = run(root, missing="nan", mend=True, backbone=Counting)
    assert Counting.seen == 5 and list(record["failed"]) == broken[5:]

    mended(root, clean, broken)
    matrix, record = run(root, mend=True, backbone=Counting)
    assert Counting.seen == 9 and record["failed"] == {}
    np.testing.assert_array_equal(matrix, whole)
    first = json.loads((clean / "embeddings/toy.json").read_text())
    assert record["audio_sha256"] == first["audio_sha256"] and record["sha256"] == first["sha256"]
    run(root, mend=True, backbone=Counting)
    assert Counting.seen == 9 and "is finished" in capsys.readouterr().out


def test_mend_refuses_what_it_would_mix(with_nan, run, monkeypatch):
    root, clean, whole, broken = with_nan
    matrix = root / "embeddings/toy.npy"
    content = matrix.read_bytes()

    def refused(message, backbone=Counting):
        with pytest.raises(InputError, match=f"{message}.*--overwrite makes it again"):
            run(root, mend=True, backbone=backbone)
        assert Counting.seen == 0 and matrix.read_bytes() == content

    refused("weights: revision was None", backbone=Heavier)
    with monkeypatch.context() as patch:
        patch.setattr("platform.python_version", lambda: "2.7")
        refused("versions: python was 3.* and is 2.7")
    soundfile.write(root / "audio/t0060.wav", sine(1, 8000, 999), 8000)
    refused("the audio is not what it was made from")
    (root / "audio/t0060.wav").write_bytes((clean / "audio/t0060.wav").read_bytes())
    content = content[:-12] + bytes(12)
    matrix.write_bytes(content)
    refused("it is not the file that toy.json describes")


@pytest.mark.parametrize("cut", range(12))
def test_mend_cut_off_anywhere_ends_as_one_that_was_not(with_nan, run, monkeypatch, cut):
    root, clean, whole, broken = with_nan
    mended(root, clean, broken)
    steps = iter(range(99))

    class Cut(BaseException):
        pass

    def replace(*arguments, original=os.replace):
        if next(steps) == cut:
            raise Cut
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with contextlib.suppress(Cut):
            run(root, mend=True)
    matrix, record = run(root, mend=True, backbone=Counting)
    assert Counting.seen in (0, 9) and record["failed"] == {}
    np.testing.assert_array_equal(matrix, whole)


def test_two_at_once_do_not_write_into_each_other(tmp_path, run):
    root = make_audio(tmp_path, 3)
    with exclusive(root / "embeddings/.toy.lock", "the toy"):
        with pytest.raises(InputError, match="another process is working on .*toy.npy"):
            run(root)


def test_errors_of_the_command_line_are_one_line_and_exit_2(tmp_path, command):
    root = make_audio(tmp_path, 2)
    right = {"--root": root, "--audio": root / "audio"}
    for flags, words in (
        ({"--device": "gpu9"}, ["--device gpu9", "cpu or auto"]),
        ({"--worker": 2}, ["unknown flag '--worker'", "did you mean '--workers'"]),
        ({"--workers": 0}, ["--workers must be at least 1, got 0"]),
        ({"--batch-size": "many"}, ["--batch-size must be a whole number, got 'many'"]),
        ({"--missing": "skip"}, ["--missing must be one of error, nan"]),
        ({"--layer": 3}, ["unknown flag '--layer'"]),
        ({"--root": tmp_path / "none"}, ["trackid_sorted.csv is missing", "0_get_plays_pqt.py"]),
        ({"--audio": tmp_path / "none"}, ["none is not a folder"]),
        ({"--audio": HERE / "tests"}, ["holds no file of the 2 tracks", "t0000.mp3"]),
    ):
        pairs = [str(x) for pair in {**right, **flags}.items() for x in pair]
        done = command("-m", "tests.extract_item_embeddings.toy_backbone", *pairs)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert all(word in done.stderr for word in words), done.stderr


def test_cores_are_those_of_the_slurm_job(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert available_cores() == 1
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert available_cores() == len(os.sched_getaffinity(0))
