"""A small finished study for the tests of the report: runs, tables, and audio that can be heard."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import soundfile
from conftest import call_main, make_root

from benchmarks.made_up_study import Row, make_data, make_embeddings, make_lists, make_runs
from core.registry import ALL
from core.trackids import read_trackids

STYLES = ("folk", "jungle")


def make_study(root, *, ids=None, networks=True):
    """Write a split of tastes, runs over `toy` and `noise`, and the table of results.

    Args:
        ids: track ids in place of T000..., ascending by code point.
        networks: a Shallow Net and BERT4Rec too, of two epochs.
    """
    make_root(root)
    if ids:
        lines = [f"{idx},{track_id}" for idx, track_id in enumerate(ids)]
        text = "\n".join(["idx,trackid", *lines]) + "\n"
        (root / "trackid_sorted.csv").write_text(text, encoding="utf-8")
    call_main("baselines", "--root", root)
    for embedding in ("toy", "noise"):
        call_main("knn", "--root", root, "--embedding", embedding)
        if networks:
            fit = ("--epochs", 2, "--device", "cpu")
            call_main("train", "--root", root, "--embedding", embedding, *fit)
    if networks:
        call_main("train_bert", "--root", root, "--embedding", "toy", *fit)
    call_main("table", "--root", root)
    (root / "tables" / "tables.json").unlink()  # tests change tables
    for path in (root / "tables").glob("*.csv"):
        if path.stem != "results":
            path.unlink()  # a test adds those that it is about
    return root


def add_styles(root):
    """Say of every track which style it is, as make_sample.py does."""
    ids = read_trackids(root)
    styles = {track_id: STYLES[at % 2] for at, track_id in enumerate(ids)}
    (root / "sample.json").write_text(json.dumps({"tracks": styles}))


def add_audio(folder, ids, suffix=".mp3"):
    """Write a second of sound for every track."""
    folder.mkdir(parents=True)
    times = np.arange(22_050) / 22_050
    for at, track_id in enumerate(ids):
        tone = 0.3 * np.sin(2 * np.pi * (220 + 5 * at) * times)
        soundfile.write(folder / f"{track_id}{suffix}", tone, 22_050)


def add_comparisons(root, means, significant, *, recommender="knn", metric="HitRate@50"):
    """Write comparisons.csv: every two embeddings, p of .001 where the pair is significant."""
    rows = [
        {
            "recommender": recommender,
            "embedding_a": a,
            "tag_a": "",
            "embedding_b": b,
            "tag_b": "",
            "metric": metric,
            "users": 12,
            "mean_a": means[a],
            "mean_b": means[b],
            "difference": means[a] - means[b],
            "ci_low": means[a] - means[b] - 0.05,
            "ci_high": means[a] - means[b] + 0.05,
            "p": 0.001,
            "p_holm": 0.001 if {a, b} in significant else 0.4,
            "effect_size": 0.5,
            "better_a": 0.3,
            "better_b": 0.1,
        }
        for a, b in combinations(means, 2)
    ]
    pd.DataFrame(rows).to_csv(root / "tables" / "comparisons.csv", index=False)


BACKBONES = ("mfcc", "musicnn", "mert", "music2vec", "jukemir", "encodecmae", "musicfm", "mule",
             "muq", "muq_mulan")  # fmt: skip
CONTROL_LEVELS = {"popular": -1.5, "random_lists": -2.5, "ease": 1.6}
SIX = ("knn", "shallow", "bert4rec", "bimodal_average", "bimodal_content", "hybrid")


def make_large_study(root, *, users=60, tracks=400, seeds=3):
    """Write the tables, runs and lists of 10 backbones x 6 recommenders x 3 seeds, all made up.

    Each has its shuffled control, two are trained too, noise and what hears nothing are there.
    Under BERT4Rec noise ranks best, as in the study; under KNN only some backbones help.
    """
    root.mkdir(parents=True)
    val, test = make_data(root, users, tracks=tracks, people=3 * users)
    make_embeddings(root, list(BACKBONES), tracks=tracks)
    widths = {n: np.load(root / "embeddings" / f"{n}.npy", "r").shape[1] for n in BACKBONES}
    rows, controls = [], [Row(n, "none", None, level) for n, level in CONTROL_LEVELS.items()]
    for recommender in SIX:
        start = -1.5 if recommender == "knn" else 0.0
        for at, name in enumerate(BACKBONES):
            rows.append(Row(recommender, name, None, start + 0.25 * at, widths[name]))
            controls.append(Row(recommender, name, "shuffled", -1.2, widths[name]))
        noise = 4.0 if recommender == "bert4rec" else -1.2
        controls.append(Row(recommender, "noise", None, noise, 128))
        if ALL[recommender].trains_tracks:
            more = {"train_tracks": True}
            rows += [Row(recommender, n, "trained", 2.0, widths[n], more) for n in BACKBONES[:2]]
    make_runs(root, rows, seeds, test, segments=False)
    make_runs(root, controls, 1, test, seed=1, segments=False)
    people = np.sort(np.concatenate([val, test]))
    for at, folder in enumerate(sorted((root / "runs").glob("*-s1"))):
        make_lists(folder, people, at, tracks=tracks)
    call_main("table", "--root", root)
    return root
