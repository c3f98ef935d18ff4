"""Splits by any rule, against a plain transcription in pandas; options and their errors."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_split_plays import compress
from test_stages import STAGE_0, STAGE_1, call

from core.options import InputError
from core.splits import read_split
from listening_log.rules import HELD_OUT, Asked, Rule, rule_of
from listening_log.split_plays import split_plays
from listening_log.split_plays import test_users as users_who_test
from listening_log.split_windows import split_windows

ENDS = (datetime(2019, 1, 1), datetime(2019, 1, 30, 12))


def make_plays(seed, n=600, users=15, tracks=25):
    rng = np.random.default_rng(seed)
    times = pd.to_timedelta(rng.integers(0, 29 * 86_400, n), unit="s")
    frame = pd.DataFrame(
        {
            "user_id": rng.integers(0, users, n),
            "track_idx": (rng.random(n) ** 2 * tracks).astype("int32"),
            "timestamp": (pd.Timestamp("2019-01-01") + times).astype("datetime64[us]"),
        }
    )
    return frame.sort_values("timestamp", ignore_index=True)


def reference(plays, rule):
    """The rule in pandas, one sentence a line; also what users played of any track."""
    windows = rule.windows()

    def within(part):
        start, end = windows[part]
        inside = pd.Series(True, plays.index)
        inside &= plays.timestamp >= start if start else True
        return plays[inside & (plays.timestamp < end if end else True)]

    train = compress(within("train"))
    while rule.core:
        tracks, users = train.groupby("user_id").size(), train.groupby("track_idx").size()
        few = (train.user_id.map(tracks) < rule.core) | (train.track_idx.map(users) < rule.core)
        train = train[~few]
        if not few.any():
            break
    parts, held = {"train": train}, {}
    for part in ("val", "test"):
        played = within(part)
        played = played[played.user_id.isin(train.user_id)]
        held[part] = played.groupby("user_id").size()
        pairs = compress(played[played.track_idx.isin(train.track_idx)])
        if rule.seen == "drop":
            start = windows["train"][0] or plays.timestamp.min()
            earlier = plays[(plays.timestamp >= start) & (plays.timestamp < windows[part][0])]
            keys = pd.MultiIndex.from_frame(earlier[["user_id", "track_idx"]])
            pairs = pairs[~pd.MultiIndex.from_frame(pairs[["user_id", "track_idx"]]).isin(keys)]
        parts[part] = pairs
    if not rule.by_time:
        users = np.sort(parts["test"].user_id.unique())
        tests = parts["test"].user_id.isin(users_who_test(users, rule.val_share, rule.seed))
        parts |= {"val": parts["test"][~tests], "test": parts["test"][tests]}
    return parts, held


def split(folder, plays, rule, make=split_windows):
    (folder / "scratch").mkdir(exist_ok=True)
    plays.to_parquet(folder / "plays.pqt")
    names = [*rule.parts, *([HELD_OUT] if rule.counts_unknown else [])]
    targets = {name: folder / f"{name}.pqt" for name in names}
    make(folder / "plays.pqt", rule, targets, folder / "scratch", memory=10**9, threads=1)
    return {name: pq.read_table(path).to_pandas() for name, path in targets.items()}


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["drop", "keep"]),
    st.sampled_from([None, "3d", "15%"]),
    st.sampled_from([None, "36h", "7d"]),
    st.sampled_from([None, "9d"]),
    st.sampled_from([None, "5h"]),
    st.sampled_from([0, 2, 4]),
)
def test_any_rule_gives_the_rows_of_its_plain_transcription(
    tmp_path_factory, seed, seen, val_last, test_last, train_last, gap, core
):
    plays = make_plays(seed)
    ends = plays.timestamp.min(), plays.timestamp.max()
    asked = Asked(
        test_from=None if test_last else "2019-01-24",
        **{"test_last": test_last, "val_last": val_last, "train_last": train_last, "gap": gap},
    )
    rule = rule_of(asked, ends, False, seen=seen, core=core, val_share=0.5, seed=42)
    expected, held = reference(plays, rule)
    folder = tmp_path_factory.mktemp("split")
    if any(not len(part) for part in expected.values()):
        with pytest.raises(InputError, match="would be empty: the log has plays from"):
            split(folder, plays, rule)
        return
    found = split(folder, plays, rule)
    for part, frame in expected.items():
        same = {"check_dtype": False}
        pd.testing.assert_frame_equal(found[part], frame.reset_index(drop=True), **same)
    if rule.counts_unknown:
        counted = found[HELD_OUT].set_index("user_id")
        for part, window in (("val", 2), ("test", 4)):
            own = counted[counted.window == window].plays
            assert own.to_dict() == held[part].to_dict()


def test_a_plain_rule_gives_the_same_bytes_either_way(tmp_path):
    plays = make_plays(1)
    rule = Rule.parse("2019-01-03", "2019-01-12", "2019-01-28")
    assert rule.is_plain
    both = []
    for make in (split_plays, split_windows):
        folder = tmp_path / make.__name__
        folder.mkdir()
        split(folder, plays, rule, make)
        both.append([(folder / f"{part}.pqt").read_bytes() for part in rule.parts])
    assert both[0] == both[1]


def test_lengths_are_reckoned_from_the_last_play():
    rule = rule_of(Asked(test_last="7d", val_last="2d", train_last="10d", gap="1800s"), ENDS, False)
    after = ENDS[1] + timedelta(microseconds=1)
    assert rule.test_from == after - timedelta(days=7)
    assert rule.val_until == rule.test_from - timedelta(minutes=30)
    assert rule.val_from == rule.val_until - timedelta(days=2)
    assert rule.train_until == rule.val_from - timedelta(minutes=30)
    assert rule.train_from == rule.train_until - timedelta(days=10)
    shares = rule_of(Asked(test_last="10%", val_last="10%"), ENDS, False)
    assert after - shares.test_from == shares.test_from - shares.val_from
    assert (after - shares.test_from) / (after - ENDS[0]) == pytest.approx(0.1)
    relative = (datetime(1970, 1, 1), datetime(1970, 10, 28, 22, 13, 15))
    rule = rule_of(Asked(test_from="25913600s", val_last="1d", gap="30min"), relative, True)
    assert str(rule) == (
        "train from the first play, validation from day 298, 21:43:20, held out from day 299, "
        "22:13:20"
    )


@pytest.mark.parametrize(
    ("asked", "relative", "message"),
    [
        (Asked(test_last="7d", test_from="2019-01-20"), False, "say the same thing; give one"),
        (Asked(), False, "when the test begins is not told; give --test-last 28d"),
        (
            Asked(test_last="7"),
            False,
            "--test-last must be a length as 28d, 12h, 30min or 1800s, or",
        ),
        (Asked(test_last="100%"), False, "--test-last must be a length"),
        (Asked(test_from="7d"), False, "--test-from must be a date YYYY-MM-DD, got '7d'"),
        (Asked(test_from="2019-01-20"), True, "is a date, but the plays have none"),
        (Asked(test_from="10%"), True, "--test-from must be a length as 28d"),
        (
            Asked(test_last="40d"),
            False,
            "the end of train, 2018-12-21 .* must come later than train",
        ),
        (
            Asked(test_last="7d", test_until="2019-01-02"),
            False,
            "must come later than train, 2019-01",
        ),
    ],
)
def test_what_cannot_be_a_rule_is_told(asked, relative, message):
    with pytest.raises(InputError, match=message):
        rule_of(asked, ENDS, relative)
    with pytest.raises(InputError, match="--core must be at least 0"):
        rule_of(Asked(test_last="7d"), ENDS, False, core=-1)


def write_yambda(path, seed=0, n=3_000, users=40, tracks=80):
    """Write a parquet file of Yambda's form whose last days are those of the whole."""
    rng = np.random.default_rng(seed)
    seconds = (26_000_000 - rng.exponential(300_000, n)).clip(0).astype("uint32") // 5 * 5
    frame = pd.DataFrame(
        {
            "uid": rng.integers(0, users, n).astype("uint32") * 100,
            "item_id": (rng.random(n) ** 2 * tracks).astype("uint32") * 7,
            "timestamp": seconds.astype("uint32"),
            "is_organic": rng.integers(0, 2, n).astype("uint8"),
            "played_ratio_pct": rng.integers(0, 101, n).astype("uint16"),
            "track_length_seconds": np.full(n, 180, "uint32"),
        }
    )
    frame.sort_values(["uid", "timestamp"]).to_parquet(path, index=False)
    return frame


@pytest.fixture
def yambda(tmp_path):
    frame = write_yambda(tmp_path / "listens.parquet")
    call(STAGE_0, tmp_path, "--log", tmp_path / "listens.parquet", "--preset", "yambda")
    return tmp_path, frame[frame.played_ratio_pct >= 50]


def test_the_yambda_protocol_is_its_benchmarks(yambda, capsys):
    root, listens = yambda
    call(STAGE_1, root, "--protocol", "yambda")
    split = read_split(root)
    ids = np.array((root / "trackid_sorted.csv").read_text().split()[1:])
    ids = {line.split(",")[1]: int(line.split(",")[0]) for line in ids}
    seconds = listens.timestamp
    train = listens[seconds < 25_913_600 - 1_800 - 86_400 - 1_800]
    val = listens[(seconds >= 25_913_600 - 1_800 - 86_400) & (seconds < 25_913_600 - 1_800)]
    parts = {"train": train, "val": val, "test": listens[seconds >= 25_913_600]}
    for part, expected in parts.items():
        expected = expected[expected.uid.isin(train.uid)]
        hot = expected[expected.item_id.isin(train.item_id)]
        pairs = set(zip(hot.uid, hot.item_id.astype(str).map(ids), strict=True))
        assert set(zip(split[part].user_id, split[part].track_idx, strict=True)) == pairs
        if part != "train":
            window = {"val": 2, "test": 4}[part]
            own = split.held_out[split.held_out.window == window].set_index("user_id").plays
            assert own.to_dict() == expected.groupby("uid").size().to_dict()
    assert split.seen_again and set(split["val"].user_id) & set(split["test"].user_id)
    said = capsys.readouterr().out
    assert "validation from day 298, 21:43:20, held out from day 299, 22:13:20" in said
    call(STAGE_1, root, "--protocol", "yambda")
    assert "is finished" in capsys.readouterr().out
    call(STAGE_1, root, "--protocol", "yambda", "--check")
    with pytest.raises(InputError, match="--core was 0 and is 5"):
        call(STAGE_1, root, "--protocol", "yambda", "--core", "5")
    call(STAGE_1, root, "--protocol", "yambda", "--core", "5", "--overwrite")
    call(STAGE_1, root, "--protocol", "yambda", "--core", "5", "--check")
    counts = read_split(root)["train"].groupby("user_id").size()
    assert counts.min() >= 5


def test_the_audit_finds_faults_of_any_rule(yambda):
    root, _ = yambda
    call(STAGE_1, root, "--test-last", "2d", "--seen", "drop", "--gap", "1h")
    call(STAGE_1, root, "--check")
    path = root / "data" / "test.pqt"
    frame = pd.read_parquet(path)
    frame.loc[0, "count"] += 1
    frame.iloc[1:].to_parquet(path, index=False)
    with pytest.raises(InputError, match="checks found faults"):
        call(STAGE_1, root, "--check")


def test_options_of_the_published_splits_are_recorded_as_they_were(tmp_path):
    """A split.json of an earlier version stays that of a finished split."""
    (tmp_path / "log.tsv").write_text(
        "user_id\ttrack_id\ttimestamp\n"
        + "".join(
            f"{u}\tT{t}\t2019-02-{d:02d} 00:00:00\n"
            for u in range(9)
            for t, d in ((u % 3, 1), ((u + 1) % 3, 20))
        )
    )
    call(STAGE_0, tmp_path, "--log", tmp_path / "log.tsv")
    flags = ("--train-from", "2019-02-01", "--test-from", "2019-02-15")
    call(STAGE_1, tmp_path, *flags)
    made = json.loads((tmp_path / "data" / "split.json").read_text())
    options = ["protocol", "train_from", "test_from", "test_until", "val_share", "seed"]
    assert list(made["config"]) == options
    assert list(made) == [
        *("config", "counts", "sha256", "plays_sha256", "trackid_sorted_sha256", "sealed")
    ]
    plays = json.loads((tmp_path / "data" / "plays.json").read_text())
    assert "shape" not in plays and "times" not in plays
    with pytest.raises(InputError, match="--gap was None and is 1d"):
        call(STAGE_1, tmp_path, *flags, "--gap", "1d")


def test_relative_times_need_a_rule_of_their_own(yambda):
    root, _ = yambda
    with pytest.raises(InputError, match="when the test begins is not told"):
        call(STAGE_1, root)
    with pytest.raises(InputError, match="is a date, but the plays have none"):
        call(STAGE_1, root, "--test-from", "2019-01-01")
    with pytest.raises(InputError, match="--protocol journal is made of dates"):
        call(STAGE_1, root, "--protocol", "journal", "--test-last", "2d")
    call(STAGE_1, root, "--test-last", "2d", "--val-last", "1d")
    assert json.loads((root / "data" / "split.json").read_text())["times"] == "relative"
    rule = rule_of(Asked(test_last="2d"), ENDS, False)
    assert replace(rule, seen="keep").is_plain is False
