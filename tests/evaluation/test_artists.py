"""Artists: tables of them, known and new ones, and whether the sound says more than who plays."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import call_main, make_root

import artist_controls
from core.artifacts import exclusive
from core.options import InputError
from core.trackids import read_trackids
from evaluation.artists import novelty, read_artists
from evaluation.results import average_seeds, read_runs
from evaluation.tables import read_tables
from recommenders.artist_vectors import artist_means, exchanged


def test_artists_are_read_from_music4alls_table_any_csv_and_json(tmp_path):
    ids = ["a", "b", "c", "d"]
    table = tmp_path / "id_information.csv"
    table.write_text("id\tartist\tsong\nb\tBeck\tx\na\tAbba\ty\nd\t\tz\nq\tQueen\t\n")
    assert read_artists(table, ids).tolist() == [0, 1, -1, -1]
    plain = tmp_path / "mine.csv"
    plain.write_text("track_id,Artist\nc,Beck\na,Beck\n")
    assert read_artists(plain, ids).tolist() == [0, -1, 0, -1]
    (tmp_path / "of.json").write_text(json.dumps({"a": "x", "b": "y"}))
    assert read_artists(tmp_path / "of.json", ids).tolist() == [0, 1, -1, -1]
    plain.write_text("track,name\nc,Beck\n")
    with pytest.raises(InputError, match="needs a column id or .* and one named artist, has track"):
        read_artists(plain, ids)
    with pytest.raises(InputError, match="has an artist for none of the 1 tracks"):
        read_artists(table, ["z"])
    with pytest.raises(InputError, match="cannot be read"):
        read_artists(tmp_path / "absent.csv", ids)


def test_held_out_pairs_are_of_artists_known_to_the_user_to_train_or_new():
    artist_of = np.array([0, 0, 1, 1, 2, -1])
    train = pd.DataFrame({"user_id": [1, 2, 2], "track_idx": [0, 2, 5]})
    truth = pd.DataFrame({"user_id": [1, 1, 1, 2, 2], "track_idx": [1, 3, 4, 3, 5]})
    assert novelty(train, truth, artist_of).tolist() == [0, 1, 2, 0, -1]


def test_a_track_is_the_mean_of_its_artists_tracks_and_rows_stay_with_the_artist():
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    artist = np.array([0, 0, 0, 1, -1, 2])
    means = artist_means(vectors, artist)
    assert means[0].tolist() == means[2].tolist() == vectors[[0, 1, 2]].mean(0).tolist()
    assert means[3].tolist() == means[4].tolist() == vectors.mean(0).tolist()
    found = exchanged(vectors, artist, 3)
    assert sorted(found[:3].tolist()) == vectors[:3].tolist()
    assert found[3:].tolist() == vectors[3:].tolist()


@pytest.mark.parametrize("beyond", [False, True])
def test_sound_gains_over_the_artists_mean_only_where_it_says_more(tmp_path, beyond):
    root = make_root(tmp_path / "root", users=160, tracks=400, tastes=40, heard=6, width=40)
    rng = np.random.default_rng(0)
    taste = np.arange(400) % 40
    # Artists of two tastes: the taste is more than the artist. Artists of one: it is the artist.
    artist = taste // 2 if beyond else taste
    vectors = rng.normal(size=(40, 40))[taste] + 0.8 * rng.normal(size=(400, 40))
    np.save(root / "embeddings" / "toy.npy", vectors.astype(np.float32))
    names = {f"T{i:015d}": f"artist {a}" for i, a in enumerate(artist)}
    (root / "artists.json").write_text(json.dumps(names))
    flags = ("--root", root, "--artists", root / "artists.json")
    call_main("artist_controls", *flags, "--embedding", "toy")
    for name in ("toy", "toy_artist_mean", "toy_artist_shuffle"):
        call_main("knn", "--root", root, "--embedding", name)
    call_main("metrics", *flags, "--run", "all")
    call_main("table", "--root", root, "--resamples", 1000)
    tables = read_tables(root)
    pairs = tables["comparisons"][tables["comparisons"].metric == "NDCG@50"]
    row = pairs[(pairs.embedding_a == "toy") & (pairs.embedding_b == "toy_artist_mean")].iloc[0]
    assert (row.p_holm < 0.05 and row.difference > 0) == beyond, row
    segments = tables["segments"][tables["segments"].by == "artist"]
    assert segments.group.isin(["user", "train", "new"]).all() and len(segments)
    assert len(average_seeds(read_runs(root))) == 3


def test_a_quote_in_a_table_of_tabs_hides_no_row(tmp_path):
    table = tmp_path / "id_information.csv"
    table.write_text('id\tartist\tsong\na\tBowie\t"Heroes\nb\t"Weird Al"\tx\u2028y\nc\tCan\tz\n')
    assert read_artists(table, ["a", "b", "c"]).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", 'id,artist\na,x\n"b,y\nc,z\n', "cannot be read as a table"),
        ("a.csv", "id,artist\na," + "x" * 200_000 + "\n", "cannot be read as a table"),
        ("a.csv", "id,artist\na,x\nb,y\na,z\n", "'a' stands twice, as of 'x' and of 'z'"),
        ("a.json", '{"a": "x", "a": "z"}', "'a' stands twice, as of 'x' and of 'z'"),
        ("a.json", '{"a": {"name": "x"}}', "'a' must have a name, got "),
        ("a.json", '[{"a": "x"}]', "must hold {track id: artist}"),
        ("a.json", "null", "must hold {track id: artist}"),
        ("a.json", "[" * 99_999, "is no json"),
    ],
)
def test_a_table_that_would_be_misread_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_artists(tmp_path / name, ["a", "b", "c"])


def test_a_control_that_is_made_again_never_stands_beside_the_json_of_another(
    tmp_path, monkeypatch
):
    root, artists = make_root(tmp_path / "root"), tmp_path / "artists.csv"
    ids = read_trackids(root)
    artists.write_text("id,artist\n" + "".join(f"{t},a{i % 9}\n" for i, t in enumerate(ids)))
    flags = ("--root", root, "--artists", artists, "--embedding", "toy")
    call_main("artist_controls", *flags)
    record = root / "embeddings" / "toy_artist_mean.json"
    assert record.exists()

    def killed(path, matrix):
        raise KeyboardInterrupt

    monkeypatch.setattr(artist_controls, "write_npy", killed)
    with pytest.raises(KeyboardInterrupt):
        call_main("artist_controls", *flags, "--seed", 2)
    assert not record.exists()
    with exclusive(record.with_name(".toy_artist_mean.lock"), "it"):
        with pytest.raises(InputError, match="another process is working on .*toy_artist_mean"):
            call_main("artist_controls", *flags)


def test_a_name_that_would_be_too_long_is_refused_before_anything_is_written(tmp_path):
    root, name = make_root(tmp_path / "root"), "t" * 95
    (root / "embeddings" / "toy.npy").rename(root / "embeddings" / f"{name}.npy")
    artists = tmp_path / "artists.csv"
    artists.write_text(f"id,artist\n{read_trackids(root)[0]},a\n")
    flags = ("--root", root, "--artists", artists, "--embedding", name)
    with pytest.raises(InputError, match="100 at most"):
        call_main("artist_controls", *flags)
    assert len(list((root / "embeddings").glob("*.npy"))) == 2
