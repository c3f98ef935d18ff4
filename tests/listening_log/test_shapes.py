"""Logs of any shape: the same plays end in the same bytes, and both ways of reading agree."""

import bz2
import gzip
import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stages import STAGE_0, call

from core.options import InputError
from core.users import original_users
from listening_log.lookup import FaultyId, GrowingIds, KnownIds
from listening_log.parser import PLAYS, FaultyBlock, LogParser, ParsedBlock, TableParser
from listening_log.plays import convert_log, renumber
from listening_log.readers import Reader
from listening_log.shapes import Layout, Shape, shape_of, split_line
from listening_log.sources import ParquetSource
from listening_log.split_plays import Rule, split_plays
from listening_log.times import NAMES, TimeReader, guess

RULE = Rule.parse("2019-01-03", "2019-01-12", "2019-01-28", val_share=0.5)
START = pd.Timestamp("2019-01-01")
OWN = {"user": "who", "track": "song", "time": "at"}


def make_plays(seed, n=240, users=10, tracks=12):
    """Return plays of users 0, 1, ... who all have some, of tracks "100", "101", ..."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user": np.concatenate([np.arange(users), rng.integers(0, users, n - users)]),
            "track": np.array([str(100 + t) for t in rng.integers(0, tracks, n)]),
            "seconds": rng.integers(0, 27 * 86_400, n),
        }
    )
    return frame.assign(time=START + pd.to_timedelta(frame.seconds, unit="s"))


def text(frame, names, separator, header=True, quote=False):
    """Return the columns of a frame as a text, with other columns around those that count."""
    mark = '"' if quote else ""
    lines = [names] if header else []
    lines += [[str(value) for value in row] for row in frame[list(names)].itertuples(index=False)]
    return "".join(separator.join(f"{mark}{v}{mark}" for v in line) + "\n" for line in lines)


def epoch(frame, unit):
    return (frame.time.to_numpy().astype(f"datetime64[{unit}]")).astype(np.int64)


def shapes(folder, frame):
    """Write the plays in every shape; yield (name, path, shape)."""
    own = frame.rename(columns={"user": "who", "track": "song", "time": "at"})
    own["other"] = 'a, "b"'.replace('"', "'")
    iso = own.assign(at=own["at"].astype(str))
    named = shape_of("onion", ("user=who", "track=song", "time=at"))
    numbered = shape_of("onion", ("user=3", "track=1", "time=2"))

    def write(name, content, shape=named, pack=bytes):
        (folder / name).write_bytes(pack(content.encode()))
        return name, folder / name, shape

    def write_table(name, table, shape=named):
        pq.write_table(table, folder / name, row_group_size=50)
        return name, folder / name, shape

    names = ("who", "song", "at")
    onion = iso.rename(columns={"who": "user_id", "song": "track_id", "at": "timestamp"})
    yield write("onion.tsv", text(onion, ("user_id", "track_id", "timestamp"), "\t"), Shape())
    yield write("more.tsv.gz", text(iso, ("other", "at", "song", "who"), "\t"), pack=gzip.compress)
    quoted = iso.assign(other='a ""quoted"", comma')
    yield write("quoted.csv", text(quoted, (*names, "other"), ",", quote=True))
    windows = text(iso, names, ",").replace("\n", "\r\n")
    yield write("windows.csv", "\ufeff" + windows)
    bare = text(iso, ("song", "at", "who"), ",", header=False)
    yield write("bare.csv", "\ufeff" + bare, numbered)
    yield write(
        "seconds.ssv",
        text(own.assign(at=epoch(own.rename(columns={"at": "time"}), "s")), names, ";"),
    )
    frame_of = own.rename(columns={"at": "time"})
    yield write(
        "ms.psv.bz2", text(own.assign(at=epoch(frame_of, "ms")), names, "|"), pack=bz2.compress
    )
    yield write("us.tsv", text(own.assign(at=epoch(frame_of, "us")), names, "\t"))
    floats = own.assign(at=[f"{s}.0" for s in epoch(frame_of, "s")])
    yield write("floats.csv", text(floats, names, ","))
    vienna = own.assign(at=(own["at"] + pd.Timedelta(hours=1)).astype(str))  # no summer in January
    zone = shape_of("onion", ("user=who", "track=song", "time=at"), time_zone="Europe/Vienna")
    yield write("vienna.csv", text(vienna, names, ","), zone)
    told = own.assign(at=(own["at"] - pd.Timedelta(hours=5)).astype(str) + "-05:00")
    yield write("offset.csv", text(told, names, ","), zone)
    people = iso.assign(who=[f"user_{u:06d}" for u in own.who])
    by_text = shape_of("onion", ("user=who", "track=song", "time=at"), users="text")
    yield write("people.csv", text(people, names, ","), by_text)
    last = iso.assign(
        who=people.who, at=iso["at"].str.replace(" ", "T") + "Z", a="", artist="x, y", t="t"
    )
    columns = ("who", "at", "a", "artist", "song", "t")
    yield write("lastfm.tsv", text(last, columns, "\t", header=False), shape_of("lastfm1k"))
    skipped = own.assign(song="999", played=[0, 49.5][0])
    played = pd.concat([own.assign(played=50), skipped.assign(played=49.5)]).sort_index(
        kind="stable"
    )
    asked = shape_of("onion", ("user=who", "track=song", "time=at", "played=played"), min_played=50)
    yield write(
        "played.tsv",
        text(played.assign(at=played["at"].astype(str)), (*names, "played"), "\t"),
        asked,
    )

    arrow = pa.table({"who": own.who, "song": own.song.astype(int), "at": own["at"]})
    yield write_table("typed.parquet", arrow)
    zoned = own["at"].dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    ns = pa.array(zoned).cast(pa.timestamp("ns", "America/New_York"))
    songs = pa.array(own.song.astype(str)).dictionary_encode()
    people_table = pa.table(
        {"who": pa.array(people.who, pa.large_string()), "song": songs, "at": ns}
    )
    yield write_table("strings.parquet", people_table, by_text)
    seconds = pa.array(epoch(frame_of, "s"), pa.uint32())
    small = pa.table(
        {"who": own.who.astype(np.uint32), "song": own.song.astype(np.uint32), "at": seconds}
    )
    yield write_table("seconds.parquet", small)
    doubles = pa.table(
        {"who": own.who, "song": own.song, "at": pa.array(epoch(frame_of, "s") + 0.0)}
    )
    yield write_table("doubles.parquet", doubles)
    for kind in ("csv", "parquet"):
        parts = folder / f"parts-{kind}"
        parts.mkdir()
        (parts / "_SUCCESS").touch()
        for number, start in enumerate(range(0, len(own), 100)):
            piece = slice(start, start + 100)
            if kind == "csv":
                content = text(iso[piece], names if number % 2 else names[::-1], ",")
                (parts / f"part-{number}.csv").write_text(content)
            else:
                pq.write_table(arrow.slice(start, 100), parts / f"part-{number}.parquet")
        yield parts.name, parts, named


def parts_of(folder, path, shape, rule=RULE):
    """Return (rejected, left out, sha256 of every part) of a log read in a shape."""
    found = convert_log(path, folder / "found.pqt", None, block_bytes=1 << 11, shape=shape)
    ids = renumber(folder / "found.pqt", folder / "plays.pqt", found.ids, found.user_ids)
    targets = {part: folder / f"{part}.pqt" for part in rule.parts}
    (folder / "scratch").mkdir(exist_ok=True)
    split_plays(folder / "plays.pqt", rule, targets, folder / "scratch", memory=10**9, threads=1)
    digests = {p: hashlib.sha256(t.read_bytes()).hexdigest() for p, t in targets.items()}
    return found, ids, digests


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_same_plays_in_twenty_shapes_give_the_same_bytes(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("log")
    frame, expected, n = make_plays(seed), None, 0
    for name, path, shape in shapes(folder, frame):
        found, ids, digests = parts_of(folder, path, shape)
        assert (found.rejected.total, found.rows) == (0, len(frame)), (name, str(found.rejected))
        assert found.left_out == (len(frame) if "played" in name else 0)
        assert ids == sorted(frame.track.unique()), name
        expected = expected or digests
        assert digests == expected, name
        n += 1
    assert n == 20


def test_relative_times_are_read_alike_from_text_and_parquet(tmp_path):
    frame = make_plays(0)
    seconds = frame.seconds - frame.seconds.min()
    table = {"uid": frame.user, "item_id": frame.track.astype(int), "timestamp": seconds}
    table = pd.DataFrame(table | {"played_ratio_pct": 100})
    low = table.assign(item_id=5, played_ratio_pct=3)
    table = pd.concat([table, low[:9]], ignore_index=True)
    types = {"uid": "uint32", "item_id": "uint32", "timestamp": "uint32"}
    table.astype(types | {"played_ratio_pct": "uint16"}).to_parquet(tmp_path / "listens.parquet")
    table.to_csv(tmp_path / "listens.csv", index=False)
    first, ids, parquet = parts_of(tmp_path, tmp_path / "listens.parquet", shape_of("yambda"), DAYS)
    columns = ("user=uid", "track=item_id", "time=timestamp", "played=played_ratio_pct")
    shape = shape_of("onion", columns, min_played=50)
    second, _, csv = parts_of(tmp_path, tmp_path / "listens.csv", shape, DAYS)
    assert parquet == csv and first.left_out == second.left_out == 9
    assert second.time_format == "relative" and "5" not in ids
    plays = pq.read_table(tmp_path / "plays.pqt").to_pandas()
    assert (plays.timestamp - pd.Timestamp(0)).dt.total_seconds().tolist() == seconds.tolist()


DAYS = Rule.parse("1970-01-03", "1970-01-12", "1970-01-28", val_share=0.5)
odd = st.sampled_from(list('\t\n\r\0 "\',.:;-+TZ0x9"",') + ["\ufeff", "Ä", "\u2028"])
texts = st.sampled_from(["u1", "joe, jr", 'say "hi"', "Ä", "", " x", "7"])
times = {
    "s": st.integers(0, 5 * 10**9).map(str)
    | st.sampled_from(["1549000000.5", "1549000000.1234567"]),
    "ms": st.integers(0, 5 * 10**12).map(str) | st.sampled_from(["1549000000000.125"]),
    "us": st.integers(0, 5 * 10**15).map(str),
    "relative": st.integers(-5, 10**9).map(str) | st.sampled_from(["007", "25999995"]),
    "iso": st.datetimes().map(str)
    | st.sampled_from(["2019-03-31 02:30:00", "2019-10-27 02:30:00+02:00"]),
}


@st.composite
def csv_line(draw, kind):
    """A line of csv with up to two characters put in, replaced or taken out."""
    quote = draw(st.booleans())
    fields = [draw(texts), draw(st.sampled_from(["A", "a b", "x,y", "Ä"])), draw(times[kind])]
    fields.append(draw(st.sampled_from(["50", "49.99", "100", "x", "-1"])))
    line = ",".join('"' + f.replace('"', '""') + '"' if quote else f for f in fields)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(odd | st.just("")) + line[at + draw(st.integers(0, 1)) :]
    return line


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(NAMES)).flatmap(lambda k: st.tuples(st.just(k), csv_line(k))))
def test_a_line_of_csv_is_read_at_once_exactly_when_it_can_be_read_alone(case):
    kind, line = case
    zone = "Europe/Vienna" if kind == "iso" else None
    columns = ("user=1", "track=2", "time=3", "played=4")
    shape = shape_of("onion", columns, "comma", None, kind, zone, 50, "text")
    layout = Layout.of("log", b"a,b,c,d", shape)
    block = line.encode() + b"\n"

    def parser():
        make = {"reader": Reader(shape, kind, False), "users": GrowingIds(is_user)}
        return LogParser("log", b"", KnownIds(["A", "a b", "Ä"]), layout=layout, **make)

    alone, at_once = ParsedBlock(PLAYS.empty_table()), ParsedBlock(PLAYS.empty_table())
    expected = parser()._parse_by_line(block, alone)
    reasons = {r for r, n in alone.rejected.counts.items() if n}
    usable = alone.rows == 1 and reasons <= {"unknown track"}
    try:
        found = parser()._parse_at_once(block, at_once)
    except (FaultyBlock, FaultyId):
        assert not usable or block.count(b"\n") > 1 or alone.left_out or b"\r" in block
    else:
        assert found.equals(expected) and at_once == alone


def is_user(value):
    return Reader(shape_of("onion", users="text"), "iso", True).read_user(value)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["int64", "uint64", "text"]),
    st.lists(
        st.tuples(
            st.none() | st.integers(-3, 2**64 - 1),
            st.none() | st.integers(-2, 30),
            st.none() | st.sampled_from([0, 10**9, 2 * 10**9, 5 * 10**9, -1]),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_rows_of_parquet_are_read_at_once_exactly_as_alone(kind, rows):
    users, tracks, seconds = zip(*rows, strict=True)
    if kind == "text":
        users = pa.array([None if u is None else str(u) for u in users], pa.binary())
    else:
        high = 2**63 if kind == "int64" else 2**64
        low = -(2**63) if kind == "int64" else 0
        fit = [u if u is not None and low <= u < high else None for u in users]
        users = pa.array(fit, getattr(pa, kind)())
    table = pa.table({"user 0": users, "track 0": pa.array(tracks), "time 0": pa.array(seconds)})

    def parser():
        ids = KnownIds([str(t) for t in sorted(map(str, range(20)))])
        return TableParser(Reader(Shape(), "s", False), ids, None)

    alone = ParsedBlock(PLAYS.empty_table())
    expected = parser()._parse_by_line(table, alone)
    parsed = parser().parse(table)
    assert parsed.plays.equals(expected) and parsed.rejected == alone.rejected
    assert parsed.rows == alone.rows == len(rows)


@pytest.mark.parametrize("kind", list(NAMES))
def test_auto_takes_what_most_of_the_first_rows_are(kind):
    fields = {
        "iso": b"2019-02-01 00:00:00",
        "s": b"1549000000",
        "ms": b"1549000000000",
        "us": b"1549000000000000",
        "relative": b"25913600",
    }
    other = next(k for k in fields if k != kind)
    assert guess([fields[other], fields[kind], fields[kind], b"?"]) == kind
    assert guess([]) == guess([b"?"]) == "iso"
    assert TimeReader(kind).field(fields[other]) is None  # formats do not overlap


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        ("u,t,s\n1,A,2\n", ["--columns", "user=u,track=x,time=s"], "x for the track, separated by"),
        ("u,t,s\n1,A,2\n", ["--columns", "user=u,song=t"], "--columns takes user=COLUMN"),
        ("u,t,s\n1,A,2\n", ["--columns", "user=1,track=2,time=4"], "time=4 is not one of its 3"),
        (
            "u,t,s\n1,A,2\n",
            ["--columns", "user=1,track=2,time=s", "--header", "false"],
            "read with",
        ),
        ("u,t,s\n", ["--separator", "::"], "--separator must be tab, comma"),
        ("u,t,s\n", ["--min-played", "50"], "--min-played 50 needs its column"),
        ("u,t,s\n", ["--time-format", "s", "--time-zone", "UTC"], "--time-zone is for written"),
        (
            "user_id,track_id,timestamp\n1,A,2019-01-01 00:00:00\n",
            ["--time-zone", "Mars/Base"],
            "--time-zone Mars/Base is not known",
        ),
        (
            "user_id,track_id,timestamp\n" + "1,A,1549000000\n" * 9 + "1,A,99\n",
            [],
            "1 bad timestamp .*expected seconds since 1970, from 1990 to 2099, got '99'",
        ),
        (
            "user_id,track_id,timestamp,p\n" + "1,A,1549000000,3\n",
            ["--columns", "played=p", "--min-played", "50"],
            "all 1 rows were played less than --min-played",
        ),
        (
            "user_id,track_id,timestamp,p\n" + "1,A,1549000000,much\n",
            ["--columns", "played=p", "--min-played", "50"],
            "1 bad played share .*expected a number in the column .*got 'much'",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_the_next_step(tmp_path, content, flags, message):
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        call(STAGE_0, tmp_path / "root", "--log", tmp_path / "log.csv", *flags)


def test_a_folder_of_several_kinds_and_a_broken_parquet_file_are_refused(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    with pytest.raises(InputError, match="folder of parts of one kind: it holds no files"):
        call(STAGE_0, tmp_path, "--log", folder)
    (folder / "a.csv").touch()
    (folder / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="it holds .csv, .parquet"):
        call(STAGE_0, tmp_path, "--log", folder)
    with pytest.raises(InputError, match="is a parquet file that cannot be read"):
        call(STAGE_0, tmp_path, "--log", folder / "b.parquet")
    table = pa.table({"user_id": [1.5], "track_id": ["a"], "timestamp": [1]})
    pq.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(InputError, match="user_id is a column of double, which is no user"):
        ParquetSource(tmp_path / "c.parquet", Shape())


def test_text_users_keep_their_ids_and_another_shape_is_another_log(tmp_path, capsys):
    (tmp_path / "log.csv").write_text(
        "who,song,at\nzoe,A,1549000000\nÄnne,A,1549000000\n007,B,1549000001\n7,B,1549000001\n"
        "nobody,,1549000000\n"
    )
    flags = ["--log", tmp_path / "log.csv", "--columns", "user=who,track=song,time=at"]
    flags += ["--users", "text", "--max-rejected", "0.2"]
    call(STAGE_0, tmp_path, *flags)
    said = capsys.readouterr().out
    assert "times     seconds since 1970, as the first rows say (--time-format)" in said
    users = pd.read_parquet(tmp_path / "data" / "users.pqt")
    assert users.user.tolist() == ["007", "7", "zoe", "Änne"] and users.user_id.tolist() == [
        0,
        1,
        2,
        3,
    ]
    plays = pd.read_parquet(tmp_path / "data" / "plays.pqt")
    assert plays.user_id.tolist() == [2, 3, 0, 1]
    assert original_users(tmp_path, plays.user_id).tolist() == ["zoe", "Änne", "007", "7"]
    with pytest.raises(InputError, match="4 users, and none of number 9"):
        original_users(tmp_path, np.array([9]))
    path = tmp_path / "data" / "users.pqt"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"zoe", b"zob"))  # another user, in a file that can be read
    with pytest.raises(InputError, match="users.pqt is not the file that was written"):
        original_users(tmp_path, plays.user_id)
    with pytest.raises(InputError, match="users.pqt is not the file that plays.json tells of"):
        call(STAGE_0, tmp_path, *flags)
    path.write_bytes(whole)
    record = json.loads((tmp_path / "data" / "plays.json").read_text())
    assert record["times"] == "s" and record["shape"]["text_users"] is True
    call(STAGE_0, tmp_path, *flags)
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(InputError, match="the log was read otherwise"):
        call(STAGE_0, tmp_path, *flags, "--time-format", "s")


def test_tracks_without_an_id_are_named_by_artist_and_title(tmp_path):
    lines = [
        "user_000001\t2009-05-04T23:08:57Z\tf1b1\tDeep Dish\t\tFuck Me Im Famous / Ibiza, 28",
        "user_000001\t2009-05-04T23:08:57Z\t\tDeep Dish\tmbid-1\tOther",
        "user_000002\t2009-05-04T23:08:57Z\t\t\t\tno artist",
    ]
    (tmp_path / "log.tsv").write_text("\n".join(lines) + "\n")
    found = convert_log(
        tmp_path / "log.tsv", tmp_path / "p.pqt", None, block_bytes=99, shape=shape_of("lastfm1k")
    )
    assert sorted(found.ids) == ["Deep Dish - Fuck Me Im Famous %2F Ibiza%2C 28", "mbid-1"]
    assert found.rejected.counts["malformed"] == 1


@pytest.mark.parametrize("integers", [True, False])
def test_many_ids_are_numbered_as_few_are(monkeypatch, integers):
    from listening_log import lookup

    rng = np.random.default_rng(0)
    values = rng.integers(0, 5_000, 20_000)
    columns = [pa.array(values[i : i + 999]) for i in range(0, len(values), 999)]
    if not integers:
        columns = [c.cast(pa.string()).cast(pa.binary()) for c in columns]

    def numbered(ids):
        return np.concatenate([ids.number(c).to_numpy(zero_copy_only=False) for c in columns])

    few = GrowingIds()
    expected = numbered(few)
    monkeypatch.setattr(lookup, "LARGE", 100)
    many = GrowingIds()
    assert numbered(many).tolist() == expected.tolist() and many.places
    assert many.values == few.values
    known = [value.decode() for value in sorted(few.values)][::2]
    sought = np.array([known.index(v) if v in known else -1 for v in map(str, range(5_000))])
    found = np.nan_to_num(numbered(KnownIds(known)).astype(float), nan=-1)
    assert found.tolist() == sought[values].tolist()


def test_quotes_are_csvs_or_none():
    assert split_line(b'"a ""b"", c",,d', b",", True) == [b'a "b", c', b"", b"d"]
    assert split_line(b'a"b,c', b",", True) is None
    assert split_line(b'"ab,c', b",", True) is None
    assert split_line(b'"a"b,c', b",", True) is None
    assert split_line(b'a"b\tc', b"\t", False) == [b'a"b', b"c"]
