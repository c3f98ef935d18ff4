"""Logs and times that are not as asked for: a line that names what is wrong, no wrong number."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stages import STAGE_0, STAGE_1, call

from core.options import InputError
from core.users import original_users
from listening_log.lookup import KnownIds
from listening_log.parser import PLAYS, ParsedBlock, TableParser
from listening_log.readers import Reader
from listening_log.shapes import shape_of
from listening_log.times import TimeReader

USERS, TRACKS, SECONDS = pa.array([1, 2, 3]), pa.array(["A", "B", "C"]), [1549000000, 1, 2]
DATES = pa.array([datetime.datetime(2019, 1, day) for day in (1, 2, 3)])
CSV = "user_id,track_id,timestamp\n1,A,2019-01-01 00:00:00\n"


def table(times=DATES, **columns):
    return pa.table({"user_id": USERS, "track_id": TRACKS, "timestamp": times, **columns})


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (table(pa.array([1549000000] * 3)), ["--time-format", "iso"], "like seconds since 1970"),
        (table(pa.array([1549000000.0] * 3)), ["--time-format", "iso"], "like seconds since 1970"),
        (table(pa.array([1549 * 10**15] * 3)), [], "expected YYYY.*, got '1549000000000000000'"),
        (table(), ["--time-format", "s"], r"timestamp is a column of timestamp\[us\], but times"),
        (table(), ["--time-format", "relative"], "but times are taken as seconds since a day"),
        (table(pa.array([-(10**17)] * 3).cast(pa.timestamp("us"))), [], "got '-1199-02-15"),
        (table(pa.array([2**60] * 3).cast(pa.timestamp("ms"))), [], "3 bad timestamp"),
        (
            pa.Table.from_arrays([USERS, TRACKS, DATES, USERS], ["u", "t", "at", "u"]),
            ["--columns", "user=1,track=2,time=3"],
            "u stands twice; rename one",
        ),
        (CSV, ["--columns", "track=user_id"], "user and track are both column 1; give each"),
        (CSV, ["--columns", "user=1"], None),
        (CSV, ["--columns", "time=2"], "track and time are both column 2"),
        (table(), ["--columns", "track=1"], "user and track are both column 1"),
        (CSV, ["--columns", "name=+"], "--columns takes"),
        (CSV.replace("2019-01-01 00:00:00", "1549000000"), ["--time-zone", "UTC"], "for written"),
        (CSV.replace("2019", "0001"), ["--time-zone", "Europe/Vienna"], "1 bad timestamp"),
    ],
)
def test_what_is_not_as_asked_for_is_named(tmp_path, content, flags, message):
    if isinstance(content, str):
        (tmp_path / "log").write_text(content)
    else:
        pq.write_table(content, tmp_path / "log")
    if message is None:
        call(STAGE_0, tmp_path, "--log", tmp_path / "log", *flags)
        return
    with pytest.raises(InputError, match=message):
        call(STAGE_0, tmp_path, "--log", tmp_path / "log", *flags)
    assert not (tmp_path / "data" / "plays.pqt").exists()


def test_parts_of_several_kinds_of_time_are_not_mixed(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    pq.write_table(table(pa.array([1, 2, 3])), log / "0.parquet")
    pq.write_table(table(), log / "1.parquet")
    with pytest.raises(InputError, match=r"1\.parquet: timestamp is a column of timestamp"):
        call(STAGE_0, tmp_path, "--log", log)
    (log / "1.parquet").unlink()
    (log / "day=2").mkdir()
    with pytest.raises(InputError, match="a folder of parts alone: day=2 in it is no file"):
        call(STAGE_0, tmp_path, "--log", log)


def floats(kind):
    """Floating times, most of them right, with more digits than microseconds have."""
    low, high = (0, 6e8) if kind == "relative" else (7e8, 4e9)
    scale = {"ms": 1e3, "us": 1e6}.get(kind, 1.0)
    right = st.floats(low * scale, high * scale)
    return st.tuples(st.just(kind), right | st.none() | st.sampled_from([-1.0, 1e17, np.nan, -0.0]))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["s", "ms", "us", "relative", "iso"]).flatmap(floats),
    st.floats() | st.none() | st.sampled_from([200 / 3, 50.0, 49.99999999999999, 1e-9]),
    st.sampled_from([pa.float32(), pa.float64()]),
)
def test_floating_numbers_are_read_at_once_exactly_as_alone(time, played, width):
    kind, when = time
    columns = {"user 0": [1], "track 0": ["A"], "time 0": pa.array([when], width)}
    rows = pa.table(columns | {"played 0": pa.array([played], width)})
    rows = rows.set_column(1, "track 0", rows["track 0"].cast(pa.binary()))
    shape = shape_of("onion", ("played=p",), min_played=50)

    def parser():
        return TableParser(Reader(shape, kind, False), KnownIds(["A"]), None)

    alone = ParsedBlock(PLAYS.empty_table())
    expected, parsed = parser()._parse_by_line(rows, alone), parser().parse(rows)
    try:
        at_once = parser()._parse_at_once(rows, ParsedBlock(PLAYS.empty_table()))
    except Exception as error:
        assert type(error).__name__ == "FaultyBlock" and (alone.rejected.total or alone.left_out)
    else:
        assert at_once.equals(expected) and not alone.rejected.total
    assert parsed.plays.equals(expected) and parsed.left_out == alone.left_out


def test_a_floating_time_is_the_nearest_microsecond_alone_too():
    reader = TimeReader("s")
    (text,) = reader.texts(pa.array([1549000000.1234567]))
    assert reader.field(text) == 1549000000123457


def test_auto_takes_floating_numbers_with_any_fraction(tmp_path, capsys):
    pq.write_table(table(pa.array([1549000000.1234567] * 3)), tmp_path / "log")
    call(STAGE_0, tmp_path, "--log", tmp_path / "log")
    assert "times     seconds since 1970" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("written", "in_utc"),
    [
        ("2019-10-27 02:30:00", "2019-10-27 00:30:00"),  # twice: the first, of summer
        ("2019-03-31 02:30:00", "2019-03-31 01:00:00"),  # never: the end of the hour left out
        ("2019-07-01 12:00:00", "2019-07-01 10:00:00"),
    ],
)
def test_hours_that_a_zone_has_twice_or_never_are_as_the_page_says(written, in_utc):
    reader, field = TimeReader("iso", "Europe/Vienna"), written.encode()
    micros = int(np.datetime64(in_utc, "us").astype(np.int64))
    assert reader.field(field) == micros
    dates = pa.array([np.datetime64(written, "us")])
    for column in (pa.array([field]), dates):
        assert reader.column(column).cast(pa.int64()).to_pylist() == [micros]


@pytest.fixture
def split_root(tmp_path):
    rng = np.random.default_rng(0)
    n = 400
    at = pd.Timestamp("2019-01-01") + pd.to_timedelta(np.arange(n) * 6, unit="h")
    frame = pd.DataFrame({"user_id": rng.integers(0, 12, n), "track_id": "x", "timestamp": at})
    frame["track_id"] = [f"T{rng.integers(0, 5 + i // 20)}" for i in range(n)]
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    root = tmp_path / "own"
    call(STAGE_0, root, "--log", tmp_path / "log.parquet")
    return root


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--test-last", "99999999999d"], "--test-last 99999999999d reach beyond the years"),
        (["--test-last", "9999999d"], "reach beyond the years 1 to 9999"),
        (["--test-last", "10d", "--train-last", "9999999d"], "--train-last 9999999d, --test-last"),
        (["--test-last", "10d", "--gap", "9" * 30 + "d"], "beyond the years 1 to 9999"),
        (["--test-last", "\u0661d"], "--test-last must be a length as"),
        (["--protocol", "yambda"], "tests from second 25913600 of its log, but .* tells dates"),
    ],
)
def test_times_beyond_the_calendar_are_named(split_root, flags, message):
    with pytest.raises(InputError, match=message):
        call(STAGE_1, split_root, *flags)


def test_a_root_may_hold_what_patterns_are_made_of_but_no_backslash(split_root):
    odd = split_root.rename(split_root.with_name("it's [1]*"))
    call(STAGE_1, odd, "--test-last", "20d", "--gap", "1h")
    call(STAGE_1, odd, "--check")
    odd = odd.rename(odd.with_name("back\\slash"))
    for flags in (["--overwrite", "--test-last", "20d"], ["--check"]):
        with pytest.raises(InputError, match="holds a backslash, which DuckDB takes for a slash"):
            call(STAGE_1, odd, *flags)


def test_the_audit_compares_every_file_that_the_split_tells_of(split_root):
    call(STAGE_1, split_root, "--test-last", "20d", "--val-last", "10d", "--seen", "keep")
    call(STAGE_1, split_root, "--check")
    path = split_root / "data" / "held_out.pqt"
    pd.read_parquet(path).iloc[1:].to_parquet(path, index=False)
    with pytest.raises(InputError, match="1 of .* checks found faults"):
        call(STAGE_1, split_root, "--check")


def test_users_of_other_plays_than_the_splits_are_not_named(tmp_path):
    at = pd.date_range("2019-01-01", periods=300, freq="6h").astype(str)
    rows = [f"u{i % 9},T{i * i % (5 + i // 20)},{time},{i % 9}" for i, time in enumerate(at)]
    (tmp_path / "log.csv").write_text("user_id,track_id,timestamp,p\n" + "\n".join(rows) + "\n")
    flags = ("--log", tmp_path / "log.csv", "--users", "text")
    call(STAGE_0, tmp_path, *flags)
    call(STAGE_1, tmp_path, "--test-last", "20d")
    assert original_users(tmp_path, [0, 8]).tolist() == ["u0", "u8"]
    played = ("--columns", "played=p", "--min-played", "2", "--overwrite")
    call(STAGE_0, tmp_path, *flags, *played)
    with pytest.raises(InputError, match=r"users.pqt was made after .*split.json, of other plays"):
        original_users(tmp_path, [0])
    call(STAGE_1, tmp_path, "--test-last", "20d", "--overwrite")
    assert original_users(tmp_path, [0]).tolist() == ["u2"]


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_audit_names_a_row_that_the_plays_do_not_hold(split_root, capsys, part):
    call(STAGE_1, split_root, "--test-last", "20d", "--gap", "1h")
    path = split_root / "data" / f"{part}.pqt"
    frame, plays = pd.read_parquet(path), pd.read_parquet(split_root / "data" / "plays.pqt")
    known = set(zip(plays.user_id, plays.track_idx, strict=True))
    tracks = pd.read_parquet(split_root / "data" / "train.pqt").track_idx.unique()
    user, track = next((u, t) for u in frame.user_id for t in tracks if (u, t) not in known)
    made_up = frame.iloc[:1].assign(user_id=user, track_idx=np.int32(track))
    frame = pd.concat([frame, made_up]).sort_values(["user_id", "track_idx"])
    frame.to_parquet(path, index=False)
    with pytest.raises(InputError, match="checks found faults"):
        call(STAGE_1, split_root, "--check")
    said = capsys.readouterr().out
    assert f"FAULT  1 rows of {part} that plays.pqt contradicts" in said
    assert f"ok     no pairs of plays.pqt that {part} lacks" in said


def test_a_kill_leaves_no_plays_beside_the_names_of_other_users(tmp_path):
    (tmp_path / "log.csv").write_text(CSV)
    flags = ("--log", tmp_path / "log.csv", "--users", "text")
    call(STAGE_0, tmp_path, *flags)
    (tmp_path / "log.csv").write_text(CSV.replace("\n1,", "\nanother,"))

    def killed(root, ids):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(STAGE_0, tmp_path, *flags, "--overwrite", write_users=killed)
    assert not (tmp_path / "data" / "plays.pqt").exists()
    call(STAGE_0, tmp_path, *flags)
    assert pd.read_parquet(tmp_path / "data" / "users.pqt").user.tolist() == ["another"]
