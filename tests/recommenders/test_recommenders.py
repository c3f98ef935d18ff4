"""Every recommender on data whose answer is known. A new one is tested by a line in the list."""

import json

import numpy as np
import pandas as pd
import pytest

N = 20  # tracks, and users, of each of the two tastes

FIT = ("--device", "cpu", "--select", "MRR@50")
SHALLOW = ("train", *FIT, "--epochs", 40, "--batch-size", 200, "--learning-rate", 0.01)
BERT = ("train_bert", *FIT, "--epochs", 15, "--batch-size", 10, "--learning-rate", 0.005)
ELSA = ("train_elsa", *FIT, "--epochs", 40, "--batch-size", 10, "--factors", 8)
HYBRID = ("train_hybrid", *FIT, "--epochs", 40, "--batch-size", 10, "--hidden", 16)
BIMODAL = ("train_bimodal", *FIT, "--epochs", 60, "--hidden", 32, "--learning-rate", 0.01)
BIMODAL = (*BIMODAL, "--temperature", 1)  # at which a track comes near all that go with it
RECOMMENDERS = {
    "knn": ("knn",),
    "knn raw": ("knn", "--scale", "none"),
    "knn whitened": ("knn", "--scale", "whiten"),
    "shallow": SHALLOW,
    "shallow by user": (*SHALLOW, "--sample", "user"),
    "shallow as published": (
        *SHALLOW,
        *("--train-tracks", "true", "--train-users", "false", "--negatives", "any"),
    ),
    "shallow weighted": (*SHALLOW, "--confidence", "--l2", 1e-5),
    "shallow sparse": (*SHALLOW, "--sparse-adam", "true"),
    "shallow bfloat16": (*SHALLOW, "--precision", "bfloat16"),
    "shallow random": (*SHALLOW, "--embedding", "random", "--width", 32, "--learning-rate", 0.03),
    "bert4rec": BERT,
    "bert4rec bfloat16": (*BERT, "--precision", "bfloat16"),
    "bert4rec trained tracks": (*BERT, "--train-tracks", "true"),
    "bert4rec random": (*BERT, "--embedding", "random", "--width", 64),
    "bert4rec short": (*BERT, "--predict-length", 10, "--max-length", 15),
    "elsa": ELSA,
    "elsa as published": ("train_elsa", "--device", "cpu", "--factors", 8, "--as-published"),
    "elsa bfloat16": (*ELSA, "--precision", "bfloat16"),
    "hybrid": HYBRID,
    "hybrid as published": ("train_hybrid", "--device", "cpu", *HYBRID[5:], "--as-published"),
    "hybrid bfloat16": (*HYBRID, "--precision", "bfloat16"),
    "bimodal": BIMODAL,
    "bimodal weighted": (*BIMODAL, "--weighted"),
    "bimodal bfloat16": (*BIMODAL, "--precision", "bfloat16"),
}


@pytest.fixture(scope="module")
def checkerboard(tmp_path_factory):
    """Users of two tastes who played all tracks of theirs but one, which is held out.

    User u of a taste lacks its u-th track, so every track is lacked, and known, by equally many.
    """
    root = tmp_path_factory.mktemp("checkerboard")
    rng = np.random.default_rng(0)
    parts = {"train": [], "val": [], "test": []}
    for taste in range(2):
        for user in range(N):
            for place, track in enumerate(rng.permutation(N)):
                held_out = ("val", "test")[user % 2] if track == user else "train"
                parts[held_out].append((taste + 2 * user, taste + 2 * track, place))
    (root / "data").mkdir()
    (root / "embeddings").mkdir()
    for part, rows in parts.items():
        table = pd.DataFrame(sorted(rows), columns=["user_id", "track_idx", "place"])
        days = pd.to_timedelta(table.pop("place"), unit="D")
        table["timestamp"] = (pd.Timestamp("2019-03-01") + days).astype("datetime64[us]")
        table.assign(count=1).to_parquet(root / "data" / f"{part}.pqt")
    lines = ["idx,trackid", *(f"{i},T{i:03d}" for i in range(2 * N))]
    (root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n")
    centres = rng.normal(size=(2, 8))
    vectors = np.tile(centres, (N, 1)) + 0.2 * rng.normal(size=(2 * N, 8))
    np.save(root / "embeddings" / "toy.npy", vectors.astype(np.float32))
    return root


def mean_reciprocal_rank(root, run):
    results = json.loads((root / "runs" / run / "metrics.json").read_text())
    return [results[part]["MRR@50"]["mean"] for part in ("val", "test")]


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_the_one_track_of_its_taste_that_a_user_has_not_heard_comes_first(checkerboard, call, name):
    script, *flags = RECOMMENDERS[name]
    tag = name.replace(" ", "_")
    heard = () if script == "train_elsa" else ("--embedding", "toy")
    call(script, "--root", checkerboard, *heard, *flags, "--tag", tag)
    runs = list((checkerboard / "runs").glob(f"*-{tag}-s1"))
    assert len(runs) == (3 if script == "train_bimodal" else 1)
    for run in runs:
        found = mean_reciprocal_rank(checkerboard, run.name)
        if script == "knn":
            assert found == [1, 1]
        else:
            assert min(found) > 0.9, (run.name, found)


def test_controls_cannot_know_the_track(checkerboard, call):
    call("baselines", "--root", checkerboard)
    assert mean_reciprocal_rank(checkerboard, "ease-none-s1") == [1, 1], "EASE sees who listens"
    for run in ("popular-none-s1", "random_lists-none-s1"):
        assert max(mean_reciprocal_rank(checkerboard, run)) < 0.5


@pytest.mark.parametrize("script", ["knn", "train", "train_bert", "train_hybrid", "train_bimodal"])
def test_with_frozen_tracks_the_vectors_of_the_right_tracks_win_over_shuffled_ones(
    toy_root, call, script
):
    root = toy_root(users=96)
    flags = {each[0]: each[1:] for each in (("knn",), SHALLOW, BERT, HYBRID, BIMODAL)}[script]
    quality = {}
    for name, control in (("toy", ()), ("toy-shuffled", ("--shuffle",))):
        call(script, "--root", root, "--embedding", "toy", *flags, *control)
        kind = "bimodal_content" if script == "train_bimodal" else "*"
        (run,) = (root / "runs").glob(f"{kind}-{name}-s1")
        results = json.loads((run / "metrics.json").read_text())
        quality[name] = results["test"]["NDCG@50"]
    gap = quality["toy"]["mean"] - quality["toy-shuffled"]["mean"]
    assert gap > quality["toy"]["ci95"] + quality["toy-shuffled"]["ci95"], quality
