"""Genres and artists from open tables, as the report knows them."""

import bz2
import io
import json
import zipfile

import pytest

from core.options import InputError
from core.splits import read_split
from open_data.about import write_about
from open_data.sources import Source
from reporting.tracks import read_tracks
from tests.conftest import make_root

SOURCES = {
    name: Source(name=name, group="about", file=file, addresses=("http://h/f",))
    for name, file in (("genres", "g.tsv.bz2"), ("artists", "a.zip"))
}
GENRES = """id\tpop rock\tjazz\tfolk
T000000000000001\t0.1\t0.7\t0
T000000000000000\t0.5\t\t0.2
T000000000000002\t0\t0\t0
elsewhere\t1\t0\t0
"""


def artist(name, *tracks):
    return json.dumps({"artist_info": {"artist": {"name": name}}, "music4all_onion_id": tracks})


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


ARTISTS = {
    "x/artists_json/b.json": artist("B and\tC", "T000000000000001", "T000000000000003"),
    "x/artists_json/a.json": artist("A", "T000000000000001"),
    "x/album_json/a.json": "not looked at",
}


@pytest.fixture
def root(tmp_path):
    root = make_root(tmp_path / "root", tracks=160)
    (root / "downloads").mkdir()
    (root / "downloads" / "g.tsv.bz2").write_bytes(bz2.compress(GENRES.encode()))
    return root


def told(root):
    said = write_about(root, root / "downloads", SOURCES, threads=1)
    lines = (root / "about.tsv").read_text().splitlines()
    return said, [line.split("\t") for line in lines[1:]]


def test_the_largest_weight_and_the_first_artist(root):
    (root / "downloads" / "a.zip").write_bytes(zipped(ARTISTS))
    said, rows = told(root)
    assert rows == [
        ["T000000000000000", "", "pop rock"],
        ["T000000000000001", "A", "jazz"],
        ["T000000000000003", "B and C", ""],
    ]
    assert "3 tracks, 2 with a genre, 2 with an artist" in said


def test_an_archive_within_an_archive_or_a_folder_that_is_unpacked(root):
    (root / "downloads" / "a.zip").write_bytes(zipped({"record.zip": zipped(ARTISTS)}))
    packed = told(root)[1]
    folder = root / "downloads" / "artists_json"
    folder.mkdir()
    for name, content in ARTISTS.items():
        if "artists_json" in name:
            (folder / name.split("/")[-1]).write_text(content)
    (root / "downloads" / "a.zip").unlink()
    assert told(root)[1] == packed


def test_what_is_no_archive_of_artists(root):
    path = root / "downloads" / "a.zip"
    for content, what in (
        (b"nothing", "no zip archive"),
        (zipped({"readme": "x"}), "holds no artists_json"),
        (zipped({"artists_json/a.json": "[]"}), "no json of an artist"),
        (zipped({"artists_json/a.json": "{"}), "no json of an artist"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=what):
            told(root)


def test_the_report_knows_them(root):
    (root / "downloads" / "a.zip").write_bytes(zipped(ARTISTS))
    told(root)
    ids = [f"T{i:015d}" for i in range(160)]
    train = read_split(root)["train"]
    tracks = read_tracks(root, ids, train, ())
    assert tracks.what == "genre" and tracks.kinds == ["jazz", "pop rock"]
    assert tracks.titles == {"T000000000000001": "A", "T000000000000003": "B and C"}
    own = root / "id_genres.csv"
    own.write_text("id\tgenres\nT000000000000001\tfolk,pop\n")
    assert read_tracks(root, ids, train, (own,)).kinds == ["folk"]
