"""The audit of a split finds each kind of fault that is put there, and none in a right one."""

import numpy as np
import pandas as pd
import pytest

from core.artifacts import sha256
from core.options import InputError
from listening_log.audit import check_split
from listening_log.pairs import connect
from listening_log.split_plays import Rule, split_plays

DATES = {"train_from": "2019-01-01", "test_from": "2019-01-15", "test_until": "2019-01-29"}
CONFIG = {**DATES, "val_share": 0.5, "seed": 42}
TRACKS = 30


@pytest.fixture(params=[False, True], ids=["recsys", "journal"])
def made(request, tmp_path):
    """Return (the folder, the parts) of a right split."""
    rng = np.random.default_rng(5)
    n = 1_500
    plays = pd.DataFrame(
        {
            "user_id": rng.integers(0, 60, n),
            "track_idx": (rng.random(n) ** 2 * TRACKS).astype("int32"),
            "timestamp": pd.Timestamp("2018-12-30")
            + pd.to_timedelta(rng.integers(0, 32 * 86_400, n), unit="s"),
        }
    )
    plays = plays[(plays.track_idx < 26) | (plays.timestamp >= DATES["test_from"])]
    plays = plays[(plays.track_idx < 26) | (plays.user_id < 20)]
    plays.astype({"timestamp": "datetime64[us]"}).to_parquet(tmp_path / "plays.pqt")
    rule = Rule.parse(**DATES, cold=request.param)
    (tmp_path / "scratch").mkdir()
    targets = {part: tmp_path / f"{part}.pqt" for part in rule.parts}
    scratch = tmp_path / "scratch"
    split_plays(tmp_path / "plays.pqt", rule, targets, scratch, memory=10**9, threads=2)
    return tmp_path, list(targets)


def audit(made, n_tracks=TRACKS, config=CONFIG, **sha256s):
    """Return the findings by what they look for, those that found nothing left out."""
    folder, parts = made
    files = {part: folder / f"{part}.pqt" for part in parts}
    digests = {part: sha256(path) for part, path in files.items() if path.exists()}
    record = {"config": config, "sha256": dict.fromkeys(parts) | digests | sha256s}
    with connect(folder / "scratch", 10**9, 2) as database:
        findings = list(check_split(database, folder, n_tracks, record))
    return {finding.what: finding for finding in findings if finding.rows}


def change(made, part, edit):
    """Replace the part by edit(its frame)."""
    path = made[0] / f"{part}.pqt"
    frame = edit(pd.read_parquet(path))
    kinds = {"track_idx": "int32", "timestamp": "datetime64[us]", "count": "int64"}
    frame.astype({name: kind for name, kind in kinds.items() if name in frame}).to_parquet(
        path, index=False
    )


def at(row, **values):
    """Return an edit that sets values in one row."""

    def edit(frame):
        for name, value in values.items():
            frame.loc[frame.index[row], name] = value
        return frame

    return edit


def test_nothing_is_found_in_a_right_split(made):
    assert audit(made) == {}


def twice(frame):
    return pd.concat([frame, frame.iloc[-1:]])


def backwards(frame):
    return frame.iloc[::-1]


def without_first_user(frame):
    return frame[frame.user_id != frame.user_id.iloc[0]]


def without_last(frame):
    return frame.iloc[:-1]


@pytest.mark.parametrize(
    ("part", "edit", "what", "rows"),
    [
        ("train", twice, "pairs that train.pqt holds more than once", 1),
        ("val", backwards, "rows of val.pqt out of order", None),
        ("test", at(2, count=0), "counts of test.pqt below 1", 1),
        (
            "test",
            at(2, count=0),
            "rows of test.pqt whose count or first play plays.pqt contradict",
            1,
        ),
        (
            "train",
            at(7, count=999),
            "rows of train.pqt whose count or first play plays.pqt contra",
            1,
        ),
        (
            "train",
            at(-1, track_idx=TRACKS),
            "ids of train.pqt missing or outside trackid_sorted",
            1,
        ),
        ("plays", at(0, track_idx=-1), "ids of plays.pqt missing or outside trackid_sorted.csv", 1),
        (
            "train",
            at(0, timestamp=pd.Timestamp("2019-01-15")),
            "first plays of train.pqt outside",
            1,
        ),
        (
            "train",
            at(0, timestamp=pd.Timestamp("2018-12-31")),
            "first plays of train.pqt outside",
            1,
        ),
        ("val", at(0, timestamp=pd.Timestamp("2019-01-29")), "first plays of val.pqt outside", 1),
        ("val", at(0, timestamp=pd.Timestamp("2019-01-14")), "first plays of val.pqt outside", 1),
        ("test", at(-1, user_id=10**6), "users of test.pqt who are not in train.pqt", 1),
        ("test", at(-1, track_idx=29), "tracks of test.pqt that are not in train.pqt", 1),
        ("train", without_last, "pairs played in the time of train that train.pqt lacks", 1),
        ("val", without_last, "later pairs of users (and tracks) of train that no part holds", 1),
        ("val", without_first_user, "users who validate or test against the draw of --seed", None),
        ("plays", twice, "plays that plays.pqt holds more than once", 1),
        (
            "plays",
            at(0, timestamp=pd.Timestamp("1970-01-01 00:00:07")),
            "plays dated before 1971-01-01",
            1,
        ),
        ("train", at(3, count=14 * 2_880 + 1), "users of train.pqt with more plays than fit", 1),
        ("val", at(3, count=14 * 2_880 + 1), "users of val.pqt with more plays than fit", 1),
        (
            "train",
            at(3, count=60 * 14 * 2_880 + 1),
            "tracks of train.pqt with more plays than its users can fit",
            1,
        ),
    ],
)
def test_each_fault_is_found_and_counted(made, part, edit, what, rows):
    change(made, part, edit)
    found = next(finding for name, finding in audit(made).items() if name.startswith(what))
    assert found.rows == (rows or found.rows)
    assert "for example" in found.example
    assert found.fault == (not what.startswith("plays ") and "more plays than" not in what)


def test_a_user_cannot_have_more_tracks_than_there_are(made):
    most = pd.read_parquet(made[0] / "train.pqt").groupby("user_id").size().max()
    what = "users of train.pqt with more tracks than trackid_sorted.csv has"
    assert what in audit(made, n_tracks=most - 1)
    assert what not in audit(made, n_tracks=most)


def test_a_file_that_is_another_one_than_the_record_says_is_found(made):
    found = audit(made, val="0" * 64)
    assert [(f.rows, f.example) for f in found.values()] == [(1, "['val']")]


def test_another_seed_or_share_draws_other_users(made):
    for other in ({"seed": 43}, {"val_share": 0.2}):
        found = audit(made, config=CONFIG | other)
        assert list(found) == ["users who validate or test against the draw of --seed"]


def test_leaks_between_parts_are_found(made):
    folder, parts = made
    train, val = (pd.read_parquet(folder / f"{part}.pqt") for part in ("train", "val"))
    change(made, "val", lambda frame: pd.concat([frame, train.iloc[:3]]))
    change(made, "test", lambda frame: pd.concat([frame, val.iloc[:1]]))
    found = audit(made)
    assert found["pairs of val.pqt that train.pqt holds too"].rows == 3
    assert found["users of test.pqt who validate"].example == (
        f"for example user_id {min(set(val.user_id[:1]) | shared_users(folder))}"
    )
    if "cold_test" in parts:
        change(made, "cold_test", lambda frame: pd.concat([frame, train.iloc[:1], val.iloc[:1]]))
        found = audit(made)
        assert found["pairs of cold_test.pqt that train.pqt holds too"].rows == 1
        assert found["users of cold_test.pqt who validate"].rows >= 1
        tracks = {train.track_idx.iloc[0], val.track_idx.iloc[0]}
        assert found["tracks of cold_test.pqt that are in train.pqt"].rows == len(tracks)


def shared_users(folder):
    val, test = (set(pd.read_parquet(folder / f"{p}.pqt").user_id) for p in ("val", "test"))
    return val & test


def test_a_user_with_more_plays_than_a_day_holds_is_noted(made):
    day = pd.date_range("2018-12-30", periods=2_881, freq="s").as_unit("us")
    more = pd.DataFrame({"user_id": 99, "track_idx": 1, "timestamp": day})
    change(made, "plays", lambda frame: pd.concat([frame, more]))
    found = audit(made)
    expected = "note   1 days on which a user has more than 2,880 plays, one in 30 s: "
    expected += "for example user_id 99, day 2018-12-30, plays 2881"
    assert [str(finding) for finding in found.values()] == [expected]


def test_other_columns_end_the_audit_and_missing_files_name_their_stage(made):
    change(made, "val", lambda frame: frame.drop(columns="count"))
    assert list(audit(made)) == ["columns of val.pqt of another kind"]
    (made[0] / "val.pqt").write_text("no parquet")
    assert list(audit(made)) == ["columns of val.pqt of another kind"]
    (made[0] / "test.pqt").unlink()
    with pytest.raises(InputError, match=r"test\.pqt is missing; make it with python 1_train"):
        audit(made)
