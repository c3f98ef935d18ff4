"""The report shows the vectors, split and lists that its runs were made from, or says why not."""

import importlib
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import call_main, flip
from studies import make_study

import report
from core.artifacts import sha256, write_json
from core.options import InputError
from core.splits import read_split
from core.trackids import read_trackids
from evaluation.tables import remove_tables
from recommenders.interactions import load_split
from recommenders.vectors import embedding_hash, load_item_vectors
from reporting.study import read_study

TOY = "embeddings/toy.npy"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = make_study(tmp_path_factory.mktemp("study") / "root", networks=False)
    ids = sha256(root / "trackid_sorted.csv")
    write_json(
        root / "embeddings" / "toy.json", {"sha256": sha256(root / TOY), "trackids_sha256": ids}
    )
    return root


@pytest.fixture
def root(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "root", copy_function=shutil.copy2)


def other_vectors(root):
    """Replace an embedding as another extraction would: its json tells of the new one."""
    np.save(root / TOY, np.load(root / TOY)[::-1])
    told = json.loads((root / "embeddings" / "toy.json").read_text())
    told.pop("sealed")
    write_json(root / "embeddings" / "toy.json", {**told, "sha256": sha256(root / TOY)})


def study_of(root):
    return read_study(root, len(read_trackids(root)))


def test_a_whole_study_is_read(root):
    study = study_of(root)
    rows = np.array([3, 5])
    assert np.array_equal(study.vectors("toy", rows), np.load(root / TOY)[rows])
    assert study.embeddings["toy"]["width"] == study.vectors("toy", rows).shape[1]


@pytest.mark.parametrize("at", [-1, 200, 5])
def test_an_embedding_with_one_flipped_bit_is_refused(root, at):
    flip(root / TOY, at)
    with pytest.raises(InputError, match=r"toy\.npy"):
        study_of(root)


def test_an_embedding_of_ones_own_that_changed_after_its_runs_is_refused(root):
    (root / "embeddings" / "toy.json").unlink()
    study_of(root)
    flip(root / TOY, -1)
    with pytest.raises(InputError, match="toy.npy is not the one that knn-toy-s1 was made from"):
        study_of(root)


def test_an_embedding_that_was_made_again_after_its_runs_is_refused(root):
    other_vectors(root)
    with pytest.raises(InputError, match="toy.npy is not the one that knn-toy-s1 was made from"):
        study_of(root)


def test_files_beside_the_embeddings_that_are_none_do_not_stop_a_report(root):
    (root / "embeddings" / "Old copy.npy").write_bytes(b"nothing")
    assert "Old copy" not in study_of(root).embeddings


def test_what_was_read_of_an_embedding_is_not_exchanged_while_the_report_is_made(root):
    study, rows = study_of(root), np.arange(4)
    before = study.vectors("toy", rows)
    other = root / "embeddings" / "other.tmp"
    np.save(open(other, "wb"), np.load(root / TOY)[::-1])
    other.replace(root / TOY)
    assert np.array_equal(study.vectors("toy", rows), before)


def test_report_and_table_refuse_runs_of_another_split(root, monkeypatch):
    monkeypatch.setattr(report, "draw_all", lambda *_: {})
    part = root / "data" / "test.pqt"
    table = read_split(root)["test"].iloc[1:]
    table.to_parquet(part, index=False)
    for script in ("report", "table"):
        with pytest.raises(InputError, match="was made from another split than .*data holds"):
            call_main(script, "--root", root)


def test_user_ids_that_no_number_of_javascript_holds_are_text_in_the_pages(
    tmp_path, toy_root, call, monkeypatch
):
    root = toy_root()
    first = 2**53 + 1
    for part in ("train", "val", "test"):
        path = root / "data" / f"{part}.pqt"
        table = pd.read_parquet(path)
        table.assign(user_id=first + (table.user_id - 7) // 10).to_parquet(path, index=False)
    call("knn", "--root", root, "--embedding", "toy")
    call("table", "--root", root, "--resamples", 100)
    monkeypatch.setattr(report, "draw_all", lambda *_: {})
    call("report", "--root", root)
    page = (root / "report" / "listen.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'type="application/json" id="data">(.*)</script>', page)[1])
    shown = {user["id"] for user in data["users"]}
    assert shown == set(read_split(root)["test"].user_id.astype(str))
    for file in (root / "report").rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r'(?<![\w"])90071992547409\d\d(?![\w"])', text), file.name


def test_an_embedding_that_is_replaced_between_its_fingerprint_and_its_vectors_is_refused(root):
    split, told = load_split(root), embedding_hash(root, "toy", 8)
    load_item_vectors(root, "toy", split, fingerprint=told)
    other_vectors(root)
    with pytest.raises(InputError, match="toy.npy was replaced while it was read"):
        load_item_vectors(root, "toy", split, fingerprint=told)
    both = f"noise-8+{told}"
    with pytest.raises(InputError, match="toy.npy was replaced while it was read"):
        load_item_vectors(root, "noise+toy", split, width=8, fingerprint=both)


@pytest.mark.parametrize("name", ["noise", "random", "toy+noise"])
def test_artist_controls_need_an_embedding_with_a_file(root, name):
    artists = root / "artists.json"
    ids = read_trackids(root)
    artists.write_text(json.dumps({track: f"artist {at % 9}" for at, track in enumerate(ids)}))
    with pytest.raises(InputError, match="is no file"):
        call_main("artist_controls", "--root", root, "--embedding", name, "--artists", artists)


def test_a_run_that_was_made_again_beside_the_table_is_not_the_tables(root, monkeypatch):
    """The table is the newer file, and of the older run: only a fingerprint tells."""
    table = importlib.import_module("table")

    def beside(folder):
        flags = ("--embedding", "toy", "--scale", "rms", "--overwrite")
        call_main("knn", "--root", root, *flags)
        remove_tables(folder)

    with monkeypatch.context() as patch:
        patch.setattr(table, "remove_tables", beside)
        call_main("table", "--root", root, "--resamples", 100)
    with pytest.raises(InputError, match="runs/knn-toy-s1 is not the run that tables/results.csv"):
        study_of(root)
    call_main("table", "--root", root, "--resamples", 100)
    assert len(study_of(root).runs) == len(list((root / "runs").iterdir()))


def test_what_a_table_was_made_of_does_not_depend_on_the_clock(root):
    call_main("table", "--root", root, "--resamples", 100)
    for path in (root / "runs").glob("*/metrics.json"):
        path.touch()  # as a copy of the folder leaves it
    assert len(study_of(root).runs) == len(list((root / "runs").iterdir()))
