"""Tables are of one time and of the runs that are there; names in them are texts."""

import importlib
import itertools
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from core.options import InputError
from evaluation import grids
from evaluation.tables import read_csv, read_tables, seal_tables

NAMES = ["64", "007", "null", "nan"]


@pytest.fixture
def root(toy_root, call):
    """Runs over embeddings whose names look like numbers or like nothing."""
    root = toy_root()
    for name in NAMES:
        shutil.copy(root / "embeddings" / "toy.npy", root / "embeddings" / f"{name}.npy")
        call("knn", "--root", root, "--embedding", name)
    call("knn", "--root", root, "--embedding", "007", "--tag", "nan", "--scale", "rms")
    return root


def test_names_that_look_like_numbers_or_nothing_keep_their_spelling(root, call):
    call("table", "--root", root, "--resamples", 100)
    tables = read_tables(root)
    assert sorted(tables["results"].embedding) == sorted([*NAMES, "007"])
    assert sorted(tables["results"].tag) == ["", "", "", "", "nan"]
    pairs = tables["comparisons"]
    assert {*pairs.embedding_a, *pairs.embedding_b} == {*NAMES}
    assert set(tables["groups"].embedding) == {*NAMES}
    page = (root / "tables" / "results.md").read_text()
    assert all(f"| {name} " in page for name in [*NAMES, "007 (nan)"])


def test_the_report_calls_them_by_those_names(root, call):
    call("table", "--root", root, "--resamples", 100)
    call("report", "--root", root, "--neighbours", "drawn")
    page = (root / "report" / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r'<td class="stay" data-sort="([^"]*)">([^<]*)</td>', page)
    assert {*NAMES, "007 (nan)"} <= {shown for _, shown in rows}
    assert all(sorted_by == shown for sorted_by, shown in rows)


def test_a_table_of_a_recommender_that_is_gone_goes_and_others_stay(root, call):
    call("baselines", "--root", root, "--only", "popular")
    folder = root / "tables"
    folder.mkdir()
    (folder / "mine.csv").write_text("track,energy\nA,1\n")
    call("table", "--root", root, "--resamples", 100)
    assert (folder / "popular.csv").exists() and (folder / "comparisons.csv").exists()
    call("table", "--root", root, "--resamples", 100, "--runs", "popular-*")
    assert not (folder / "knn.csv").exists()
    shutil.rmtree(root / "runs" / "popular-none-s1")
    call("table", "--root", root, "--resamples", 100, "--runs", "knn-64-*")
    assert not (folder / "popular.csv").exists() and (folder / "knn.csv").exists()
    assert (folder / "mine.csv").read_text() == "track,energy\nA,1\n"


def test_no_bit_of_a_table_changes_without_an_error(root, call):
    call("table", "--root", root, "--resamples", 100)
    folder, rng = root / "tables", np.random.default_rng(0)
    for name in ("results.csv", "comparisons.csv", "knn.csv"):
        whole = (folder / name).read_bytes()
        for at in rng.integers(0, 8 * len(whole), 10):
            damaged = bytearray(whole)
            damaged[at // 8] ^= 1 << at % 8
            (folder / name).write_bytes(damaged)
            with pytest.raises(InputError, match=rf"{name} is not the file .*python table\.py"):
                read_tables(root)
        (folder / name).unlink()
        with pytest.raises(InputError, match=rf"{name} is missing; make it .*python table\.py"):
            read_tables(root)
        (folder / name).write_bytes(whole)
    read_tables(root)


def test_a_name_is_no_command_of_latex():
    columns = {"recommender": "odd_net", "embedding": "toy", "tag": "", "width": 8, "seeds": 1}
    numbers = {"users": 3, "NDCG@50": 0.5, "NDCG@50_ci95": 0.1, "NDCG@50_seed_sd": np.nan}
    results = pd.DataFrame([{**columns, **numbers}])
    nothing = pd.DataFrame(columns=["recommender", "embedding", "tag", "metric", "letters"])
    tables = {"results": results, "groups": nothing, "shuffled": nothing, "chance": nothing}
    page = grids.tex(tables, ["NDCG@50"], "of test_data")
    assert r"odd\_net" in page and "odd_net" not in page.replace(r"odd\_net", "")


def test_a_second_table_beside_one_that_is_made_is_refused(root, call, monkeypatch):
    """Else the seal, written last, would tell of tables of two commands as if they were of one."""
    table, seen = importlib.import_module("table"), []

    def seal(folder, runs):
        seen.append(sorted(path.name for path in folder.glob("*.csv")))
        monkeypatch.setattr(table, "seal_tables", seal_tables)
        with pytest.raises(InputError, match="another process is working on .*tables; wait for it"):
            call("table", "--root", root, "--resamples", 100, "--runs", "knn-64-*")
        with pytest.raises(InputError, match="another process is working on .*tables; wait for it"):
            read_tables(root)
        seen.append(sorted(path.name for path in folder.glob("*.csv")))
        seal_tables(folder, runs)

    monkeypatch.setattr(table, "seal_tables", seal)
    monkeypatch.setattr("core.artifacts.time.sleep", lambda seconds: None)
    times = itertools.count(step=6.0)
    monkeypatch.setattr("core.artifacts.time.monotonic", lambda: next(times))
    call("table", "--root", root, "--resamples", 100)
    assert seen[0] == seen[1]
    assert sorted(read_tables(root)["results"].embedding) == sorted([*NAMES, "007"])


def test_no_table_is_made_while_others_are_read(root, call, monkeypatch):
    call("table", "--root", root, "--resamples", 100)
    before = read_tables(root)

    def read(path, *rest):
        with pytest.raises(InputError, match="another process is working on .*tables; wait for it"):
            call("table", "--root", root, "--resamples", 100, "--runs", "knn-64-*")
        return read_csv(path, *rest)

    monkeypatch.setattr("evaluation.tables.read_csv", read)
    assert read_tables(root)["results"].equals(before["results"])


def test_a_root_without_runs_gets_no_folder_of_tables(tmp_path, call):
    with pytest.raises(InputError, match="no finished run matches"):
        call("table", "--root", tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()
