"""The warm-up curve: bins, planted crossings and what the table says of them."""

import numpy as np
import pandas as pd
import pytest
from conftest import call_main, make_root

from evaluation.tables import read_tables
from evaluation.warmup import bin_of, centres, crossing, names

PLACES = np.arange(8.0)


def planted(rng, at, n=150, bins=8):
    """Users' differences that fall with plays and are 0 at `at`; half of the bins have no track."""
    values = 0.1 * (at - np.arange(bins)) + rng.normal(size=(n, 1)) * 0.2
    values = values + rng.normal(size=(n, bins)) * 0.5
    return np.where(rng.random((n, bins)) < 0.5, np.nan, values)


def test_bins_hold_the_plays_that_they_are_named_after():
    assert names()[:7] == ["0", "1", "2", "3-5", "6-10", "11-30", "31-100"]
    assert names()[-1] == "10001-" and len(names()) == len(centres())
    assert bin_of(np.array([0, 1, 2, 3, 5, 6, 10_001])).tolist() == [0, 1, 2, 3, 3, 4, 11]
    assert (np.diff(centres()) > 0).all()


def test_a_planted_crossing_is_within_its_interval_in_95_of_100():
    rng, inside, trials = np.random.default_rng(0), 0, 100
    for _ in range(trials):
        found = crossing(planted(rng, 3.4), PLACES, resamples=200)
        assert found.low <= found.at <= found.high
        inside += found.low <= 2**3.4 <= found.high
    assert 90 <= inside


def test_who_is_ahead_everywhere_does_not_cross():
    rng = np.random.default_rng(0)
    always = crossing(planted(rng, 50), PLACES, resamples=50)
    assert always.at == always.low == always.high == np.inf and always.first > always.last > 0
    never = crossing(planted(rng, -50), PLACES, resamples=50)
    assert never.at == never.low == never.high == 0


def test_the_table_holds_curve_and_crossing_and_says_it_in_a_sentence(tmp_path):
    root = make_root(tmp_path / "root", users=48)
    call_main("knn", "--root", root, "--embedding", "toy")
    call_main("baselines", "--root", root)
    call_main("table", "--root", root, "--resamples", 100)
    tables = read_tables(root)
    train = pd.read_parquet(root / "data" / "train.pqt")
    test = pd.read_parquet(root / "data" / "test.pqt")
    plays = train.groupby("track_idx")["count"].sum()[test.track_idx].to_numpy()
    curve = tables["segments"][tables["segments"].by == "plays"]
    own = curve[curve.recommender == "knn"].set_index("group")
    for name in own.index:
        in_bin = np.array(names())[bin_of(plays)] == name
        assert own.users[name] == test.user_id[in_bin].nunique()
    assert own.users.sum() >= test.user_id.nunique()
    lines = tables["crossings"].set_index("against")
    assert set(lines.index) == {"ease", "popular"} and lines.embedding.eq("toy").all()
    assert (lines.plays_low <= lines.plays).all() and (lines.plays <= lines.plays_high).all()
    recs = pd.read_parquet(root / "runs" / "knn-toy-s1" / "segments_test.pqt")
    first = recs[(recs.by == "plays") & (recs.group == own.index[0])]
    assert own["NDCG@50"].iloc[0] == pytest.approx(first["NDCG@50"].mean(), abs=1e-5)
    page = (root / "tables" / "results.md").read_text()
    assert page.count("KNN over toy is ahead of") == 1
