"""The split against a plain pandas transcription of the study's rule."""

import math
import os
from datetime import date
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.artifacts import sha256
from core.options import InputError
from listening_log import large_tables, pairs
from listening_log.large_tables import ROW_GROUP, TableFile, memory_bytes
from listening_log.plays import convert_log
from listening_log.split_files import PAIRS, Part
from listening_log.split_plays import Rule, split_plays
from listening_log.split_plays import test_users as users_who_test

SHARED = os.environ.get("MUSIC_SHARED")
PARTS = ("train", "val", "test")


def reference(plays, train_from, test_from, test_until=None, val_share=0.5, seed=42, cold=False):
    """The studies' rule, in pandas, one sentence a line."""
    plays = plays[plays.timestamp >= train_from]
    if test_until:
        plays = plays[plays.timestamp < test_until]
    train = compress(plays[plays.timestamp < test_from])
    pairs = compress(plays)
    held = pairs[(pairs.timestamp >= test_from) & pairs.user_id.isin(train.user_id)]
    hot = held[held.track_idx.isin(train.track_idx)]
    unknown = held[~held.track_idx.isin(train.track_idx)]
    users = np.sort(hot.user_id.unique())
    if cold:
        users = users[~np.isin(users, unknown.user_id)]
    n_test = math.ceil((1 - Fraction(str(val_share))) * len(users))
    order = np.random.RandomState(seed).permutation(len(users))  # noqa: NPY002
    validates = hot.user_id.isin(users[order[n_test:]])
    parts = {"train": train, "val": hot[validates], "test": hot[~validates]}
    return parts | {"cold_test": unknown} if cold else parts


def compress(plays):
    pairs = plays.groupby(["user_id", "track_idx"]).timestamp.agg(timestamp="min", count="size")
    return pairs.reset_index().sort_values(["user_id", "track_idx"])


def split(folder, plays, dates, *, memory=500_000_000, threads=2, **options):
    """Return (the parts as frames, the counts) of plays in a frame."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    plays.astype({"track_idx": "int32", "timestamp": "datetime64[us]"}).to_parquet(
        folder / "plays.pqt"
    )
    rule = Rule.parse(*dates, **options)
    targets = {part: folder / f"{part}.pqt" for part in rule.parts}
    counts = split_plays(
        folder / "plays.pqt", rule, targets, scratch, memory=memory, threads=threads
    )
    assert [path.name for path in scratch.iterdir()] == ["late.pqt"]
    return {part: pq.read_table(path).to_pandas() for part, path in targets.items()}, counts


def assert_same(found, expected):
    assert list(found) == list(expected)
    for part in found:
        pd.testing.assert_frame_equal(
            found[part], expected[part].reset_index(drop=True), check_dtype=False
        )


def make_plays(rng, n, users=8, tracks=8, days=30, new=0):
    """n plays of January 2019, many at midnight, where the dates of a split cut.

    The last `new` tracks are played from the tenth day on.
    """
    played = rng.integers(0, tracks, n)
    day = rng.integers(np.where(played >= tracks - new, 9, 0), days)
    seconds = day * 86_400 + rng.choice([0, 0, 1, 86_399], n)
    return pd.DataFrame(
        {
            "user_id": rng.integers(0, users, n) * 3_000_000_000,
            "track_idx": played,
            "timestamp": pd.Timestamp("2019-01-01") + pd.to_timedelta(seconds, unit="s"),
        }
    )


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40) | st.integers(100, 400),
    st.integers(1, 6),
    st.integers(2, 14),
    st.none() | st.integers(3, 10),
    st.sampled_from([0.5, 0.3, 0.7, 0.25, 0.999]),
    st.booleans(),
    st.sampled_from([7, 50, 10**6]),
)
@example(1, 150, 3, 10, 5, 0.7, False, 7)
@example(1, 60, 2, 8, None, 0.5, True, 7)
@example(2, 60, 2, 8, 20, 0.3, True, 10**6)
def test_the_split_is_the_one_of_the_rule(
    tmp_path_factory, seed, n, start, train_days, test_days, val_share, cold, at_once
):
    plays = make_plays(np.random.default_rng(seed), n, tracks=12, new=4 * cold)
    first = pd.Timestamp("2019-01-01") + pd.Timedelta(start - 1, "D")
    dates = [first, first + pd.Timedelta(train_days, "D")]
    dates += [dates[1] + pd.Timedelta(test_days, "D")] if test_days else [None]
    window = [None if day is None else str(day.date()) for day in dates]
    options = {"val_share": val_share, "seed": seed, "cold": cold}
    expected = reference(plays, *dates, **options)
    folder = tmp_path_factory.mktemp("split")
    empty = [part for part, frame in expected.items() if not len(frame)]
    if empty:
        with pytest.raises(InputError, match=f"^{' and '.join(empty)} would be empty") as error:
            split(folder, plays, window, **options)
        for said in (plays.timestamp.min(), plays.timestamp.max(), *filter(None, window)):
            assert str(said) in str(error.value)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "RANGE", at_once)
        found, counts = split(folder, plays, window, **options)
    assert_same(found, expected)
    for part, frame in expected.items():
        by_user = frame.groupby("user_id")["count"].agg(["size", "sum"])
        assert counts[part] == {
            "rows": len(frame),
            "users": len(by_user),
            "tracks": frame.track_idx.nunique(),
            "plays": frame["count"].sum(),
            "tracks_a_user": spread(by_user["size"]),
            "plays_a_user": spread(by_user["sum"]),
        }


@pytest.mark.parametrize("order", ["user_id", "timestamp", "track_idx"])
def test_plays_in_many_row_groups_and_files(tmp_path, monkeypatch, order):
    """Users are spread over ranges that are grouped one by one, whatever the order of the plays."""
    plays = make_plays(np.random.default_rng(3), 5_000, users=200, tracks=100).sort_values(order)
    plays = plays.astype({"track_idx": "int32", "timestamp": "datetime64[us]"})
    plays.to_parquet(tmp_path / "plays.pqt", row_group_size=100)
    table = pairs.PlaysTable(tmp_path / "plays.pqt")
    dates = [date(2019, 1, 10), date(2019, 1, 15), date(2019, 1, 17)]
    monkeypatch.setattr(pairs, "RANGE", 40)
    limits = {"memory": 10**9, "threads": 2}
    tables = list(pairs.read_pairs(table, *dates, tmp_path, **limits))
    assert len(tables) > 10 and max(map(len, tables)) < 200
    found = pa.concat_tables(tables).to_pandas()
    inside = plays[(plays.timestamp >= "2019-01-10") & (plays.timestamp < "2019-01-17")]
    expected = compress(inside)
    assert found.user_id.tolist() == expected.user_id.tolist()
    assert found.track_idx.tolist() == expected.track_idx.tolist()
    assert (found.timestamp.to_numpy() == expected.timestamp.to_numpy()).all()
    early = inside[inside.timestamp < "2019-01-15"].groupby(["user_id", "track_idx"]).size()
    keys = pd.MultiIndex.from_frame(found[["user_id", "track_idx"]])
    assert (found.early == keys.isin(early.index)).all()
    counts = early.reindex(keys).fillna(expected["count"].set_axis(keys))
    assert found["count"].tolist() == counts.tolist()


def test_user_ids_may_be_any_of_64_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "RANGE", 2)
    users = np.array([2**63 - 1, -(2**63), 0, -(2**63), 2**63 - 1, 5])
    tracks = np.array([2**31 - 1, 0, 7, 0, 0, 2**31 - 1])
    times = pd.to_datetime("2019-01-01") + pd.to_timedelta(np.arange(6), unit="D")
    plays = pd.DataFrame({"user_id": users, "track_idx": tracks, "timestamp": times})
    plays.to_parquet(tmp_path / "plays.pqt")
    dates = (date(2019, 1, 1), date(2019, 1, 3), None)
    limits = {"memory": 10**9, "threads": 1}
    tables = pairs.read_pairs(pairs.PlaysTable(tmp_path / "plays.pqt"), *dates, tmp_path, **limits)
    found = pa.concat_tables(tables).to_pandas()
    assert found[["user_id", "track_idx", "count"]].to_numpy().tolist() == [
        [-(2**63), 0, 1],
        [0, 7, 1],
        [5, 2**31 - 1, 1],
        [2**63 - 1, 0, 1],
        [2**63 - 1, 2**31 - 1, 1],
    ]
    assert found.early.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda plays: plays.drop(columns="track_idx"), "but it lacks track_idx; make it with"),
        (
            lambda plays: plays.assign(user_id=pd.array([1, None], "Int64")),
            "user_id has missing values",
        ),
        (
            lambda plays: plays.assign(track_idx=["A", "B"]),
            "but track_idx is of type (large_)?string",
        ),
        (lambda plays: plays.assign(track_idx=[1, 2**31]), "track_idx runs from 1 to 2147483648"),
    ],
)
def test_plays_of_another_kind_are_an_error(tmp_path, edit, message):
    times = pd.to_datetime(["2019-01-02", "2019-01-03"])
    plays = pd.DataFrame({"user_id": [1, 2], "track_idx": [1, 2], "timestamp": times})
    path = tmp_path / "plays.pqt"
    edit(plays).to_parquet(path)
    dates = (date(2019, 1, 1), date(2019, 1, 3), None)
    with pytest.raises(InputError, match=message):
        list(pairs.read_pairs(pairs.PlaysTable(path), *dates, tmp_path, memory=10**9, threads=1))
    path.write_text("no parquet")
    with pytest.raises(InputError, match=r"plays\.pqt must be a parquet file with user_id"):
        pairs.PlaysTable(path)


def spread(values):
    return {"median": values.median(), "least": values.min(), "most": values.max()}


def test_columns_and_bytes_do_not_depend_on_memory_threads_or_the_order_of_plays(
    tmp_path, monkeypatch
):
    rng = np.random.default_rng(0)
    plays = make_plays(rng, 400_000, users=3_000, tracks=500)
    monkeypatch.setattr(large_tables, "ROW_GROUP", 50_000)
    digests = set()
    for memory, threads, order in [
        (2_000_000_000, 1, np.arange(len(plays))),
        (2_000_000_000, 4, np.arange(len(plays))[::-1]),
        (100_000_000, 2, rng.permutation(len(plays))),
    ]:
        split(
            tmp_path,
            plays.iloc[order],
            ("2019-01-01", "2019-01-20", None),
            memory=memory,
            threads=threads,
        )
        digests.add(sha256(*(tmp_path / f"{part}.pqt" for part in PARTS)))
    assert len(digests) == 1
    for part in PARTS:
        assert pq.read_schema(tmp_path / f"{part}.pqt").equals(PAIRS)
        frame = pq.read_table(tmp_path / f"{part}.pqt").to_pandas()
        assert frame.equals(frame.sort_values(["user_id", "track_idx"]))


def test_a_part_counts_the_same_however_its_pairs_come(tmp_path):
    rng = np.random.default_rng(1)
    frame = compress(make_plays(rng, 3_000, users=9, tracks=50))
    table = pa.Table.from_pandas(frame, preserve_index=False).cast(PAIRS)
    by_user = frame.groupby("user_id")["count"].agg(["size", "sum"])
    for cuts in ([], [1, 2, 100], range(1, len(table))):
        with Part(tmp_path / "part.pqt") as part:
            for start, end in zip([0, *cuts], [*cuts, len(table)], strict=True):
                part.append(table.slice(start, end - start))
        assert part.users.tolist() == by_user.index.tolist()
        assert part.tracks.tolist() == sorted(frame.track_idx.unique())
        counts = part.counts()
        assert counts["tracks_a_user"] == spread(by_user["size"])
        assert counts["plays_a_user"] == spread(by_user["sum"])
        assert pq.read_table(part.path).equals(table)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 101, 1_529])
@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("val_share", [0.5, 0.3, 0.25])
def test_who_tests_is_what_scikit_learn_draws(n, seed, val_share):
    selection = pytest.importorskip("sklearn.model_selection")
    users = np.sort(np.random.default_rng(n).choice(10**6, n, replace=False))
    testing = users_who_test(users, val_share, seed)
    if len(testing) == n:  # scikit-learn refuses an empty side
        assert n == 1 or (n, val_share) in [(2, 0.3), (3, 0.3), (2, 0.25), (3, 0.25)]
        return
    val, test = selection.train_test_split(users, test_size=1 - val_share, random_state=seed)
    assert testing.tolist() == test.tolist()


@pytest.mark.parametrize(
    ("n", "val_share", "count"), [(10, 0.7, 3), (20, 0.45, 11), (5, 0.4, 3), (7, 0.5, 4)]
)
def test_the_share_is_taken_as_a_decimal_number(n, val_share, count):
    assert len(users_who_test(np.arange(n), val_share, 0)) == count


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (("2019-02-30", "2019-03-01", None), "--train-from must be a date YYYY-MM-DD, got '2019-0"),
        (("2019-02-20", "20190301", None), "--test-from must be a date"),
        (("2019-02-20", "2020-02-20", "soon"), "--test-until must be a date"),
        (("2019-02-20", "2019-02-20", None), "--test-from 2019-02-20 must be later than --train"),
        (("2019-02-20", "2019-02-21", "2019-02-21"), "--test-until 2019-02-21 must be later"),
    ],
)
def test_wrong_dates_are_errors(dates, message):
    with pytest.raises(InputError, match=message):
        Rule.parse(*dates)


def test_a_table_file_has_the_same_bytes_however_the_rows_come(tmp_path):
    rng = np.random.default_rng(0)
    n = ROW_GROUP + 12_345
    columns = [rng.integers(0, 2**31, n) ** (1 + (name != "track_idx")) for name in PAIRS.names]
    table = pa.table(columns, names=PAIRS.names).cast(PAIRS)  # too large for one page
    whole = _write(tmp_path / "all.pqt", table, [])
    cuts = np.sort(rng.integers(0, n, 40)).tolist()
    pieces = _write(tmp_path / "pieces.pqt", table, cuts)
    assert whole.read_bytes() == pieces.read_bytes()
    assert pq.read_table(pieces).equals(table)
    assert pq.ParquetFile(pieces).metadata.row_group(0).num_rows == ROW_GROUP


def _write(path: Path, table, cuts) -> Path:
    with TableFile(path, table.schema) as file:
        for start, end in zip([0, *cuts], [*cuts, len(table)], strict=True):
            file.append(table.slice(start, end - start))
    return path


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5GiB", 1.5 * 2**30)]
)
def test_sizes_of_memory(text, size):
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["2", "GB", "2 PB", "-1GB", "299MB", "lots"])
def test_what_is_no_size_of_memory(text):
    with pytest.raises(InputError, match="--memory must be"):
        memory_bytes(text)


def read_log(path):
    log = pd.read_csv(path, sep="\t", parse_dates=["timestamp"])
    ids = pd.read_csv(path.parent / "trackid_sorted.csv").trackid
    log["track_idx"] = log.track_id.map(pd.Series(ids.index, index=ids))
    return log


@pytest.mark.skipif(not SHARED, reason="MUSIC_SHARED names no folder with the real log")
@pytest.mark.parametrize("repeated", [False, True])
def test_the_real_log(tmp_path, repeated):
    source = Path(SHARED) / "music4all" / "userid_trackid_timestamp.tsv"
    log = read_log(source)
    if repeated:  # each play one to five times, the repeats up to twenty days later
        rng = np.random.default_rng(7)
        log = log.loc[np.repeat(log.index, rng.integers(1, 6, len(log)))].reset_index(drop=True)
        again = log.duplicated(["user_id", "track_id", "timestamp"])
        later = pd.to_timedelta(rng.integers(1, 20 * 86_400, len(log)), unit="s")
        log["timestamp"] = log.timestamp.where(~again, log.timestamp + later)
        log = log.sample(frac=1, random_state=7)
        source = tmp_path / "log.tsv"
        log[["timestamp", "user_id", "track_id"]].to_csv(source, sep="\t", index=False)
    ids = pd.read_csv(Path(SHARED) / "music4all" / "trackid_sorted.csv").trackid.tolist()
    convert_log(source, tmp_path / "converted.pqt", ids, block_bytes=1 << 18)
    plays = pq.read_table(tmp_path / "converted.pqt").to_pandas()
    expected_plays = log[["user_id", "track_idx", "timestamp"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(plays, expected_plays, check_dtype=False)

    dates = ("2019-02-01", "2019-02-15", None)
    found, counts = split(tmp_path, plays, dates)
    expected = reference(log, *map(pd.Timestamp, dates[:2]))
    assert_same(found, expected)
    if not repeated:
        assert counts["train"]["rows"] == 25_030
        assert counts["val"]["rows"] + counts["test"]["rows"] == 12_069
        assert counts["val"]["users"] + counts["test"]["users"] == 1_529
    else:
        assert expected["train"]["count"].max() > 4 and expected["test"]["count"].max() > 4

    journal = {"val_share": 0.3, "cold": True}
    found, _ = split(tmp_path, plays, (*dates[:2], "2019-02-22"), **journal)
    assert_same(found, reference(log, *map(pd.Timestamp, (*dates[:2], "2019-02-22")), **journal))
    assert all(len(frame) > 100 for frame in found.values())
