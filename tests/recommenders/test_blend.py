"""blend.py: scores of two runs together, the weight from validation, the gain and its control."""

import json

import numpy as np
import pandas as pd
import pytest

from blend import best_weight, blended, gain_over, side_by_side
from core.options import InputError
from evaluation.tables import read_tables
from recommenders.interactions import load_split
from recommenders.lists import recommend
from recommenders.vectors import knn_scorer


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


def noise_gains(root, draws):
    """Return the gain of EASE's lists blended with those of KNN over noise, for each draw."""
    split = load_split(root)
    ease = pd.read_parquet(root / "runs" / "ease-none-s1" / "recs.pqt")
    for seed in range(draws):
        noise = np.random.default_rng(seed).normal(size=(split.n_items, 8)).astype(np.float32)
        lists = recommend(knn_scorer(split.train, noise), split)
        recs = pd.DataFrame(
            {
                "user_id": split.user_ids[lists.users],
                "track_idx": split.track_idx[lists.items],
                "score": lists.scores,
            }
        )
        both = side_by_side(recs, ease, split)
        weight = best_weight(both, split)
        yield gain_over(blended(both, weight), blended(both, 0.0), split)


def test_noise_gains_at_its_rate(toy_root, call):
    """Of one side of .05: 1 of 40 is expected; more than 4 come once in 200 if that is right."""
    root = toy_root(users=96, tracks=320, heard=5)
    call("baselines", "--root", root, "--only", "ease", "--l2", 50)
    gains = list(noise_gains(root, 40))
    assert sum(gain["p"] < 0.05 and gain["difference"] > 0 for gain in gains) <= 4, gains
    assert np.mean([gain["difference"] for gain in gains]) < 0.005


def test_what_cannot_be_blended_is_refused(root, call):
    with pytest.raises(InputError, match="takes two runs, as A,B; got knn-toy-s1"):
        call("blend", "--root", root, "--runs", "knn-toy-s1")
    with pytest.raises(InputError, match="an embedding first, then one that hears nothing"):
        call("blend", "--root", root, "--runs", "ease-none-s1,knn-toy-s1")
    with pytest.raises(InputError, match="absent is missing; --runs takes a folder's name"):
        call("blend", "--root", root, "--runs", "absent,ease-none-s1")


@pytest.mark.parametrize("name", ["..", ".", "knn-toy-s1/", "../runs/knn-toy-s1", "/etc", ""])
def test_a_path_is_no_name_of_a_run(toy_root, call, name):
    root = toy_root()
    call("knn", "--root", root, "--embedding", "toy")
    with pytest.raises(InputError, match="is missing; --runs takes a folder's name|takes two runs"):
        call("blend", "--root", root, "--runs", f"{name},popular-none-s1")
    with pytest.raises(InputError, match="is missing; --run takes a folder's name"):
        call("metrics", "--root", root, "--run", name)
