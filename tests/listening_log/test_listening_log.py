"""The log's fields and blocks: two ways of reading that agree, and nothing read wrongly."""

import bz2
import gzip
import string

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.options import InputError
from listening_log import log_blocks, sources
from listening_log import parser as log_parser
from listening_log.fields import read_fields, read_timestamps, read_users
from listening_log.lookup import FaultyId, GrowingIds, KnownIds, WordTable
from listening_log.parser import PLAYS, FaultyBlock, LogParser, ParsedBlock
from listening_log.plays import convert_log, renumber

HEADER = b"user_id\ttrack_id\ttimestamp\n"
IDS = ["A", "a", "b-7", "Ä"]
ROW = b"5\tA\t2019-02-01 00:01:09\n"


def parser(ids=IDS):
    return LogParser("log", HEADER, GrowingIds() if ids is None else KnownIds(ids))


def micros(text):
    return int(np.datetime64(text, "us").astype(np.int64))


def convert(tmp_path, content, ids=IDS, block=1 << 20):
    """Return (the plays as a frame, the Conversion) of a log with this content."""
    log, target = tmp_path / "log.tsv", tmp_path / "plays.pqt"
    log.write_bytes(content)
    found = convert_log(log, target, ids, block_bytes=block)
    return pq.read_table(target).to_pandas(), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2019-02-01 00:01:09", "2019-02-01 00:01:09"),
        ("2019-02-01T00:01:09", "2019-02-01 00:01:09"),
        ("1969-12-31 23:59:59", "1969-12-31 23:59:59"),
        ("0001-01-01 00:00:00", None),  # pandas cannot say it; see the next test
        ("2019-02-01 00:01:09.5", "2019-02-01 00:01:09.5"),
        ("2019-02-01 00:01:09.123456", "2019-02-01 00:01:09.123456"),
        ("2019-02-01 00:01:09Z", "2019-02-01 00:01:09"),
        ("2019-02-01 00:01:09+01:00", "2019-01-31 23:01:09"),
        ("2019-02-01 00:01:09.25-0130", "2019-02-01 01:31:09.25"),
        ("2019-02-01 00:01:09-08", "2019-02-01 08:01:09"),
    ],
)
def test_timestamps_are_read_as_utc(text, expected):
    user, track, found = read_fields([b"1", b"A", text.encode()], any_id=False)
    column = read_timestamps(pa.array([text.encode()], pa.binary())).cast(pa.int64())
    assert column.to_pylist() == [found]
    if expected:
        assert found == micros(expected)


def test_the_first_and_last_timestamp_that_can_be_read():
    for text, value in [
        ("0001-01-01 00:00:00", "0001-01-01T00:00:00"),
        ("9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999"),
    ]:
        assert read_fields([b"1", b"A", text.encode()], any_id=False)[2] == micros(value)


@pytest.mark.parametrize(
    "text",
    [
        "2019-02-30 00:00:00",
        "2019-02-01",
        "2019-02-01 00:01",
        "2019-02-01 24:00:00",
        "2019-02-01 00:01:60",
        "2019-02-01 00:01:09.",
        "2019-02-01 00:01:09.1234567",
        "2019-02-01 00:01:09 ",
        " 2019-02-01 00:01:09",
        "2019-02-01 10:11+01:00",
        "2019-02-01 00+01:09",
        "2019-02-01 00:01:09-08:",
        "0000-01-01 00:00:00",
        "9999-12-31 23:59:59-01:00",
        "2019-02-01 00:01:09+24:00",
        "1549000000",
        "01/02/2019 00:01:09",
        "",
    ],
)
def test_what_is_no_timestamp_is_refused_both_ways(text):
    assert read_fields([b"1", b"A", text.encode()], any_id=False) == "bad timestamp"
    with pytest.raises(pa.ArrowInvalid):
        read_timestamps(pa.array([text.encode()], pa.binary()))


@pytest.mark.parametrize("user", [0, -3, 2**31, 2**63 - 1, -(2**63)])
def test_user_ids_of_64_bits(user):
    text = str(user).encode()
    assert read_fields([text, b"A", b"2019-02-01 00:01:09"], any_id=False)[0] == user
    assert read_users(pa.array([text], pa.binary())).to_pylist() == [user]


@pytest.mark.parametrize(
    "text",
    ["", "-", "+5", " 5", "5 ", "0x1F", "1e3", "5.0", str(2**63), "\u0663", "five", "5-5"]
    + ["001", "00", "-0", "-07", "0-7"],  # those that would be merged with 1, 0, -7 too
)
def test_what_is_no_user_id_is_refused_both_ways(text):
    fields = [text.encode(), b"A", b"2019-02-01 00:01:09"]
    assert read_fields(fields, any_id=False) == "bad user id"
    with pytest.raises(pa.ArrowInvalid):
        read_users(pa.array([text.encode()], pa.binary()))


def test_a_slice_of_a_column_is_read_as_such():
    column = pa.array([b"x", b"12", b"34", b"y"], pa.binary()).slice(1, 2)
    assert read_users(column).to_pylist() == [12, 34]


odd = st.sampled_from(list("\t\n\r\0 \"',.:;-+TZ0x9") + ["\ufeff", "Ä", "\u2028"])
valid_line = st.tuples(
    st.integers(-(2**64), 2**64).map(str) | st.integers(0, 99).map(str),
    st.sampled_from([*IDS, "unknown"]),
    st.datetimes().map(str)
    | st.datetimes().map(lambda t: str(t.replace(microsecond=0)) + "+02:00"),
).map("\t".join)


@st.composite
def broken_line(draw):
    """A line with one character put in, replaced or taken out."""
    line = draw(valid_line)
    at = draw(st.integers(0, len(line)))
    return line[:at] + draw(odd | st.just("")) + line[at + draw(st.integers(0, 1)) :]


near_times = st.sampled_from(
    [
        *("2019-02-01 00:01:09", "2019-02-01T23:59:59.123456", "1969-12-31 23:59:59Z"),
        *("2019-02-01 00:01:09.25-0130", "2019-02-01 00:01:09-08", "0001-01-01 00:00:00"),
    ]
)


@st.composite
def neighbour(draw, texts, letters):
    """A text with up to three characters put in, replaced or taken out."""
    text = draw(texts)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        new = draw(st.sampled_from(letters) | st.just(""))
        text = text[:at] + new + text[at + draw(st.integers(0, 1)) :]
    return text


@settings(max_examples=600, deadline=None)
@given(st.lists(neighbour(near_times, "0123456789-+:TZ. tz"), min_size=1, max_size=3))
def test_both_readers_take_the_same_timestamps(texts):
    """Alone exactly the same; of a column that is read at once every value as it is alone."""
    alone = [read_fields([b"1", b"A", text.encode()], any_id=False) for text in texts]
    expected = [None if isinstance(found, str) else found[2] for found in alone]
    try:
        column = read_timestamps(pa.array([t.encode() for t in texts], pa.binary()))
    except pa.ArrowInvalid:
        assert None in expected or len(texts) > 1  # a mixture of zones is read by line
    else:
        assert column.cast(pa.int64()).to_pylist() == expected


@settings(max_examples=500, deadline=None)
@given(neighbour(st.integers(-(2**64), 2**64).map(str) | st.just("7"), "0019-+ x"))
def test_both_readers_take_the_same_user_ids(text):
    alone = read_fields([text.encode(), b"A", b"2019-02-01 00:01:09"], any_id=False)
    try:
        found = read_users(pa.array([text.encode()], pa.binary())).to_pylist()
    except pa.ArrowInvalid:
        assert alone == "bad user id"
    else:
        assert found == [alone[0]] and str(alone[0]) == text


def empty():
    return ParsedBlock(PLAYS.empty_table())


@settings(max_examples=400, deadline=None)
@given(broken_line(), st.booleans())
def test_a_line_is_read_at_once_exactly_when_it_can_be_read_alone(line, any_id):
    block = line.encode() + b"\n"
    ids = None if any_id else IDS
    alone, at_once = empty(), empty()
    expected = parser(ids)._parse_by_line(block, alone)
    usable = alone.rejected.total == alone.rejected.counts["unknown track"] and alone.rows == 1
    try:
        found = parser(ids)._parse_at_once(block, at_once)
    except (FaultyBlock, FaultyId):
        # More than one line, or an empty one, is not taken at once either; that costs only time.
        assert not usable or block.count(b"\n") > 1
    else:
        assert found.equals(expected)
        assert at_once.rejected == alone.rejected
        assert (at_once.lines, at_once.rows) == (alone.lines, alone.rows)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(valid_line | broken_line(), max_size=30),
    st.sampled_from([1, 7, 64, 1 << 20]),
    st.sampled_from([1, 200, 1 << 16]),
)
def test_the_size_of_blocks_changes_nothing(tmp_path_factory, lines, block, alone):
    folder = tmp_path_factory.mktemp("log")
    content = HEADER + "\n".join(lines).encode()
    frame, found = convert(folder, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_parser, "ALONE", alone)
        again, same = convert(folder, content, block=block)
    pd.testing.assert_frame_equal(frame, again)
    assert (found.rejected, found.lines, found.rows) == (same.rejected, same.lines, same.rows)
    assert found.lines == found.rows + found.rejected.total


def test_rejected_lines_are_counted_by_reason_with_their_numbers(tmp_path):
    content = HEADER + ROW * 2 + b"1\tA\n" + b"x\tA\t2019-02-01 00:01:09\n" + b"\n" + ROW
    content += b"1\tA\tnow\n1\tzz\t2019-02-01 00:01:09\n1\tA\t\xff\n1\t\xff\t2019-02-01 00:01:09\n"
    frame, found = convert(tmp_path, content + b"a\tb\tc\td\n" * 7)
    assert found.rejected.counts == {
        "malformed": 8,
        "bad user id": 1,
        "bad timestamp": 2,
        "unknown track": 2,
    }
    assert found.rejected.lines == {
        "malformed": [4, 12, 13, 14, 15],
        "bad user id": [5],
        "bad timestamp": [8, 10],
        "unknown track": [9, 11],
    }
    assert "8 malformed (line 4, 12, 13, 14, 15, ...)" in str(found.rejected)
    assert (found.lines, found.rows, len(frame)) == (16, 3, 3)


def test_columns_are_found_by_name_and_others_ignored(tmp_path):
    content = b"timestamp\t\tuser_id\t\ttrack_id\n2019-02-01 00:01:09\t?\t7\t\tb-7\n"
    frame, found = convert(tmp_path, content)
    assert frame.to_numpy().tolist() == [[7, 2, pd.Timestamp("2019-02-01 00:01:09")]]
    assert list(map(str, frame.dtypes)) == ["int64", "int32", "datetime64[us]"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"user_id\ttimestamp\n", "track_id stands nowhere in it; got 'user_id\\\\ttimestamp'"),
        (b"user_id\tuser_id\ttrack_id\ttimestamp\n", "user_id stands twice"),
        (b"21049\t8kPgg9eHU6jnbVsM\t2019-02-01 00:01:09\n", "user_id stands nowhere"),
        (b'"user_id"\t"track_id"\t"timestamp"\n', "user_id stands nowhere"),
        (b"user_id:track_id:timestamp\n", "user_id stands nowhere"),
    ],
)
def test_a_wrong_header_is_an_error_that_names_the_column(tmp_path, header, message):
    with pytest.raises(InputError, match=message):
        convert(tmp_path, header + ROW)


def test_byte_order_mark_and_windows_line_ends_are_no_part_of_the_fields(tmp_path):
    content = b"\xef\xbb\xbf" + (HEADER + ROW * 3).replace(b"\n", b"\r\n")
    frame, found = convert(tmp_path, content.removesuffix(b"\n"))
    assert (len(frame), found.rejected.total) == (3, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"5\tA\0\t2019-02-01 00:01:09\n", "malformed"),
        (b'5\t"A"\t2019-02-01 00:01:09\n', "unknown track"),
        (b'5\t"A\t2019-02-01 00:01:09\n', "unknown track"),
        (b'"5"\tA\t2019-02-01 00:01:09\n', "bad user id"),
        (b"5\t" + b"A" * (1 << 20) + b"\t2019-02-01 00:01:09\n", "unknown track"),
        (b"5" * (1 << 20) + b"\tA\t2019-02-01 00:01:09\n", "bad user id"),
        (b"5\tA\t2019-02-01 00:01:09\r\r\n", "malformed"),
        (b"5\tA\rB\t2019-02-01 00:01:09\n", "malformed"),
    ],
)
def test_strange_lines_are_rejected_and_their_neighbours_kept(tmp_path, line, reason):
    frame, found = convert(tmp_path, HEADER + ROW * 5 + line + ROW * 4, block=1 << 18)
    assert (len(frame), found.rejected.total) == (9, 1)
    assert found.rejected.lines[reason] == [7]


def test_a_line_without_end_is_another_kind_of_file(tmp_path, monkeypatch):
    monkeypatch.setattr(log_blocks, "LONGEST", 1 << 16)
    with pytest.raises(InputError, match="has a line of more than"):
        convert(tmp_path, HEADER + b"5" * (1 << 18), block=1 << 12)


def test_a_log_of_another_kind_is_not_read_to_its_end(tmp_path):
    """It stops when even a log whose other rows are all right would have too many wrong ones."""
    log = tmp_path / "log.tsv"

    def lines_read(content):
        log.write_bytes(content)
        options = {"block_bytes": 1 << 14, "max_rejected": 0.01}
        return convert_log(log, tmp_path / "p.pqt", IDS, **options).lines

    wrong, right = b"1\tA\t01.02.2019 00:01:09\n", b"1\tA\t2019-02-01 00:01:09\n"
    assert len(right) == sources.SHORTEST_ROW
    assert 1_000 < lines_read(HEADER + wrong * 100_000) < 10_000
    allowed = HEADER + wrong * 1_000 + right * 99_000
    assert lines_read(allowed) == 100_000
    assert lines_read(gzip.compress(allowed)) == 100_000


@pytest.mark.parametrize("start", [b"\xff\xfeu\0", b"PK\x03\x04", b"\xfd7zXZ\0", b"PAR1"])
def test_other_kinds_of_files_are_named(tmp_path, start):
    with pytest.raises(InputError, match="is (UTF-16|a zip|an xz|a parquet)"):
        convert(tmp_path, start + HEADER)


def pack_zstd(content):
    return pa.Codec("zstd").compress(content, asbytes=True)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, pack_zstd])
def test_packed_logs_hold_the_same_plays(tmp_path, pack):
    content = HEADER + b"".join(
        b"%d\tA\t2019-02-01 00:%02d:09\n" % (i, i % 60) for i in range(20_000)
    )
    plain, _ = convert(tmp_path, content, block=1 << 16)
    packed, _ = convert(tmp_path, pack(content[:70_001]) + pack(content[70_001:]), block=1 << 16)
    pd.testing.assert_frame_equal(plain, packed)
    assert len(plain) == 20_000
    assert convert(tmp_path, pack(b"") + pack(HEADER) + pack(b"") + pack(ROW))[1].rows == 1
    whole = pack(content)
    for end in (len(whole) // 2, len(whole) - 1):
        with pytest.raises(InputError, match="damaged or cut short"):
            convert(tmp_path, whole[:end])
    if pack is pack_zstd:
        return  # Arrow writes no checksum
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    with pytest.raises(InputError, match="damaged or cut short"):
        convert(tmp_path, bytes(flipped))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, pack_zstd])
def test_progress_ends_at_the_size_of_the_file(tmp_path, pack):
    log = tmp_path / "log"
    log.write_bytes(pack(HEADER + ROW * 50_000))
    positions = []
    convert_log(log, tmp_path / "p.pqt", IDS, block_bytes=1 << 16, progress=positions.append)
    assert positions == sorted(positions) and len(positions) > 10
    assert log.stat().st_size - 16 <= positions[-1] <= log.stat().st_size


def test_without_ids_the_log_gives_them_in_code_point_order(tmp_path):
    tracks = ["b", "a", "Z", "Ä", "a", "\U0001f3b5", "\uffee", "b"]
    lines = "".join(f"{u}\t{t}\t2019-02-01 00:01:09\n" for u, t in enumerate(tracks))
    lines += "1\t\t2019-02-01 00:01:09\n2\ta,b\t2019-02-01 00:01:09\n3\tlost\tnever\n"
    frame, found = convert(tmp_path, HEADER + lines.encode(), ids=None)
    assert found.rejected.counts["malformed"] == 2  # what cannot be an id is no new id
    assert [found.ids[number] for number in frame.track_idx] == tracks

    ids = renumber(tmp_path / "plays.pqt", tmp_path / "renumbered.pqt", found.ids)
    assert ids == sorted(set(tracks))
    again = pq.read_table(tmp_path / "renumbered.pqt").to_pandas()
    assert [ids[i] for i in again.track_idx] == tracks
    assert again.user_id.tolist() == list(range(len(tracks)))


@pytest.mark.parametrize("n", [1, 2, 300, 20_000])
def test_ids_of_two_words_are_found_like_any_others(n):
    """Ids of 16 bytes have a table of their own; Arrow's look-up is the truth."""
    rng = np.random.default_rng(n)
    letters = np.frombuffer(b"abAB", "S1")  # few letters, so that ids share words and slots
    ids = np.unique(rng.choice(letters, (n, 16)).view("S16").ravel())
    known = KnownIds([track_id.decode() for track_id in ids])
    sought = rng.choice(letters, (n, 16)).view("S16").ravel()
    sought = rng.permutation(np.concatenate([ids, sought, ids[::-1]]))
    column = pa.array(sought.tolist(), pa.binary())
    expected = pc.index_in(column, known.values)
    assert known.number(column).equals(expected)
    assert known.number(column.slice(1, n)).equals(expected.slice(1, n))
    mixed = pa.array([b"short", *sought.tolist(), b""], pa.binary())
    assert known.number(mixed).equals(pc.index_in(mixed, known.values))
    assert n < 20_000 or 0 < expected.null_count < len(sought)


def test_ids_that_share_a_slot_are_told_apart(monkeypatch):
    monkeypatch.setattr(WordTable, "_slot", lambda self, words: words[:, 0] & np.uint64(3))
    ids = sorted(f"{i:016d}" for i in range(200))
    column = pa.array([f"{i:016d}".encode() for i in range(0, 400, 3)], pa.binary())
    expected = [ids.index(f"{i:016d}") if i < 200 else None for i in range(0, 400, 3)]
    assert KnownIds(ids).number(column).to_pylist() == expected


def test_counts_of_a_conversion(tmp_path):
    rng = np.random.default_rng(0)
    users, tracks = rng.integers(0, 50, 3_000), rng.integers(0, 26, 3_000)
    ids = list(string.ascii_lowercase) + ["~never played"]
    lines = [
        f"{u}\t{ids[t]}\t2019-02-{1 + u % 28:02d} 00:00:00\n"
        for u, t in zip(users, tracks, strict=True)
    ]
    frame, found = convert(tmp_path, HEADER + "".join(lines).encode(), ids=ids, block=5_000)
    assert (frame.user_id == users).all() and (frame.track_idx == tracks).all()
    assert (found.rows, found.users, found.tracks) == (3_000, 50, 26)
    assert (found.first, found.last) == ("2019-02-01 00:00:00", "2019-02-28 00:00:00")
