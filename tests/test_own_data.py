"""The commands of docs/own-data.md, on small made-up files of the three forms it speaks of."""

import re
import shlex

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import HERE, call_main

PAGE = (HERE / "docs" / "own-data.md").read_text(encoding="utf-8")


def commands(heading):
    """Return the commands below a heading of the page, as lists of words."""
    section = PAGE.split(f"## {heading}")[1].split("\n## ")[0]
    blocks = "".join(re.findall(r"```\n(.*?)```", section, re.S)).replace("\\\n", " ")
    lines = [line for line in blocks.splitlines() if line.startswith("python ")]
    return [shlex.split(line)[1:] for line in lines]


def listening(rng, n=2_500, users=30, tracks=60):
    """Return (users, tracks, times in 0 to 1): users of two tastes, who play newer tracks later."""
    who, when = rng.integers(0, users, n), np.sort(rng.random(n))
    song = (rng.random(n) * (0.6 + 0.4 * when) * tracks / 2).astype(int) * 2 + who % 2
    return who, song.clip(max=tracks - 1), when


def write_lastfm(rng):
    who, song, when = listening(rng)
    at = pd.Timestamp("2008-01-01") + pd.to_timedelta((when * 400 * 86_400).astype(int), unit="s")
    lines = []
    for user, track, moment in zip(who, song, at, strict=True):
        mbid = "" if track % 5 == 0 else f"{track:08d}-mbid"
        name = f'Title {track}, live/"B"' if track % 10 == 0 else f"Title {track}"
        time = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        lines.append(f"user_{user:06d}\t{time}\t\tArtist {track % 7}\t{mbid}\t{name}")
    name = "userid-timestamp-artid-artname-traid-traname.tsv"
    open(name, "w", encoding="utf-8").write("\n".join(reversed(lines)) + "\n")


def write_yambda(rng):
    who, song, when = listening(rng, 6_000)
    seconds = 26_000_000 - 5 - (1 - when) ** 2 * 2_000_000
    table = pd.DataFrame(
        {
            "uid": (who * 100).astype("uint32"),
            "item_id": (song * 11).astype("uint32"),
            "timestamp": (seconds // 5 * 5).astype("uint32"),
            "is_organic": np.ones(len(who), "uint8"),
            "played_ratio_pct": rng.integers(0, 101, len(who)).astype("uint16"),
            "track_length_seconds": np.full(len(who), 200, "uint32"),
        }
    )
    table.sort_values(["uid", "timestamp"]).to_parquet("listens.parquet", index=False)
    items = np.arange(0, 50) * 11  # some tracks have no vector
    vectors = rng.normal(size=(len(items), 128)) + 3 * (np.arange(50) % 2)[:, None]
    lists = pa.array(list(vectors.astype("float32")), pa.list_(pa.float32()))
    columns = {"item_id": pa.array(items, pa.uint32()), "embed": lists, "normalized_embed": lists}
    pq.write_table(pa.table(columns), "embeddings.parquet")


def write_own(rng):
    who, song, when = listening(rng)
    at = pd.Timestamp("2024-05-01") + pd.to_timedelta((when * 90 * 86_400).astype(int), unit="s")
    frame = pd.DataFrame({"listener": [f"Smith, Ann {w}" for w in who]})
    frame = frame.assign(song=[f"S-{s:04d}" for s in song], at=at.astype(str), device="phone")
    frame.to_csv("plays.csv", index=False)
    vectors = pd.DataFrame(rng.normal(size=(60, 6)) + 2 * (np.arange(60) % 2)[:, None])
    vectors.insert(0, "song", [f"S-{s:04d}" for s in range(60)])
    vectors.to_csv("vectors.csv", index=False)


@pytest.mark.parametrize(
    ("heading", "write", "rows"),
    [
        ("Last.fm-1K", write_lastfm, {"ease", "popular", "random_lists", "knn"}),
        ("Yambda", write_yambda, {"popular", "random_lists", "knn"}),
        ("A csv of your own", write_own, {"ease", "popular", "random_lists", "knn"}),
    ],
)
def test_the_pages_commands_end_in_the_table(tmp_path, monkeypatch, heading, write, rows, capsys):
    monkeypatch.chdir(tmp_path)
    write(np.random.default_rng(0))
    words = commands(heading)
    assert len(words) >= 5
    for script, *flags in words:
        call_main(script.removesuffix(".py"), *flags)
    root = words[0][words[0].index("--root") + 1]
    table = pd.read_csv(tmp_path / root / "tables" / "results.csv")
    assert set(table.recommender) == rows
    assert table.set_index("recommender")["HitRate@50"].between(0, 1).all()
    if (tmp_path / "lists.csv").exists():
        exported = pd.read_csv(tmp_path / "lists.csv")
        assert exported.user_id.str.fullmatch(r"user_\d{6}").all()
        assert exported.track_id.str.contains("Artist 0 - Title 0%2C live%2F%22B%22").any()
    capsys.readouterr()
