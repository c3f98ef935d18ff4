"""Several backbones over one decoding: the same files as alone, bounded, and each on its own."""

import json
import threading

import numpy as np
import pytest
import soundfile

from core.options import InputError, WorkError
from extract_item_embeddings.engine import together
from extract_item_embeddings.engine.backbone import ExtractConfig
from extract_item_embeddings.engine.decoder_processes import read_kinds
from extract_item_embeddings.engine.extraction import extract
from extract_item_embeddings.engine.jobs import Job
from extract_item_embeddings.engine.shared import MOST, Shared
from tests.extract_item_embeddings.toy_backbone import Toy

TRACKS = 70  # two windows and a bit


class Twin(Toy):
    name = "twin"


class Low(Toy):
    name = "low"
    sample_rate = 4000


@pytest.fixture
def root(tmp_path):
    (tmp_path / "audio").mkdir()
    rng = np.random.default_rng(0)
    for i in range(TRACKS):
        wave = 0.1 * rng.normal(size=4000 + 100 * i)
        soundfile.write(tmp_path / "audio" / f"t{i:02d}.wav", wave, 8000)
    lines = [f"{i},t{i:02d}\n" for i in range(TRACKS)]
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n" + "".join(lines))
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """What was decoded: [(row, rates)] of every file."""
    files = []

    def counted(paths, wanted, **how):
        def noted():
            for row, lengths in wanted:
                files.append((row, sorted(length.rate for length in lengths)))
                yield row, lengths

        return read_kinds(paths, noted(), **how)

    monkeypatch.setattr(together, "read_kinds", counted)
    return files


def options(root, **more):
    return ExtractConfig(root=root, audio=root / "audio", device="cpu", workers=1, **more)


def jobs(root, *kinds, **more):
    return [Job.prepare(kind, options(root, **more)) for kind in kinds]


def matrix(root, name):
    return np.load(root / "embeddings" / f"{name}.npy")


def test_gives_what_each_gives_alone_and_decodes_each_file_once(root, asked):
    extract(Toy, options(root))
    alone = matrix(root, "toy"), json.loads((root / "embeddings" / "toy.json").read_text())
    together.extract_together(jobs(root, Toy, Twin, Low, overwrite=True))
    record = json.loads((root / "embeddings" / "toy.json").read_text())
    np.testing.assert_array_equal(matrix(root, "toy"), alone[0])
    np.testing.assert_array_equal(matrix(root, "twin"), alone[0])
    assert {k: record[k] for k in ("sha256", "failed", "audio_sha256")} == {
        k: alone[1][k] for k in ("sha256", "failed", "audio_sha256")
    }
    assert asked == [(row, [4000, 8000]) for row in range(TRACKS)]


def test_what_is_finished_is_left_alone_and_what_is_begun_goes_on(root, asked, monkeypatch):
    extract(Toy, options(root))
    monkeypatch.setattr(Twin, "embed", breaks_after(12))
    with pytest.raises(ZeroDivisionError):
        extract(Twin, options(root))
    monkeypatch.setattr(Twin, "embed", Toy.embed)
    together.extract_together(jobs(root, Toy, Twin, Low))
    np.testing.assert_array_equal(matrix(root, "twin"), matrix(root, "toy"))
    expected = [(row, [4000]) for row in range(32)]
    assert asked == expected + [(row, [4000, 8000]) for row in range(32, TRACKS)]


def breaks_after(calls):
    counter = iter(range(calls))

    def embed(self, audio):
        if next(counter, None) is None:
            raise ZeroDivisionError("a bug")
        return Toy.embed(self, audio)

    return embed


def test_who_fails_leaves_the_others_alone_and_is_named(root):
    (root / "audio" / "t05.wav").write_bytes(b"no audio")
    kinds = jobs(root, Toy, missing="nan") + jobs(root, Twin)
    with pytest.raises(WorkError, match="1 of 70 tracks have no vector, for example t05"):
        together.extract_together(kinds)
    assert np.isnan(matrix(root, "toy")).any(axis=1).sum() == 1
    assert not (root / "embeddings" / "twin.npy").exists()


def test_a_bug_in_one_ends_all_and_what_is_done_is_kept(root, monkeypatch):
    monkeypatch.setattr(Twin, "embed", breaks_after(10))
    with pytest.raises(ZeroDivisionError):
        together.extract_together(jobs(root, Twin, Toy, Low))
    assert threading.active_count() < 20
    monkeypatch.undo()
    together.extract_together(jobs(root, Twin, Toy, Low))
    np.testing.assert_array_equal(matrix(root, "twin"), matrix(root, "toy"))


def test_the_quick_wait_for_the_slow_so_that_few_clips_are_kept(root, monkeypatch):
    most = []

    def slow(self, audio):
        threading.Event().wait(0.02)
        most.append(max(len(r.waiting) for r in stream[0].readers))
        return Toy.embed(self, audio)

    stream = []
    original = together.Stream.__init__

    def remember(self, *args):
        stream.append(self)
        original(self, *args)

    monkeypatch.setattr(together.Stream, "__init__", remember)
    monkeypatch.setattr(Twin, "embed", slow)
    together.extract_together(jobs(root, Toy, Twin))
    assert max(most) <= stream[0].room + 1 == 2 * Toy.batch_size + 2 * 1 + 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_ends_every_thread(error, root, monkeypatch):
    def embed(self, audio):
        raise error

    monkeypatch.setattr(Twin, "embed", embed)
    before = set(threading.enumerate())
    with pytest.raises(error):
        together.extract_together(jobs(root, Twin, Toy))
    begun = {thread.name for thread in set(threading.enumerate()) - before}
    assert not any("ThreadPoolExecutor" in name for name in begun)


def test_a_name_that_is_none_is_refused_with_those_that_are(root, command):
    flags = ("--root", root, "--audio", root / "audio", "--backbones")
    done = command("-m", "extract_item_embeddings", *flags, "musicn")
    assert done.returncode == 2 and "'musicn' is none of ast, clap" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_command_with_two_rates(root, command):
    flags = ("--root", root, "--audio", root / "audio", "--backbones", "musicnn,mfcc,vgg_msd")
    (root / "trackid_sorted.csv").write_text("idx,trackid\n0,t00\n1,t69\n")
    done = command("-m", "extract_item_embeddings", *flags)
    assert done.returncode == 0, done.stderr
    shapes = [matrix(root, name).shape for name in ("musicnn", "mfcc", "vgg_msd")]
    assert shapes == [(2, 200), (2, 104), (2, 256)]


def test_errors_of_all_are_told_once(root):
    kinds = jobs(root, Toy, Twin)
    for job in kinds:
        job.matrix.parent.mkdir(exist_ok=True)
        np.save(job.matrix, np.zeros(3))
    with pytest.raises(InputError, match=r"toy\.npy has no toy\.json.* \| .*twin\.npy has no"):
        together.extract_together(kinds)


class Sharer(Toy):
    """Counts how often the front end that it has in common with another is computed."""

    name = "sharer"
    front_end = Toy
    computed = []

    def embed(self, audio):
        def front():
            Sharer.computed.append(1)
            return np.abs(audio)

        loud = front() if self.shared is None else self.shared.get(audio, front)
        return np.stack([loud.mean(axis=1)] * 3, axis=1).astype(np.float32)


class Second(Sharer):
    name = "second"


def test_a_front_end_in_common_is_computed_once(root):
    Sharer.computed.clear()
    together.extract_together(jobs(root, Sharer, Second, Toy, batch_size=1))
    assert len(Sharer.computed) == TRACKS
    np.testing.assert_array_equal(matrix(root, "sharer")[:, 0], matrix(root, "toy")[:, 0])
    np.testing.assert_array_equal(matrix(root, "sharer"), matrix(root, "second"))


def test_who_asks_for_what_failed_or_was_dropped_computes_it_itself():
    shared, clips = Shared(2), [np.full(3, i) for i in range(MOST + 2)]
    with pytest.raises(ZeroDivisionError):
        shared.get(clips[0], lambda: 1 / 0)
    assert shared.get(clips[0], lambda: "again") == "again"
    for clip in clips:
        assert shared.get(clip, lambda: "first") == "first"
    assert len(shared.entries) == MOST
    assert shared.get(clips[-1], lambda: "second") == "first" and len(shared.entries) == MOST - 1
    assert shared.get(clips[0], lambda: "second") == "second"
