"""blend.py: scores of two runs together, the weight from validation, the gain and its control."""

import json

import numpy as np
import pandas as pd
import pytest

from blend import blended, side_by_side
from core.options import InputError
from evaluation.tables import read_tables
from recommenders.interactions import load_split


def test_scores_are_standardized_for_each_user_and_a_missing_track_has_the_lowest(toy_root):
    split = load_split(toy_root())
    user, tracks = split.user_ids[0], split.track_idx[:4]
    one = pd.DataFrame({"user_id": user, "track_idx": tracks[:3], "score": [30.0, 20.0, 10.0]})
    other = pd.DataFrame({"user_id": user, "track_idx": tracks[1:], "score": [0.3, 0.2, 0.1]})
    both = side_by_side(one, other, split)
    assert both.a.tolist() == pytest.approx([1, 0, -1, -1])
    assert both.b.tolist() == pytest.approx([-1, 1, 0, -1])
    assert blended(both, 1.0).items.tolist() == [0, 1, 2, 3]
    assert blended(both, 0.0).items.tolist() == [1, 2, 0, 3]
    assert blended(both, 0.5).items.tolist() == [1, 0, 2, 3]
    assert blended(both, 0.5).ranks.tolist() == [1, 2, 3, 4]


@pytest.fixture
def root(toy_root, call):
    root = toy_root(users=240, tracks=800, tastes=20, heard=5, width=16)
    call("baselines", "--root", root, "--only", "ease", "--l2", 50)
    call("knn", "--root", root, "--embedding", "toy")
    call("knn", "--root", root, "--embedding", "toy", "--shuffle")
    call("knn", "--root", root, "--embedding", "noise")
    return root


def test_sound_adds_to_listening_and_noise_does_not(root, call):
    runs = root / "runs"
    for name in ("knn-toy-s1", "knn-toy-shuffled-s1", "knn-noise-s1"):
        call("blend", "--root", root, "--runs", f"{name},ease-none-s1")
    gain = {
        path.name: json.loads((path / "metrics.json").read_text())["gain"]
        for path in runs.glob("blend-*")
    }
    real, noise = gain["blend-toy-knn_ease-s1"], gain["blend-noise-knn_ease-s1"]
    assert real["difference"] > 0.02 and real["p"] < 0.05
    assert noise["p"] > 0.01 or noise["difference"] < 0
    assert real["difference"] > gain["blend-toy-knn_ease_shuffled-s1"]["difference"]
    call("table", "--root", root, "--resamples", 1000)
    shuffled = read_tables(root)["shuffled"].set_index(["recommender", "metric"])
    assert shuffled.beats_shuffled["blend", "NDCG@50"]


def test_noise_gains_at_its_rate(toy_root, call):
    root = toy_root(users=96, tracks=320, heard=5)
    call("baselines", "--root", root, "--only", "ease", "--l2", 50)
    seeds = range(1, 9)
    found = []
    for seed in seeds:
        noise = np.random.default_rng(seed).normal(size=(320, 8)).astype(np.float32)
        np.save(root / "embeddings" / f"n{seed}.npy", noise)
        call("knn", "--root", root, "--embedding", f"n{seed}", "--k", 50)
        call("blend", "--root", root, "--runs", f"knn-n{seed}-s1,ease-none-s1", "--k", 50)
        path = root / "runs" / f"blend-n{seed}-knn_ease-s1" / "metrics.json"
        found.append(json.loads(path.read_text())["gain"])
    assert sum(gain["p"] < 0.05 and gain["difference"] > 0 for gain in found) <= 2, found


def test_what_cannot_be_blended_is_refused(root, call):
    with pytest.raises(InputError, match="takes two runs, as A,B; got knn-toy-s1"):
        call("blend", "--root", root, "--runs", "knn-toy-s1")
    with pytest.raises(InputError, match="an embedding first, then one that hears nothing"):
        call("blend", "--root", root, "--runs", "ease-none-s1,knn-toy-s1")
    with pytest.raises(InputError, match="absent is missing; --runs takes folders' names"):
        call("blend", "--root", root, "--runs", "absent,ease-none-s1")
