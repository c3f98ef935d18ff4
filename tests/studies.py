"""A small finished study for the tests of the report: runs, tables, and audio that can be heard."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import soundfile
from conftest import call_main, make_root

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
