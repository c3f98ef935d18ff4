"""Random small logs from text to parts, against the plain transcription of the study's rule."""

import bz2
import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_split_plays import assert_same, make_plays, reference

from core.options import InputError
from listening_log.plays import convert_log, renumber
from listening_log.split_plays import Rule, split_plays

IDS = ["A", "B b", "a", "longer-than-sixteen-bytes", "x", "z", "Ä", "\U0001f3b5"]
PACK = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}
WRONG = {  # what cannot be used, by the reason it is counted under
    "malformed": ["1\tA", "1", "\t\t\t\t\t\t", "1\tA\0\t2019-01-05 00:00:00"],
    "bad user id": ["1.0\tA\t2019-01-05 00:00:00", "\tA\t2019-01-05 00:00:00"],
    "bad timestamp": ["1\tA\t2019-01-05", "1\tA\t1546646400", "1\tA\t2019-02-30 00:00:00"],
    "unknown track": ["1\t?\t2019-01-05 00:00:00", "1\t A\t2019-01-05 00:00:00"],
}


def written(moment, form):
    """Return the moment as a log may write it."""
    zones = {"+02:00": 120, "-0530": -330, "Z": 0, "+13": 780}
    if form in zones:
        return f"{moment + pd.Timedelta(minutes=zones[form])}{form}"
    return str(moment).replace(" ", form)


@st.composite
def logs(draw):
    """Return (the plays, the text of a log that holds them, its unusable lines by reason)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    plays = make_plays(rng, draw(st.integers(50, 300)), tracks=len(IDS), new=1)
    plays["timestamp"] += pd.Timedelta(microseconds=draw(st.sampled_from([0, 1, 250_000])))
    forms = rng.choice([" ", "T", "Z", "+02:00", "-0530", "+13"], len(plays))
    names = draw(st.permutations(["user_id", "track_id", "timestamp", "device"]))
    if draw(st.booleans()):
        names = [name for name in names if name != "device"]
    rows = [
        {"user_id": str(user), "track_id": IDS[track], "timestamp": written(moment, form)}
        for (user, track, moment), form in zip(plays.itertuples(index=False), forms, strict=True)
    ]
    lines = ["\t".join(row.get(name, "phone") for name in names) for row in rows]
    wrong = dict.fromkeys(WRONG, 0)
    if names[:3] == ["user_id", "track_id", "timestamp"]:
        for reason in draw(st.lists(st.sampled_from(list(WRONG)), max_size=6)):
            line = WRONG[reason][rng.integers(len(WRONG[reason]))]
            is_whole = line.count("\t") == 2
            lines.insert(
                rng.integers(len(lines) + 1), line + "\t-" * (is_whole and len(names) == 4)
            )
            wrong[reason] += 1
    lines.insert(rng.integers(len(lines) + 1), "")  # an empty line is no row
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(["\t".join(names), *lines]) + draw(st.sampled_from(["", end]))
    return plays, draw(st.sampled_from(["", "\ufeff"])) + text, wrong


@settings(max_examples=40, deadline=None)
@given(
    logs(),
    st.sampled_from(list(PACK)),
    st.sampled_from([1, 500, 1 << 20]),
    st.booleans(),
)
def test_a_random_log_ends_in_the_rows_of_the_plain_transcription(
    tmp_path_factory, log, pack, block, cold
):
    plays, text, wrong = log
    folder = tmp_path_factory.mktemp("log")
    (folder / "log").write_bytes(PACK[pack](text.encode()))
    found = convert_log(folder / "log", folder / "plays.pqt", IDS, block_bytes=block)
    assert found.rejected.counts == wrong
    converted = pq.read_table(folder / "plays.pqt").to_pandas()
    pd.testing.assert_frame_equal(converted, plays, check_dtype=False)

    dates = ("2019-01-03", "2019-01-12", "2019-01-28")
    rule = Rule.parse(*dates, val_share=0.3, cold=cold)
    expected = reference(plays, *map(pd.Timestamp, dates), val_share=0.3, cold=cold)
    targets = {part: folder / f"{part}.pqt" for part in rule.parts}
    (folder / "scratch").mkdir()
    arguments = (folder / "plays.pqt", rule, targets, folder / "scratch")
    if any(not len(frame) for frame in expected.values()):
        with pytest.raises(InputError, match="would be empty"):
            split_plays(*arguments, memory=10**9, threads=2)
        return
    split_plays(*arguments, memory=10**9, threads=2)
    parts = {part: pq.read_table(path).to_pandas() for part, path in targets.items()}
    assert_same(parts, expected)


@settings(max_examples=20, deadline=None)
@given(logs(), st.sampled_from([1, 500, 1 << 20]), st.integers(1, 4))
def test_ids_that_a_random_log_gives_are_numbered_in_their_order(
    tmp_path_factory, log, block, threads
):
    plays, text, wrong = log
    folder = tmp_path_factory.mktemp("log")
    (folder / "log").write_bytes(text.replace("\t?\t", "\t,\t").encode())  # a comma is in no id
    options = {"block_bytes": block, "threads": threads}
    found = convert_log(folder / "log", folder / "found.pqt", None, **options)
    malformed = wrong["malformed"] + wrong["unknown track"]
    assert found.rejected.counts == wrong | {"malformed": malformed, "unknown track": 0}
    ids = renumber(folder / "found.pqt", folder / "plays.pqt", found.ids)
    assert ids == sorted({IDS[track] for track in plays.track_idx})
    converted = pq.read_table(folder / "plays.pqt").to_pandas()
    converted["track_idx"] = [IDS.index(ids[track]) for track in converted.track_idx]
    pd.testing.assert_frame_equal(converted, plays, check_dtype=False)
