"""A split is one thing: what is read is what stage 1 made, or one consistent split, or an error."""

import fcntl
import importlib
import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from core.artifacts import sha256
from core.options import InputError
from core.splits import read_split, split_hash
from recommenders.interactions import load_split

DATES = ("--train-from", "2019-02-01", "--test-from", "2019-02-15")
PARTS = ("train", "val", "test")


class Killed(BaseException):
    """What a kill is inside one process: nothing after it is done."""


@pytest.fixture
def made(tmp_path, call):
    """A root with the split that stage 1 made of a small log."""
    rng = np.random.default_rng(0)
    ids = np.array([f"track{t:04d}" for t in range(60)])
    times = pd.to_timedelta(rng.integers(0, 28 * 86_400, 2_000), unit="s")
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, 40, 2_000),
            "track_id": ids[(rng.random(2_000) ** 2 * 60).astype(int)],
            "timestamp": pd.Timestamp("2019-02-01") + times,
        }
    )
    log.to_csv(tmp_path / "log.tsv", sep="\t", index=False)
    root = tmp_path / "root"
    call("0_get_plays_pqt", "--root", root, "--log", tmp_path / "log.tsv")
    call("1_train_test_split", "--root", root, *DATES)
    return root


def change(root, part, edit):
    path = root / "data" / f"{part}.pqt"
    edit(pd.read_parquet(path)).to_parquet(path, index=False)


@pytest.mark.parametrize("read", [read_split, split_hash, load_split])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_not_what_the_record_tells_of_is_refused(made, part, read):
    read(made)
    change(made, part, lambda frame: frame.assign(count=frame["count"] + 1))
    with pytest.raises(InputError, match=rf"{part}\.pqt is not the file that split.json tells of"):
        read(made)
    (made / "data" / "split.json").unlink()
    read(made)  # without a record it is a split of the user's own


def test_the_track_ids_are_those_that_the_split_was_made_for(made):
    ids = made / "trackid_sorted.csv"
    ids.write_text(ids.read_text().replace("59,track0059", "59,track0060"))
    with pytest.raises(InputError, match="trackid_sorted.csv is not the file that the split was"):
        read_split(made)


def test_a_cold_part_of_another_split_is_refused(made):
    shutil.copy(made / "data" / "test.pqt", made / "data" / "cold_test.pqt")
    with pytest.raises(InputError, match="holds train, val, test, cold_test, but split.json tells"):
        read_split(made)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"sha256": [], "counts": 1}', "{", "7"])
def test_a_record_of_another_shape_is_one_line(made, content):
    (made / "data" / "split.json").write_text(content)
    with pytest.raises(InputError, match=r"split\.json .*1_train_test_split\.py --overwrite"):
        read_split(made)


def test_a_kill_at_each_removal_and_rename_leaves_an_error_or_one_whole_split(
    made, call, monkeypatch, tmp_path
):
    """--overwrite with another seed, killed before its n-th step, for every n."""
    old = {part: sha256(made / "data" / f"{part}.pqt") for part in PARTS}
    whole = tmp_path / "whole"
    shutil.copytree(made, whole)
    call("1_train_test_split", "--root", whole, *DATES, "--seed", 7, "--overwrite")
    new = {part: sha256(whole / "data" / f"{part}.pqt") for part in PARTS}
    outcomes = []
    for step in itertools.count():
        root = tmp_path / f"killed{step}"
        shutil.copytree(made, root)
        if not killed_at(step, root, call, monkeypatch):
            break
        try:
            read_split(root)
        except InputError as error:
            outcomes.append("error")
            assert "1_train_test_split.py" in str(error)
        else:
            found = {part: sha256(root / "data" / f"{part}.pqt") for part in PARTS}
            outcomes.append("old" if found == old else "new" if found == new else "MIXED")
        call("1_train_test_split", "--root", root, *DATES, "--seed", 7, "--overwrite")
        assert read_split(root).fingerprint == read_split(whole).fingerprint
        shutil.rmtree(root)
    assert "MIXED" not in outcomes and {"old", "error", "new"} == set(outcomes), outcomes


def killed_at(step, root, call, monkeypatch):
    """Split again and stop before the step-th change of a part or record; False if it ended."""
    left = iter(range(step))

    def stop_in_time(name, real):
        def act(path, *rest, **more):
            target = rest[0] if rest and name == "replace" else path
            if str(target).endswith((".pqt", "split.json")) and next(left, None) is None:
                raise Killed
            return real(path, *rest, **more)

        return act

    with monkeypatch.context() as patch:
        artifacts = importlib.import_module("core.artifacts")
        patch.setattr(artifacts.os, "replace", stop_in_time("replace", artifacts.os.replace))
        patch.setattr(artifacts.Path, "unlink", stop_in_time("unlink", artifacts.Path.unlink))
        try:
            call("1_train_test_split", "--root", root, *DATES, "--seed", 7, "--overwrite")
        except Killed:
            return True
    return False


def test_pairs_of_train_in_test_are_refused_with_file_count_and_example(toy_root):
    root = toy_root()
    train = pd.read_parquet(root / "data" / "train.pqt")
    users = pd.read_parquet(root / "data" / "test.pqt").user_id.unique()
    leaked = train[train.user_id.isin(users)].head(25)
    change(root, "test", lambda frame: pd.concat([frame, leaked]))
    row = leaked.iloc[0]
    expected = r"test\.pqt: 25 rows have a \(user, track\) pair that train\.pqt holds too, for "
    with pytest.raises(InputError, match=rf"{expected}example user {row.user_id}, track"):
        read_split(root)


def test_a_user_who_validates_and_tests_is_refused(toy_root):
    root = toy_root()
    val = pd.read_parquet(root / "data" / "val.pqt")
    change(root, "test", lambda frame: pd.concat([frame, val.head(2)]))
    with pytest.raises(InputError, match=r"test\.pqt: 2 rows have a user_id that val\.pqt holds"):
        read_split(root)


def test_the_fingerprint_is_of_what_was_read_whatever_the_files_hold_afterwards(toy_root, call):
    root = toy_root()
    split = load_split(root)
    before = split_hash(root)
    tables = {name: table.copy() for name, table in split.tables().items()}
    for part in PARTS:
        expected = pd.read_parquet(root / "data" / f"{part}.pqt")[[*tables[part]]]
        pd.testing.assert_frame_equal(tables[part], expected, check_dtype=False)
        change(root, part, lambda frame: frame.iloc[1:])
    assert split.fingerprint == before != split_hash(root)
    for part, table in split.tables().items():
        pd.testing.assert_frame_equal(table, tables[part])


def test_a_reader_waits_for_a_writer_and_says_so_when_it_goes_on(toy_root, monkeypatch):
    root = toy_root()
    monkeypatch.setattr("core.artifacts.time.sleep", lambda seconds: lock_file.close())
    with open(root / "data" / ".lock", "w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        read_split(root)  # the lock is free after its first wait
    with open(root / "data" / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr("core.artifacts.time.sleep", lambda seconds: None)
        times = iter([0.0, 5.0, 11.0])
        monkeypatch.setattr("core.artifacts.time.monotonic", lambda: next(times))
        with pytest.raises(InputError, match="another process is working on .*data; wait for it"):
            read_split(root)


def test_readers_do_not_keep_each_other_out_and_a_writer_waits_for_them(made, call):
    with open(made / "data" / ".lock") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        read_split(made)
        with pytest.raises(InputError, match="another process is working on"):
            call("1_train_test_split", "--root", made, *DATES, "--overwrite")


@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_damaged_plays_are_neither_finished_nor_split(made, call, tmp_path, damage):
    plays = made / "data" / "plays.pqt"
    content = bytearray(plays.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 3] ^= 4
    plays.write_bytes(content)
    with pytest.raises(InputError, match=r"plays\.pqt is finished, but it is not the file that"):
        call("0_get_plays_pqt", "--root", made, "--log", tmp_path / "log.tsv")
    with pytest.raises(InputError, match=r"plays\.pqt.*0_get_plays_pqt\.py"):
        call("1_train_test_split", "--root", made, *DATES, "--overwrite")
    assert read_split(made)  # the split that was there is left as it was


def test_plays_of_the_users_own_need_no_record(made, call):
    (made / "data" / "plays.json").unlink()
    call("1_train_test_split", "--root", made, *DATES, "--overwrite")
    recorded = json.loads((made / "data" / "split.json").read_text())
    assert recorded["plays_sha256"] == sha256(made / "data" / "plays.pqt")
