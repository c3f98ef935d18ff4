"""A row's segments: seeds averaged user by user, whatever the order of a file's lines."""

import numpy as np
import pandas as pd
import pytest
from test_table import write_run

from core.artifacts import write_table
from evaluation.results import average_seeds, read_runs, summarize_segments


@pytest.mark.parametrize("shuffled", [False, True], ids=["in one order", "in two orders"])
def test_segments_and_curves_are_means_over_the_seeds_of_each_user(tmp_path, shuffled):
    rng = np.random.default_rng(0)
    users = np.arange(20)
    frames = []
    for seed in (1, 2):
        write_run(tmp_path, "knn", "toy", seed, rng.normal(size=20))
        parts = [
            pd.DataFrame({"user_id": users[:n], "by": "plays", "group": group})
            for group, n in (("1", 20), ("3-5", 12))
        ]
        frame = pd.concat(parts, ignore_index=True)
        frame["NDCG@50"] = rng.random(len(frame))
        frames.append(frame.sample(frac=1, random_state=seed) if shuffled else frame)
        write_table(tmp_path / "runs" / f"knn-toy-s{seed}" / "segments_test.pqt", frames[-1])
    table, [(_, curve)] = summarize_segments(average_seeds(read_runs(tmp_path)), "NDCG@50")
    means = pd.concat(frames).groupby(["group", "user_id"])["NDCG@50"].mean()
    for line in table.itertuples():
        own = means[line.group]
        assert line.by == "plays" and line.users == len(own)
        assert table["NDCG@50"][line.Index] == pytest.approx(own.mean())
        assert curve[line.group].dropna().tolist() == pytest.approx(own.tolist())
    assert table.group.tolist() == list(curve) == ["1", "3-5"]
    assert curve.index.tolist() == users.tolist() and curve["3-5"].isna().sum() == 8
