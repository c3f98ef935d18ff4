"""Metrics against fractions computed by hand, a brute-force version, rs_metrics and scipy."""

import json
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import rs_metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from core.options import InputError
from core.users import write_users
from evaluation.measures import (
    METRICS,
    list_metrics,
    mean_and_interval,
    per_user_metrics,
    summarize,
)

# Four users with lists of 4, tracks 0 to 9. Held out: {1, 5}, {7}, {0, 2, 4, 6, 8}, {9}.
LISTS = {11: [5, 3, 1, 2], 12: [1, 2, 7, 3], 13: [0, 2, 4, 6], 14: [1, 2, 3, 4]}
TRUTH = {11: [1, 5], 12: [7], 13: [0, 2, 4, 6, 8], 14: [9]}
GAIN = [1 / math.log2(rank + 1) for rank in (1, 2, 3, 4)]
BY_HAND = {
    1: {
        "HitRate": [1, 0, 1, 0],
        "MRR": [1, 0, 1, 0],
        "Precision": [1, 0, 1, 0],
        "Recall": [Fraction(1, 2), 0, Fraction(1, 5), 0],
        "NDCG": [1, 0, 1, 0],
    },
    3: {
        "HitRate": [1, 1, 1, 0],
        "MRR": [1, Fraction(1, 3), 1, 0],
        "Precision": [Fraction(2, 3), Fraction(1, 3), 1, 0],
        "Recall": [1, 1, Fraction(3, 5), 0],
        # log2(4) = 2 at rank 3; the ideal of user 11 has ranks 1 and 2, of user 13 ranks 1 to 3
        "NDCG": [1.5 / (GAIN[0] + GAIN[1]), 0.5, 1, 0],
    },
    4: {
        "HitRate": [1, 1, 1, 0],
        "MRR": [1, Fraction(1, 3), 1, 0],
        "Precision": [Fraction(1, 2), Fraction(1, 4), 1, 0],
        "Recall": [1, 1, Fraction(4, 5), 0],
        "NDCG": [1.5 / (GAIN[0] + GAIN[1]), 0.5, 1, 0],
    },
}


def recs_of(lists):
    rows = [(u, t, rank) for u, own in lists.items() for rank, t in enumerate(own, start=1)]
    return pd.DataFrame(rows, columns=["user_id", "track_idx", "rank"])


def truth_of(truth):
    rows = [(user, track) for user, own in truth.items() for track in own]
    return pd.DataFrame(rows, columns=["user_id", "track_idx"])


@pytest.mark.parametrize("k", BY_HAND)
def test_metrics_are_the_fractions_computed_by_hand(k):
    found = per_user_metrics(truth_of(TRUTH), recs_of(LISTS), ks=(k,))
    assert found.user_id.tolist() == list(TRUTH)
    for name, values in BY_HAND[k].items():
        assert found[f"{name}@{k}"].tolist() == pytest.approx([float(v) for v in values], rel=1e-12)


def brute_force(own, held_out, k):
    """The definitions of the module's docstring, for one user."""
    own = own[:k]
    hits = [rank for rank, track in enumerate(own, start=1) if track in held_out]
    gain = sum(1 / math.log2(rank + 1) for rank in hits)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(held_out), k) + 1))
    return {
        "HitRate": float(bool(hits)),
        "MRR": 1 / hits[0] if hits else 0.0,
        "Precision": len(hits) / len(own),
        "Recall": len(hits) / len(held_out),
        "NDCG": gain / ideal,
    }


def rs(truth, lists, k):
    functions = {
        "HitRate": rs_metrics.hitrate,
        "MRR": rs_metrics.mrr,
        "Precision": rs_metrics.precision,
        "Recall": rs_metrics.recall,
        "NDCG": rs_metrics.ndcg,
    }
    values = {name: f(truth, lists, k=k, apply_mean=False) for name, f in functions.items()}
    return {name: dict(zip(truth, own, strict=True)) for name, own in values.items()}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_agrees_with_brute_force_and_with_rs_metrics(data):
    users = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True), "users")
    tracks = st.integers(0, 25)
    lists = {u: data.draw(st.lists(tracks, min_size=1, max_size=12, unique=True)) for u in users}
    truth = {u: data.draw(st.lists(tracks, min_size=1, max_size=15, unique=True)) for u in users}
    k = data.draw(st.integers(1, 20), "k")
    found = per_user_metrics(truth_of(truth), recs_of(lists), ks=(k,)).set_index("user_id")
    assert found.index.tolist() == sorted(users)
    reference = rs(truth, lists, k)
    for user in users:
        expected = brute_force(lists[user], truth[user], k)
        for name in METRICS:
            value = found.loc[user, f"{name}@{k}"]
            assert value == pytest.approx(expected[name], rel=1e-12), (name, user)
            assert value == pytest.approx(reference[name][user], rel=1e-12), (name, user)


def test_the_order_of_rows_does_not_matter_and_lists_of_others_are_left_out():
    more = {**LISTS, 10: [1], 99: [9, 1]}
    truth, recs = truth_of(TRUTH), recs_of(more)
    expected = per_user_metrics(truth, recs_of(LISTS), ks=(3,))
    shuffled = per_user_metrics(truth.sample(frac=1, random_state=1), recs.sample(frac=1), ks=(3,))
    assert shuffled.equals(expected)


def test_a_list_shorter_than_k_counts_with_its_own_length():
    lists = np.array([[3, 1, -1, -1]])
    found = list_metrics(lists, np.array([1]), np.array([1]), 4)
    assert found["Precision"].tolist() == [0.5]
    assert found["MRR"].tolist() == [0.5]


def test_a_list_cut_at_k_beyond_its_columns_is_the_whole_list():
    found = list_metrics(np.array([[3, 1]]), np.array([3]), np.array([1, 2, 3]), 50)
    ideal = sum(1 / math.log2(rank + 1) for rank in (1, 2, 3))
    assert found["NDCG"].tolist() == pytest.approx([(1 + 1 / math.log2(3)) / ideal])


def test_the_precision_of_an_empty_list_is_undefined_and_the_rest_is_0():
    found = list_metrics(np.array([[-1, -1]]), np.array([1]), np.array([0]), 2)
    assert np.isnan(found.pop("Precision")).all()
    assert all(values.tolist() == [0] for values in found.values())


def test_a_user_without_a_list_a_track_listed_twice_and_a_wrong_k_are_errors():
    lists = dict(LISTS)
    del lists[12]
    with pytest.raises(InputError, match="user 12 has held-out tracks but no list"):
        per_user_metrics(truth_of(TRUTH), recs_of(lists))
    with pytest.raises(InputError, match="a list holds one track twice"):
        per_user_metrics(truth_of(TRUTH), recs_of({**LISTS, 13: [0, 2, 0, 6]}))
    for k in (0, 101):
        with pytest.raises(InputError, match=f"--k must be between 1 and 100, .* got {k}"):
            per_user_metrics(truth_of(TRUTH), recs_of(LISTS), ks=(k,))


@pytest.mark.parametrize("n", [2, 3, 10, 6092])
def test_the_interval_is_students_t(n):
    values = np.random.default_rng(n).exponential(size=n)
    mean, half = mean_and_interval(values)
    low, high = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert mean - half == pytest.approx(low, rel=1e-12)
    assert mean + half == pytest.approx(high, rel=1e-12)


def test_the_interval_of_one_value_and_of_equal_values_is_0():
    assert mean_and_interval(np.array([0.3])) == (0.3, 0.0)
    assert mean_and_interval(np.array([0.5, 0.5])) == (0.5, 0.0)


def test_a_summary_holds_the_number_of_users_and_mean_and_interval_of_each_column():
    summary = summarize(pd.DataFrame({"user_id": [1, 2], "MRR@50": [0.0, 1.0]}))
    half = stats.t.ppf(0.975, 1) * np.std([0, 1], ddof=1) / np.sqrt(2)
    assert summary == {"users": 2, "MRR@50": {"mean": 0.5, "ci95": pytest.approx(half)}}


@pytest.fixture
def finished(toy_root, call):
    """A root and the folder of a finished run in it."""
    root = toy_root()
    call("knn", "--root", root, "--embedding", "toy")
    return root, root / "runs" / "knn-toy-s1"


def files(run):
    results = json.loads((run / "metrics.json").read_text())
    tables = {part: pd.read_parquet(run / f"per_user_{part}.pqt") for part in ("val", "test")}
    return results, tables


def test_metrics_py_gives_the_same_numbers_again_and_keeps_other_columns(finished, call):
    root, run = finished
    before, tables = files(run)
    call("metrics", "--root", root, "--run", run.name)
    again, same = files(run)
    assert again == before
    assert all(same[part].equals(tables[part]) for part in tables)

    call("metrics", "--root", root, "--run", run.name, "--k", "10,1")
    more, wider = files(run)
    assert set(more["lists"]["test"]) > set(before["lists"]["test"])
    segments = pd.read_parquet(run / "segments_test.pqt")
    assert {"NDCG@1", "NDCG@50"} <= set(segments) and not segments.isna().any(axis=None)
    for part, table in wider.items():
        names = [f"{name}@{k}" for k in (100, 50, 20, 10, 1) for name in METRICS]
        assert sorted(table.columns) == sorted(["user_id", *names])
        assert table[tables[part].columns].equals(tables[part])
        assert {k: v for k, v in more[part].items() if k in before[part]} == before[part]
        assert set(more[part]) == {"users", *names}
        recs = pd.read_parquet(run / "recs.pqt").sort_values("rank")
        truth = pd.read_parquet(root / "data" / f"{part}.pqt")
        for user, own in recs[recs.user_id.isin(truth.user_id)].groupby("user_id"):
            held_out = set(truth.track_idx[truth.user_id == user])
            expected = brute_force(own.track_idx.tolist(), held_out, 10)
            row = table[table.user_id == user].iloc[0]
            for name in METRICS:
                assert row[f"{name}@10"] == pytest.approx(expected[name], rel=1e-12)


def test_a_run_is_not_judged_by_another_split_than_its_own(finished, call):
    root, run = finished
    before = (run / "metrics.json").read_bytes()
    path = root / "data" / "test.pqt"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    with pytest.raises(InputError, match="knn-toy-s1 was made from another split"):
        call("metrics", "--root", root, "--run", run.name)
    assert (run / "metrics.json").read_bytes() == before


def test_a_run_that_is_not_finished_is_an_error(finished, call):
    root, run = finished
    with pytest.raises(InputError, match="knn-other-s1 is missing; --run takes a folder's name"):
        call("metrics", "--root", root, "--run", "knn-other-s1")


def test_lists_are_exported_with_the_original_track_ids(finished, call, tmp_path):
    root, run = finished
    call("metrics", "--root", root, "--run", run.name, "--export", tmp_path / "new" / "lists.csv")
    exported = pd.read_csv(tmp_path / "new" / "lists.csv")
    assert exported.columns.tolist() == ["user_id", "track_id", "rank", "score"]
    recs = pd.read_parquet(run / "recs.pqt").sort_values(["user_id", "rank"])
    assert exported.track_id.tolist() == [f"T{i:015d}" for i in recs.track_idx]
    assert exported.user_id.tolist() == recs.user_id.tolist()
    assert exported["rank"].tolist() == recs["rank"].tolist()
    assert exported.score.tolist() == pytest.approx(recs.score.tolist(), rel=1e-6)
    write_users(root, [f"user_{n:06d}" for n in range(recs.user_id.max() + 1)])
    call("metrics", "--root", root, "--run", run.name, "--export", tmp_path / "text.csv")
    text = pd.read_csv(tmp_path / "text.csv")
    assert text.user_id.tolist() == [f"user_{n:06d}" for n in recs.user_id]
    (root / "data" / "users.pqt").unlink()


def test_a_catalogue_smaller_than_k_is_no_obstacle(toy_root, call):
    root = toy_root(tracks=40, users=16, heard=5)
    call("knn", "--root", root, "--embedding", "toy")
    results, tables = files(root / "runs" / "knn-toy-s1")
    lists = pd.read_parquet(root / "runs" / "knn-toy-s1" / "recs.pqt").groupby("user_id").size()
    assert lists.max() < 50
    # The list holds all that was not heard, so it holds all that was held out.
    assert results["test"]["Recall@50"]["mean"] == 1
    held_out = pd.read_parquet(root / "data" / "test.pqt").groupby("user_id").size()
    expected = held_out / lists[held_out.index]
    assert tables["test"]["Precision@50"].tolist() == pytest.approx(expected.tolist())
