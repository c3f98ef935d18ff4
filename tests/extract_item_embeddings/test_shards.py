"""An extraction in shards: the same bytes, in any order, at the same time, after any kill."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stress_extraction import StressConfig, make_root, stress
from core.artifacts import exclusive
from core.options import InputError, WorkError
from extract_item_embeddings.engine.extraction import ExtractConfig, extract
from extract_item_embeddings.engine.parts import Parts
from extract_item_embeddings.engine.shards import array_expression, shard_lock, shard_windows
from tests.extract_item_embeddings.toy_backbone import Toy

HERE = Path(__file__).resolve().parents[2]


class Counting(Toy):
    """Remembers how many clips it embedded; depends on the batch's size, as a GPU's sums may."""

    seen = 0

    def embed(self, audio):
        Counting.seen += len(audio)
        return super().embed(audio) * np.float32(1 + len(audio) * 2**-20)


class Other(Counting):
    """The same model with other weights."""

    def weights(self):
        return {"revision": "second"}

    def embed(self, audio):
        return super().embed(audio) * 2


@pytest.fixture
def run(monkeypatch):
    """Run in this process: run(root, option=value); Counting.seen starts at 0."""
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)

    def call(root, backbone=Counting, **options):
        Counting.seen = 0
        extract(backbone, ExtractConfig(root=root, audio=root / "audio", workers=1, **options))

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """200 tracks in seven windows."""
    folder = tmp_path_factory.mktemp("made") / "root"
    make_root(folder, 200, np.random.default_rng(0))
    return folder


@pytest.fixture
def root(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "root"))


def results(root):
    """Return the matrix's bytes and what its json says, but for the costs."""
    record = json.loads((root / "embeddings/toy.json").read_text())
    assert record.pop("peak_memory_bytes") > 1e6 and record.pop("seconds") >= 0
    assert len(record.pop("sealed")) == 64  # over the costs, too
    return (root / "embeddings/toy.npy").read_bytes(), record


def unsharded(root, run, **options):
    run(root, **options)
    whole = results(root)
    shutil.rmtree(root / "embeddings")
    return whole


@pytest.mark.parametrize("n", [1, 3, 4, 7, 9])
def test_shards_in_any_order_join_to_what_one_run_writes(root, run, n, capsys):
    whole = unsharded(root, run)
    embedded = 0
    for shard in np.random.default_rng(n).permutation(n):
        run(root, shards=n, shard=int(shard))
        embedded += Counting.seen
        assert not (root / "embeddings/toy.npy").exists()
    assert embedded == 200  # no track twice
    run(root, shards=n, join=True)
    assert Counting.seen == 0
    assert results(root) == whole
    kept = {"toy.npy", "toy.json", ".toy.lock", ".toy.begin.lock"}
    assert {path.name for path in (root / "embeddings").iterdir()} == kept
    capsys.readouterr()
    for options in ({"shards": n, "shard": 0}, {"shards": n, "join": True}, {}):
        run(root, **options)
        assert "toy.npy is finished; --overwrite extracts it again" in capsys.readouterr().out
    assert Counting.seen == 0


def test_every_window_is_in_one_shard():
    windows = [range(i, i + 32) for i in range(0, 320, 32)]
    for n in range(1, 14):
        parts = [shard_windows(windows, n, shard) for shard in range(n)]
        assert [window for part in parts for window in part] == windows
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_finished_shard_says_so_and_the_array_gives_the_index(root, run, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    run(root, shards=4)
    assert Counting.seen == 64
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    capsys.readouterr()
    run(root, shards=4, shard=2)
    assert Counting.seen == 0
    assert "shard 2 of 4 is finished (64 tracks)" in capsys.readouterr().out


def test_the_join_names_the_shards_that_are_missing(root, run):
    with pytest.raises(InputError, match=r"shards 0-3 of 4 are not finished.*--array=0-3\)"):
        run(root, shards=4, join=True)
    for shard in (1, 2, 5):
        run(root, shards=7, shard=shard)
    with pytest.raises(InputError, match=r"shards 0,3-4,6 of 7 are not finished.*--array=0,3-4,6"):
        run(root, shards=7, join=True)
    for shard in (0, 3, 4, 6):
        run(root, shards=7, shard=shard)
    (root / "audio/t00100.wav").write_bytes((root / "audio/t00101.wav").read_bytes())
    with pytest.raises(InputError, match="shards 3 of 7 are not finished, or their audio has chan"):
        run(root, shards=7, join=True)
    run(root, shards=7, shard=3)
    assert Counting.seen == 1
    part = root / "embeddings/toy.parts/00000064.npz"
    part.write_bytes(part.read_bytes()[:99])
    with pytest.raises(InputError, match="shards 2 of 7 are not finished"):
        run(root, shards=7, join=True)


@pytest.mark.parametrize(
    ("indices", "text"),
    [([3], "3"), ([0, 1], "0-1"), ([0, 3, 7, 8, 9], "0,3,7-9"), ([0, 1, 2, 5, 6], "0-2,5-6")],
)
def test_indices_as_slurm_takes_them(indices, text):
    assert array_expression(indices) == text


def test_another_number_of_shards_is_refused_until_overwritten(root, run):
    run(root, shards=4, shard=1)
    for options in ({"shards": 8, "shard": 1}, {"shards": 8, "join": True}, {}):
        now = options.get("shards", 1)
        with pytest.raises(InputError, match=f"shards was 4 and is {now}; .*--overwrite starts"):
            run(root, **options)
    run(root, shards=2, shard=0, overwrite=True)
    run(root, shards=2, shard=1, overwrite=True)  # not again from the start: it is the same plan
    run(root, shards=2, join=True)
    assert results(root)[1]["n_tracks"] == 200


def test_shards_of_other_weights_are_refused(root, run):
    run(root, shards=2, shard=0)
    for options in ({"shard": 1}, {"join": True}):
        with pytest.raises(InputError, match="weights: revision was None and is second"):
            run(root, backbone=Other, shards=2, **options)


def test_the_first_shard_decides_the_windows_of_all(root, run):
    whole = unsharded(root, run, batch_size=40)
    run(root, shards=2, shard=1, batch_size=40)
    plan = root / "embeddings/toy.parts/plan.json"
    first = plan.read_text()
    run(root, shards=2, shard=0, batch_size=64)
    assert plan.read_text() == first
    run(root, shards=2, join=True, batch_size=1)
    ours, expected = (np.frombuffer(x, "<f4", offset=128) for x in (results(root)[0], whole[0]))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 4}, r"--shards 4 needs --shard I \(0 to 3\), --join, or .*SLURM_ARRAY_TASK_ID"),
        ({"shards": 4, "shard": 4}, "--shard must be from 0 to 3 with --shards 4, got 4"),
        ({"shards": 4, "shard": -1}, "--shard must be from 0 to 3 with --shards 4, got -1"),
        ({"shards": 0, "shard": 0}, "--shards must be at least 1, got 0"),
        ({"shard": 0}, "--shard needs --shards N"),
        ({"join": True}, "--join needs --shards N"),
        ({"shards": 4, "shard": 0, "join": True}, "--join and --shard do not go together"),
        ({"shards": 4, "shard": 0, "mend": True}, "--mend and --shards do not go together"),
        ({"mend": True, "overwrite": True}, "--mend and --overwrite do not go together"),
    ],
)
def test_options_that_make_no_sense_are_errors(root, run, options, message):
    with pytest.raises(InputError, match=message):
        run(root, **options)
    assert not (root / "embeddings").exists()


@pytest.mark.parametrize(
    ("value", "message"), [("4", "SLURM_ARRAY_TASK_ID must be from 0 to 3"), ("x", "got 'x'")]
)
def test_a_wrong_index_of_the_array_is_an_error_that_names_it(
    root, run, monkeypatch, value, message
):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", value)
    with pytest.raises(InputError, match=message):
        run(root, shards=4)


def test_failures_are_listed_over_all_shards_and_handled_as_in_one_run(root, run, capsys):
    sound = (root / "audio/t00003.wav").read_bytes()
    for idx in (3, 170):
        (root / f"audio/t{idx:05d}.wav").write_bytes(b"no sound" * 99)
    whole = unsharded(root, run, missing="nan")
    for shard, place in ((0, "t00003"), (3, "t00170")):
        with pytest.raises(WorkError, match=f"1 of .* tracks have no vector, .* {place}: is not"):
            run(root, shards=4, shard=shard)
        listed = (root / f"embeddings/toy.parts/failed-{shard}.csv").read_text()
        assert listed.splitlines()[1].startswith(place)
    for shard in (1, 2):
        run(root, shards=4, shard=shard)
    capsys.readouterr()
    with pytest.raises(WorkError, match=r"2 of 200 tracks have no vector, .* all are listed in .*"):
        run(root, shards=4, join=True)
    said = capsys.readouterr().out
    assert "failed t00003: is not audio" in said and "failed t00170: is not audio" in said
    listed = (root / "embeddings/toy.parts/failed.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in listed] == ["track_id", "t00003", "t00170"]

    run(root, shards=4, join=True, missing="nan")
    assert results(root) == whole and sorted(whole[1]["failed"]) == ["t00003", "t00170"]

    (root / "audio/t00003.wav").write_bytes(sound)
    run(root, mend=True, missing="nan")
    assert Counting.seen == 1


def hold(folder, path, kind):
    """Lock a file as another process does; return what frees it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / path, "a+")
    fcntl.flock(file, kind | fcntl.LOCK_NB)
    return file


def test_a_shard_that_runs_excludes_its_double_the_join_and_a_whole_run(root, run):
    run(root, shards=4, shard=0)
    embeddings = root / "embeddings"
    with (
        hold(embeddings, ".toy.lock", fcntl.LOCK_SH),  # shard 1 is running elsewhere
        hold(embeddings / "toy.parts", "1.lock", fcntl.LOCK_EX),
    ):
        with pytest.raises(InputError, match="working on shard 1 of .*toy.npy; wait for it"):
            run(root, shards=4, shard=1)
        for options in ({"shards": 4, "join": True}, {}):
            with pytest.raises(InputError, match="another process is working on .*toy.npy"):
                run(root, **options)
        with pytest.raises(InputError, match="--overwrite cannot start .* other shards of it run"):
            run(root, shards=2, shard=0, overwrite=True)
        run(root, shards=4, shard=2)
        assert Counting.seen == 64
    run(root, shards=4, shard=1)
    run(root, shards=4, shard=3)
    with exclusive(embeddings / ".toy.lock", "a join"):
        with pytest.raises(InputError, match="working on all of .*toy.npy; wait for it"):
            run(root, shards=4, shard=3)
    run(root, shards=4, join=True)


def test_while_a_whole_run_or_a_join_works_a_shard_does_not_even_look(root):
    matrix, asked = root / "embeddings/toy.npy", []
    with exclusive(root / "embeddings/.toy.lock", "a join"), pytest.raises(InputError):
        with shard_lock(matrix, root / "embeddings/toy.parts", 0, asked.append):
            pass
    assert asked == []


def test_while_one_shard_begins_the_others_wait(root, run):
    begun = threading.Event()
    with hold(root / "embeddings", ".toy.begin.lock", fcntl.LOCK_EX):
        thread = threading.Thread(target=lambda: (run(root, shards=4, shard=1), begun.set()))
        thread.start()
        assert not begun.wait(0.3) and not (root / "embeddings/toy.parts").exists()
    thread.join(timeout=60)
    assert begun.is_set() and len(list(root.glob("embeddings/toy.parts/*.npz"))) == 2


def test_shards_started_at_the_same_moment_do_not_harm_each_other(root, run):
    whole = unsharded(root, run, backbone=Toy)
    flags = ["--root", root, "--audio", root / "audio", "--workers", 1, "--shards", 3]
    toy = [sys.executable, "-m", "tests.extract_item_embeddings.toy_backbone", *map(str, flags)]
    processes = [
        subprocess.Popen(
            [*toy, "--shard", str(shard)],
            cwd=HERE,
            env={**os.environ, "TOY_SECONDS_A_BATCH": "0.02"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for shard in (0, 1, 2, 0)
    ]
    ends = [(p.communicate(timeout=120)[1], p.returncode) for p in processes]
    for said, code in ends:
        assert code == 0 or (code == 2 and "another process is working on shard 0" in said), said
    assert [code for _, code in ends].count(0) >= 3
    run(root, backbone=Toy, shards=3, join=True)
    assert results(root) == whole


def test_of_two_plans_written_at_the_same_moment_the_first_stays(tmp_path, monkeypatch):
    parts = Parts(tmp_path / "toy.parts", 200, 3, window=32, shards=4)
    late = Parts(tmp_path / "toy.parts", 200, 3, window=64, shards=4)
    parts.begin({"weights": "one"})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda path: False)  # it looked before the other had written
        late.begin({"weights": "two"})
    assert [path.name for path in (tmp_path / "toy.parts").iterdir()] == ["plan.json"]
    assert late.changed({"weights": "two"}) == ["weights was one and is two"]
    assert late.changed({"weights": "one"}) == [] and late.window == 32


class Cut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("last", [False, True])
def test_cut_off_at_any_step_a_shard_and_the_join_end_the_same(root, run, monkeypatch, last):
    """Every rename, link and removal may be the last thing that happens, or may just not happen."""
    whole = unsharded(root, run)
    for shard in (0, 1, 2):
        run(root, shards=4, shard=shard)
    shutil.copytree(root / "embeddings", root / "before")

    def attempt(options, cut):
        """Run with the end at step number `cut`; return whether there were fewer steps."""
        steps = iter(range(10**6))

        def wrapped(original):
            def step(*arguments, **options):
                here = next(steps) == cut
                if here and not last:
                    raise Cut
                result = original(*arguments, **options)
                if here:
                    raise Cut
                return result

            return step

        with monkeypatch.context() as patch:
            for name in ("rename", "replace", "link", "unlink", "fsync", "rmdir"):
                patch.setattr(os, name, wrapped(getattr(os, name)))
            try:
                run(root, **options)
            except Cut:
                return False
        return True

    cuts = 0
    for options in ({"shards": 4, "shard": 3}, {"shards": 4, "join": True}):
        for cut in range(200):
            state = root / "state"
            shutil.copytree(root / "embeddings", state)
            ended = attempt(options, cut)
            cuts += not ended
            run(root, shards=4, shard=3)
            run(root, shards=4, join=True)
            assert results(root) == whole, (options, cut)
            shutil.rmtree(root / "embeddings")
            state.rename(root / "embeddings")
            if ended:
                break
        else:
            raise AssertionError("more steps than expected")
        run(root, **options)
    assert cuts > 15


def test_parts_of_other_weights_whose_removal_was_cut_off_are_not_mixed_in(root, run, monkeypatch):
    whole = unsharded(root, run, backbone=Other)
    run(root, shards=2, shard=0)
    run(root, shards=2, shard=1)
    (root / "embeddings").rename(root / "before")
    for cut in range(12):
        shutil.copytree(root / "before", root / "embeddings")
        steps = iter(range(10**6))

        def unlink(*arguments, original=os.unlink, steps=steps, cut=cut, **options):
            if next(steps) == cut:
                raise Cut
            return original(*arguments, **options)

        with monkeypatch.context() as patch, contextlib.suppress(Cut):
            patch.setattr(os, "unlink", unlink)
            run(root, backbone=Other, overwrite=True)
        run(root, backbone=Other, overwrite=True)
        assert results(root) == whole, cut
        shutil.rmtree(root / "embeddings")


def test_a_part_that_goes_away_during_the_join_is_no_row_of_nan(root, run, monkeypatch):
    for shard in (0, 1):
        run(root, shards=2, shard=shard)

    def report(*_):
        (root / "embeddings/toy.parts/00000064.npz").unlink()

    monkeypatch.setattr("extract_item_embeddings.engine.extraction.report", report)
    with pytest.raises(WorkError, match="00000064.npz is gone or damaged"):
        run(root, shards=2, join=True)
    assert not list((root / "embeddings").glob("toy.n*"))


def test_six_random_kills_end_in_the_bytes_of_an_undisturbed_run(tmp_path):
    found = stress(tmp_path, StressConfig(kills=6, tracks=200, shards=4, seed=1))
    assert found["kills"] == 6 and found["starts"] >= 11
    assert found["same_bytes"] and found["embedded"] >= 200
