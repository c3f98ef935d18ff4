"""Statistics of lists and segments: by hand, by the plain definition, and at their limits."""

import math

import numpy as np
import pandas as pd
import pytest

from evaluation import measures as metrics
from evaluation.beyond import activity_groups, gini, list_statistics, popularity_groups

# Tracks 0 to 5; 0 is not in train. Four users in train know the others so often:
USERS_OF_TRACK = np.array([0, 4, 2, 2, 1, 1])


def test_statistics_are_those_computed_by_hand():
    lists = np.array([[1, 2, 4], [1, 3, -1]])
    found = list_statistics(lists, USERS_OF_TRACK, 4, 2)
    # At 2: {1, 2} and {1, 3}; three of five candidates; counts 0 0 1 1 2 in order.
    assert found["Coverage"] == 3 / 5
    assert found["Gini"] == pytest.approx((1 * 0 + 1 * 2 + 2 * 4) / (5 * 4))
    assert found["Popularity"] == (1 + 1 / 2) / 2
    assert found["Novelty"] == (0 + 1) / 2
    found = list_statistics(lists, USERS_OF_TRACK, 4, 3)
    assert found["Popularity"] == pytest.approx(((1 + 1 / 2 + 1 / 4) / 3 + (1 + 1 / 2) / 2) / 2)
    assert found["Novelty"] == pytest.approx(((0 + 1 + 2) / 3 + (0 + 1) / 2) / 2)


def test_gini_is_half_the_mean_difference_over_the_mean_and_0_when_all_are_equal():
    counts = np.random.default_rng(0).poisson(3, size=40)
    differences = np.abs(counts[:, None] - counts)
    assert gini(counts) == pytest.approx(differences.mean() / (2 * counts.mean()))
    assert gini(np.full(7, 3)) == 0
    assert gini(np.array([0] * 99 + [5])) == pytest.approx(0.99)


def test_tracks_are_cut_where_a_third_of_the_interactions_is_reached():
    users = np.array([1, 6, 3, 0, 2, 2, 1])  # 15 in all: 6 | 3 2 (11 so far) | 2 1 1
    assert popularity_groups(users).tolist() == [2, 0, 1, 2, 1, 2, 2]
    many = np.random.default_rng(0).zipf(1.5, size=3000).clip(max=200)
    groups = popularity_groups(many)
    shares = np.bincount(groups, weights=many) / many.sum()
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)
    assert many[groups == 0].min() >= many[groups == 1].max()


def test_users_are_cut_at_the_terciles_and_equals_stay_together():
    assert activity_groups(np.array([9, 1, 5, 2, 8, 4])).tolist() == [0, 2, 1, 2, 0, 1]
    assert activity_groups(np.array([3, 3, 3])).tolist() == [2, 2, 2]


def table(rows):
    return pd.DataFrame(rows, columns=["user_id", "track_idx"])


def test_segments_hold_the_plain_metrics_of_what_is_in_them():
    rng = np.random.default_rng(0)
    users, tracks = 60, 80
    popularity = 1 / np.arange(1, tracks + 1)
    train, truth = [], []
    for user in range(users):
        own = rng.choice(tracks, size=8 + user // 4, replace=False, p=popularity / popularity.sum())
        (truth if user % 2 else train).extend((user, t) for t in own[:5])
        train.extend((user, t) for t in own[5:])
    train = table(train + [(999, t) for t in range(tracks)])
    truth = table(truth)
    lists = np.stack([rng.permutation(tracks)[:20] for _ in range(users // 2)])
    found = metrics.segment_metrics(train, truth, lists, (5, 20))

    groups = np.array(["head", "middle", "tail"])
    of_track = groups[popularity_groups(np.bincount(train.track_idx))]
    by_user = train.groupby("user_id").size()
    of_user = dict(zip(by_user.index, groups[activity_groups(by_user.to_numpy())], strict=True))
    expected = 0
    for row, user in enumerate(range(1, users, 2)):
        held_out = truth.track_idx[truth.user_id == user].to_numpy()
        wanted = [("activity", of_user[user], held_out)]
        wanted += [("popularity", g, held_out[of_track[held_out] == g]) for g in groups]
        for by, group, own in wanted:
            if not len(own):
                continue
            expected += 1
            line = found[(found.user_id == user) & (found.by == by) & (found.group == group)]
            for k in (5, 20):
                ranks = [r for r, t in enumerate(lists[row, :k], 1) if t in own]
                ideal = sum(1 / math.log2(r + 1) for r in range(1, min(len(own), k) + 1))
                assert line[f"HitRate@{k}"].item() == bool(ranks)
                assert line[f"Recall@{k}"].item() == len(ranks) / len(own)
                assert line[f"NDCG@{k}"].item() == pytest.approx(
                    sum(1 / math.log2(r + 1) for r in ranks) / ideal
                )
    assert len(found) == expected


def test_a_run_says_how_its_lists_use_the_catalogue(toy_root, call):
    import json

    root = toy_root()
    call("baselines", "--root", root, "--only", "popular,random_lists")
    found = {}
    for name in ("popular", "random_lists"):
        run = root / "runs" / f"{name}-none-s1"
        found[name] = json.loads((run / "metrics.json").read_text())["lists"]
        for part in ("val", "test"):
            names = {
                f"{n}@{k}"
                for n in ("Coverage", "Gini", "Popularity", "Novelty")
                for k in (10, 20, 50, 100)
            }
            assert set(found[name][part]) == names
    for part in ("val", "test"):
        popular, random = found["popular"][part], found["random_lists"][part]
        assert popular["Coverage@10"] < random["Coverage@10"]
        assert popular["Gini@10"] > random["Gini@10"]
        assert popular["Popularity@10"] > random["Popularity@10"]
        assert popular["Novelty@10"] < random["Novelty@10"]
