"""Cold tracks: ranked among themselves, from histories and vectors, where the split has them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from core.options import InputError
from core.splits import split_hash
from evaluation.tables import read_tables
from recommenders.cold import load_cold
from recommenders.interactions import load_split

FIT = ("--device", "cpu", "--select", "MRR@50")
FLAGS = {
    "knn": (),
    "train": (*FIT, "--epochs", 20, "--batch-size", 200, "--learning-rate", 0.01),
    "train_bert": (*FIT, "--epochs", 10, "--batch-size", 10, "--learning-rate", 0.005),
    "train_hybrid": (*FIT, "--epochs", 20, "--batch-size", 10, "--hidden", 16),
    "train_bimodal": (*FIT, "--epochs", 60, "--hidden", 16, "--learning-rate", 0.01),
}
NO_COLD = ("elsa", "bimodal_average", "bimodal_collaborative")  # of listening, wholly or in part


@pytest.fixture
def root(toy_root):
    """A root whose users who test have two cold tracks each, of the user's taste."""
    root = toy_root(users=32, tracks=240, heard=14)
    train = pd.read_parquet(root / "data" / "train.pqt")
    cold = np.setdiff1d(np.arange(1, 240), train.track_idx)
    assert len(cold) > 20
    rng = np.random.default_rng(0)
    rows = [
        (10 * user + 7, track)
        for user in range(32)
        if user // 4 % 2  # those who validate never have a cold pair
        for track in rng.choice(cold[cold % 4 == user % 4], 2, replace=False)
    ]
    table = pd.DataFrame(sorted(rows), columns=["user_id", "track_idx"])
    time = np.datetime64("2020-03-01", "us")
    table.assign(timestamp=time, count=1).to_parquet(root / "data" / "cold_test.pqt")
    return root


@pytest.mark.parametrize("script", FLAGS)
def test_lists_hold_cold_tracks_only_and_the_right_vectors_find_them(root, call, script):
    split = load_split(root)
    flags = ("--root", root, "--embedding", "toy", *FLAGS[script])
    call(script, *flags)
    call(script, *flags, "--shuffle")
    found = {}
    for run in (root / "runs").iterdir():
        if run.name.startswith(NO_COLD):
            assert not (run / "cold_recs.pqt").exists()
            continue
        recs = pd.read_parquet(run / "cold_recs.pqt")
        truth = pd.read_parquet(root / "data" / "cold_test.pqt")
        assert set(recs.user_id) == set(truth.user_id)
        cold = set(truth.track_idx)
        assert all(set(own) == cold for _, own in recs.groupby("user_id").track_idx)
        assert not cold & set(split.track_idx)
        results = json.loads((run / "metrics.json").read_text())
        assert results["cold"]["users"] == truth.user_id.nunique()
        per_user = pd.read_parquet(run / "per_user_cold.pqt")
        assert per_user["MRR@10"].mean() == results["cold"]["MRR@10"]["mean"]
        found["shuffled" in run.name] = results["cold"]["NDCG@10"]["mean"]
    assert found[False] > found[True] + 0.1, found

    call("table", "--root", root)
    table = read_tables(root)["cold"].set_index("tag")
    assert table.loc["", "NDCG@10"] == pytest.approx(found[False], abs=1e-6)
    assert table.loc["shuffled", "NDCG@10"] == pytest.approx(found[True], abs=1e-6)


def test_knn_ranks_cold_tracks_by_the_cosine_to_the_mean_of_the_history(root, call):
    call("knn", "--root", root, "--embedding", "toy", "--scale", "standardize")
    recs = pd.read_parquet(root / "runs" / "knn-toy-s1" / "cold_recs.pqt")
    split, vectors = load_split(root), np.load(root / "embeddings" / "toy.npy")
    known = vectors[split.track_idx].astype(np.float64)
    vectors = (vectors - known.mean(0)) / known.std(0)
    for user, own in recs.groupby("user_id"):
        history = split.track_idx[split.train.of(np.searchsorted(split.user_ids, user))]
        mean = vectors[history].mean(0)
        candidates = vectors[own.sort_values("rank").track_idx]
        cosine = candidates @ mean / np.linalg.norm(candidates, axis=1) / np.linalg.norm(mean)
        assert (np.diff(cosine) <= 1e-6).all()
        np.testing.assert_allclose(own.sort_values("rank").score, cosine, atol=1e-5)


@pytest.mark.parametrize("script", ["train", "train_bert"])
def test_where_tracks_are_trained_cold_ones_come_as_the_audio_model_made_them(root, call, script):
    """Through what was learned beside the tracks, and so named: in config.yaml and the table."""
    flags = ("--root", root, "--embedding", "toy", *FLAGS[script], "--train-tracks", "true")
    for control in ((), ("--shuffle",)):
        call(script, *flags, "--tag", "trained", *control)
    table = {}
    for run in (root / "runs").iterdir():
        assert (run / "cold_recs.pqt").exists()
        recorded = yaml.safe_load((run / "config.yaml").read_text())
        assert recorded["cold_vectors"] == "as the audio model made them"
    call("table", "--root", root, "--layout", "journal")
    page = (root / "tables" / "journal_cold.md").read_text()
    assert "toy (trained) ‡" in page and "‡ tracks were trained; cold ones" in page
    table = read_tables(root)["cold"].set_index("tag")
    assert table.loc["trained", "NDCG@10"] > table.loc["trained_shuffled", "NDCG@10"]


def test_vectors_learned_from_nothing_make_no_cold_lists(root, call):
    call("train", "--root", root, "--embedding", "random", *FIT, "--epochs", 1)
    run = root / "runs" / "shallow-random-s1"
    assert not (run / "cold_recs.pqt").exists()
    assert "cold" not in json.loads((run / "metrics.json").read_text())


def test_what_chance_reaches_among_cold_tracks_is_known_exactly(root, call):
    call("baselines", "--root", root, "--only", "random_lists")
    results = json.loads((root / "runs" / "random_lists-none-s1" / "metrics.json").read_text())
    cold = load_cold(root, load_split(root))
    k, rng = 10, np.random.default_rng(0)
    wanted = [set(cold.test.of(row)) for row in range(len(cold.test.users))]
    hits = [
        np.mean([bool(held & set(rng.permutation(cold.n_items)[:k])) for held in wanted])
        for _ in range(400)
    ]
    assert results["chance"]["cold"]["HitRate@10"] == pytest.approx(np.mean(hits), abs=0.02)
    assert results["chance"]["cold"]["Recall@10"] == pytest.approx(k / cold.n_items)


def test_cold_tracks_belong_to_the_split_and_are_checked(root):
    before, path = split_hash(root), root / "data" / "cold_test.pqt"
    table, split = pd.read_parquet(path), load_split(root)
    table.iloc[1:].to_parquet(path)
    assert split_hash(root) != before
    table.assign(user_id=table.user_id.replace(47, 48)).to_parquet(path)
    with pytest.raises(InputError, match="cold_test.pqt: 2 rows have a user_id that is not in tr"):
        load_split(root)
    table.assign(user_id=table.user_id.replace(47, 7)).to_parquet(path)
    with pytest.raises(InputError, match="cold_test.pqt: 2 rows have a user_id that val.pqt holds"):
        load_split(root)
    warm = int(split.track_idx[3])
    table.assign(track_idx=[warm, *table.track_idx[1:]]).to_parquet(path)
    with pytest.raises(InputError, match=f"not cold: train.pqt holds it, for example {warm}"):
        load_split(root)
    path.unlink()
    assert load_cold(root, load_split(root)) is None


def test_as_published_cold_tracks_are_in_training_and_not_ranked_beside_the_others(root, call):
    flags = ("--root", root, "--device", "cpu", "--as-published")
    call("train_elsa", *flags, "--factors", 8)
    call("train_hybrid", *flags, "--embedding", "toy", "--hidden", 8, "--epochs", 2)
    split = load_split(root)
    cold = load_cold(root, split)
    saved = torch.load(root / "runs" / "elsa-none-published-s1" / "best.pt", weights_only=True)
    assert len(saved["model"]["items"]) == split.n_items + cold.n_items
    for run in ("elsa-none-published-s1", "hybrid-toy-published-s1"):
        recs = pd.read_parquet(root / "runs" / run / "recs.pqt")
        assert not set(recs.track_idx) & set(cold.track_idx)
        assert (root / "runs" / run / "cold_recs.pqt").exists() == run.startswith("hybrid")
