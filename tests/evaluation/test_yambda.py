"""Yambda's metrics against a plain transcription of their definition, and a run of its protocol."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.splits import read_split
from evaluation.yambda import KS, benchmark_metrics, of_parts
from recommenders.ease import ease_scorer
from recommenders.interactions import load_split


def plain(played, lists, k):
    """Recall and NDCG at k of {user: plays} and {user: list}, one user at a time."""
    recalls, ndcgs = [], []
    for user, tracks in played.items():
        listed = lists.get(user, [])[:k]
        hits = [1 if track in tracks else 0 for track in listed]
        most = min(len(tracks), k)
        recalls.append(sum(hits) / most)
        dcg = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        ndcgs.append(dcg / sum(1 / math.log2(place + 2) for place in range(most)))
    return sum(recalls) / len(recalls), sum(ndcgs) / len(ndcgs)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(100, 200))
def test_random_lists_have_the_numbers_of_the_plain_transcription(seed, users, tracks):
    rng = np.random.default_rng(seed)
    known = np.arange(tracks) < 0.8 * tracks  # those of train; only they are listed
    played = {
        user * 3: rng.integers(0, tracks, rng.integers(1, 150)).tolist() for user in range(users)
    }
    lists = {user: rng.permutation(np.flatnonzero(known))[:100].tolist() for user in played}
    pairs = [(user, track) for user, own in played.items() for track in set(own) if known[track]]
    with_pairs = {user for user, _ in pairs}
    recs = [
        (user, track, rank)
        for user, own in lists.items()
        if user in with_pairs  # others get no list
        for rank, track in enumerate(own, 1)
    ]
    held_out = pd.DataFrame(
        [(u, len(own)) for u, own in played.items()], columns=["user_id", "plays"]
    )
    found = benchmark_metrics(
        held_out.sample(frac=1, random_state=0),
        pd.DataFrame(pairs, columns=["user_id", "track_idx"]).astype(int),
        pd.DataFrame(recs, columns=["user_id", "track_idx", "rank"]).astype(int),
    )
    assert found["users"] == users
    for k in KS:
        expected = plain(played, lists, k)
        assert (found[f"Recall@{k}"], found[f"NDCG@{k}"]) == pytest.approx(expected)


def keep_seen(root, again=2):
    """Make the toy's split one of Yambda's kind: some tracks of train are held out again."""
    data = root / "data"
    train, val, test = (pd.read_parquet(data / f"{p}.pqt") for p in ("train", "val", "test"))
    first = train.groupby("user_id").head(again)
    for part, frame in (("val", val), ("test", test)):
        users = pd.concat([val, test]).user_id.unique() if part == "test" else frame.user_id
        frame = pd.concat([frame, first[first.user_id.isin(users)]])
        frame = frame.drop_duplicates(["user_id", "track_idx"])
        frame.sort_values(["user_id", "track_idx"]).to_parquet(data / f"{part}.pqt", index=False)
    counts = [
        pd.read_parquet(data / f"{part}.pqt").groupby("user_id")["count"].sum().rename("plays")
        for part in ("val", "test")
    ]
    windows = [own.reset_index().assign(window=w) for own, w in zip(counts, (2, 4), strict=True)]
    pd.concat(windows)[["user_id", "window", "plays"]].to_parquet(
        data / "held_out.pqt", index=False
    )
    from core.artifacts import sha256, write_json

    names = ("train", "val", "test", "held_out")
    made = {"sha256": {name: sha256(data / f"{name}.pqt") for name in names}}
    made |= {"counts": {}, "config": {}, "seen": "keep", "validation": "time"}
    write_json(data / "split.json", made)


def test_a_run_of_its_protocol_lists_what_was_heard_and_tells_its_metrics(toy_root, call, capsys):
    root = toy_root()
    keep_seen(root)
    call("knn", "--root", root, "--embedding", "toy")
    run = root / "runs" / "knn-toy-s1"
    split, recs = read_split(root), pd.read_parquet(run / "recs.pqt")
    train = set(zip(split["train"].user_id, split["train"].track_idx, strict=True))
    assert len(train & set(zip(recs.user_id, recs.track_idx, strict=True))) > 100
    told = json.loads((run / "metrics.json").read_text())["yambda"]
    assert told == of_parts(split.held_out, split, recs)
    assert "as Yambda's benchmark has it: Recall@10" in capsys.readouterr().out
    call("metrics", "--root", root, "--run", "knn-toy-s1", "--k", "5")
    assert json.loads((run / "metrics.json").read_text())["yambda"] == told
    call("baselines", "--root", root, "--only", "popular,random_lists,ease")
    chance = json.loads((root / "runs" / "random_lists-none-s1" / "metrics.json").read_text())
    n = load_split(root).n_items
    assert chance["chance"]["test"]["Recall@10"] == pytest.approx(10 / n)


@pytest.mark.parametrize("users", [24, 300])
def test_ease_scores_what_was_heard_by_its_other_tracks(toy_root, users):
    """Of users and of tracks, whichever inverse is taken: x B with a diagonal of zeros."""
    split = load_split(toy_root(users=users))
    x = np.zeros((split.n_users, split.n_items))
    x[split.train.user_of_pair, split.train.items] = 1
    p = np.linalg.inv(x.T @ x + 20 * np.eye(split.n_items))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    score = ease_scorer(split.train, split.n_items, 20.0, seen_again=True)
    chosen = np.arange(10)
    np.testing.assert_allclose(score(chosen), x[chosen] @ b, atol=1e-8)
