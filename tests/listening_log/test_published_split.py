"""The published split taken as it is: its names, its counts, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from core.options import InputError
from core.splits import read_split
from listening_log.published_split import COUNTS, FILES, compare
from tests.conftest import make_root


def publish(folder, tables, ids):
    """Write a split as the study's repository has it: by user, track_id, an index, nanoseconds."""
    folder.mkdir(exist_ok=True)
    for part, table in tables.items():
        table = table.rename(columns={"track_idx": "track_id"})
        table["timestamp"] = table.timestamp.astype("datetime64[ns]")
        table.sample(frac=1, random_state=1).to_parquet(folder / f"{FILES[part]}.pqt")
    lines = ["idx,trackid", *(f"{at},{track}" for at, track in enumerate(ids))]
    (folder / "trackid_sorted.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def published(tmp_path):
    """Return (folder, tables) of a small split with a cold test."""
    source = make_root(tmp_path / "source")
    tables = dict(read_split(source))
    cold = tables["test"].drop_duplicates("user_id").assign(track_idx=0)  # in nobody's train
    tables["cold_test"] = cold
    ids = [line.split(",")[1] for line in (source / "trackid_sorted.csv").read_text().split()[1:]]
    return publish(tmp_path / "journal", tables, ids), tables


def test_the_four_files_become_a_split(tmp_path, published, call, capsys):
    folder, tables = published
    call("1_train_test_split", "--root", tmp_path / "root", "--published", folder)
    split = read_split(tmp_path / "root")
    for part in ("train", "val", "test"):
        pd.testing.assert_frame_equal(split[part], tables[part])
    assert len(split.cold) == len(tables["cold_test"])
    said = capsys.readouterr().out
    assert f"not the published split: train has {len(tables['train'])} rows, " in said
    made = json.loads((tmp_path / "root" / "data" / "split.json").read_text())
    assert set(made["published"]) == set(FILES) and made["config"]["train_from"] == "2018-02-01"
    call("1_train_test_split", "--root", tmp_path / "root", "--published", folder)
    assert "is finished; --overwrite" in capsys.readouterr().out
    call("1_train_test_split", "--root", tmp_path / "root", "--check")
    assert "ok     no fault within the files or between them" in capsys.readouterr().out
    call("knn", "--root", tmp_path / "root", "--embedding", "noise")


def test_the_command_as_a_user_runs_it(tmp_path, published, command):
    flags = ("--root", tmp_path / "root", "--published", published[0])
    done = command("1_train_test_split.py", *flags)
    assert done.returncode == 0, done.stderr
    assert command("1_train_test_split.py", "--root", tmp_path / "root", "--check").returncode == 0


def test_another_split_is_refused_until_overwritten(tmp_path, published, call):
    folder, tables = published
    call("1_train_test_split", "--root", tmp_path / "root", "--published", folder)
    tables["val"].iloc[:-1].to_parquet(folder / "val.pqt")
    with pytest.raises(InputError, match="tells of another split than the one in"):
        call("1_train_test_split", "--root", tmp_path / "root", "--published", folder)
    flags = ("--published", folder, "--overwrite")
    call("1_train_test_split", "--root", tmp_path / "root", *flags)
    assert len(read_split(tmp_path / "root")["val"]) == len(tables["val"]) - 1


def test_missing_files_and_other_ids_are_named(tmp_path, published, call):
    folder, _ = published

    def take():
        call("1_train_test_split", "--root", tmp_path / "root", "--published", folder)

    (folder / "cold_test.pqt").rename(folder / "cold")
    with pytest.raises(InputError, match="no cold_test.pqt; get it with python get_data.py"):
        take()
    (folder / "cold").rename(folder / "cold_test.pqt")
    (folder / "trackid_sorted.csv").rename(folder / "ids")
    with pytest.raises(InputError, match="neither .* has trackid_sorted.csv"):
        take()
    (folder / "ids").rename(folder / "trackid_sorted.csv")
    (tmp_path / "root").mkdir(exist_ok=True)
    (tmp_path / "root" / "trackid_sorted.csv").write_text("idx,trackid\n0,a\n")
    with pytest.raises(InputError, match="holds other track ids"):
        take()


@pytest.mark.parametrize("fault", ["twice", "unknown user", "in train too", "outside"])
def test_a_fault_of_the_files_is_found(tmp_path, published, call, fault):
    folder, tables = published
    test, what = tables["test"].copy(), fault
    if fault == "twice":
        test, what = pd.concat([test, test[:1]]), "repeat a .user, track. pair"
    elif fault == "unknown user":
        test.loc[0, "user_id"], what = 999, "a user_id that is not in train.pqt"
    elif fault == "in train too":
        known = tables["train"][tables["train"].user_id == test.user_id[0]]
        test, what = pd.concat([test, known[:1]]), "that train.pqt holds too"
    else:
        test.loc[0, "track_idx"], what = 10**6, "outside trackid_sorted.csv"
    test.rename(columns={"track_idx": "track_id"}).to_parquet(folder / "hot_test.pqt")
    with pytest.raises(InputError, match=what):
        call("1_train_test_split", "--root", tmp_path / "root", "--published", folder)
    assert not list((tmp_path / "root").glob("data/*.pqt"))


def test_the_published_counts_are_recognised():
    assert compare(COUNTS).startswith("exactly the rows, users and tracks of the published split")
    other = {**COUNTS, "val": {**COUNTS["val"], "rows": 48_786}}
    assert compare(other) == (
        "not the published split: val has 48,786 rows (published 48,787); "
        "as published: train, test, cold_test"
    )


def test_a_split_of_the_journals_rule_is_compared(tmp_path, call, capsys):
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n0,a\n1,b\n2,c\n3,d\n")
    days = {0: "2018-03-01", 1: "2018-03-02", 2: "2019-02-10", 3: "2019-02-11"}
    heard = [(user, track) for user in range(20) for track in (0, 1 + user % 2)]
    heard += [(user, 3) for user in (0, 2)] + [(0, 1), (2, 2)]
    late = [(user, 2 - user % 2) for user in range(4, 20)]  # of the other track of the two
    plays = pd.DataFrame(heard + late, columns=["user_id", "track_idx"])
    first = pd.to_datetime(plays.track_idx.map(days))
    early = pd.Timestamp("2018-03-01").to_datetime64()
    is_late = np.arange(len(plays)) >= len(heard)
    plays["timestamp"] = np.where(is_late, pd.Timestamp("2019-02-05").to_datetime64(), early)
    plays.loc[plays.track_idx == 3, "timestamp"] = first[plays.track_idx == 3]
    plays["timestamp"] = plays.timestamp.astype("datetime64[us]")
    (tmp_path / "data").mkdir()
    plays.to_parquet(tmp_path / "data" / "plays.pqt", index=False)
    call("1_train_test_split", "--root", tmp_path, "--protocol", "journal")
    assert "not the published split: train has 41 rows" in capsys.readouterr().out
    flags = ("--protocol", "journal", "--seed", "7", "--overwrite")
    call("1_train_test_split", "--root", tmp_path, *flags)
    assert "published" not in capsys.readouterr().out


def test_the_real_validation_rows_have_the_published_counts(tmp_path, shared, call, capsys):
    plays = pd.read_csv(
        shared / "music4all" / "userid_trackid_timestamp.tsv", sep="\t", parse_dates=["timestamp"]
    )
    ids = pd.read_csv(shared / "music4all" / "trackid_sorted.csv", keep_default_na=False).trackid
    row = pd.Series(range(len(ids)), index=ids)
    val = pd.DataFrame(
        {
            "user_id": plays.user_id,
            "track_idx": row[plays.track_id].to_numpy(),
            "timestamp": plays.timestamp,
            "count": 1,
        }
    )
    # The rest of the split is not at hand: other users, who heard these tracks before, in train;
    # and the users of val, with one track that they do not hear later.
    tracks, users = np.unique(val.track_idx), np.unique(val.user_id)
    unheard = np.setdiff1d(np.arange(len(ids)), tracks)[:3]
    before = {"timestamp": pd.Timestamp("2018-06-01"), "count": 1}
    train = pd.concat(
        [
            pd.DataFrame({"user_id": 10**6, "track_idx": tracks, **before}),
            pd.DataFrame({"user_id": users, "track_idx": unheard[0], **before}),
            pd.DataFrame({"user_id": [10**6 + 1], "track_idx": unheard[0], **before}),
        ]
    )
    late = {"timestamp": pd.Timestamp("2019-02-02"), "count": 1}
    tables = {
        "train": train,
        "val": val,
        "test": pd.DataFrame({"user_id": [10**6 + 1], "track_idx": tracks[:1], **late}),
        "cold_test": pd.DataFrame({"user_id": [10**6], "track_idx": unheard[1:2], **late}),
    }
    folder = publish(tmp_path / "journal", tables, ids)
    call("1_train_test_split", "--root", tmp_path / "root", "--published", folder)
    said = capsys.readouterr().out
    assert "as published: val\n" in said and "val has" not in said
    split = read_split(tmp_path / "root")
    pd.testing.assert_frame_equal(
        split["val"][["user_id", "track_idx"]],
        val.sort_values(["user_id", "track_idx"], ignore_index=True)[["user_id", "track_idx"]],
        check_dtype=False,
    )
