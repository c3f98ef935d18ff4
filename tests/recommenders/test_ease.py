"""EASE against the closed form as its paper gives it, and the baselines' choice of its penalty."""

import numpy as np
import pytest
import yaml

from core.options import InputError, WorkError
from core.registry import CONTROLS
from recommenders import ease
from recommenders.ease import ease_scorer, inverse_gram
from recommenders.interactions import load_split


def plain_scores(split, l2):
    """X B of every user, B by the paper's algorithm: P from the tracks' Gram matrix."""
    x = np.zeros((split.n_users, split.n_items))
    for user in range(split.n_users):
        x[user, split.train.of(user)] = 1
    p = np.linalg.inv(x.T @ x + l2 * np.eye(split.n_items))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    return x @ b, x > 0


@pytest.mark.parametrize("l2", [0.5, 30])
@pytest.mark.parametrize(
    "sizes",
    [{"users": 24, "tracks": 160}, {"users": 130, "tracks": 160}, {"users": 96, "tracks": 60}],
)
@pytest.mark.parametrize("block", [7, 1024])
def test_scores_are_the_papers_whichever_side_is_inverted(toy_root, l2, sizes, block, monkeypatch):
    monkeypatch.setattr(ease, "BLOCK", block)
    split = load_split(toy_root(**sizes))
    assert (split.n_users <= split.n_items) == (sizes["users"] < sizes["tracks"])
    expected, heard = plain_scores(split, l2)
    score = ease_scorer(split.train, split.n_items, l2)
    for users in (np.arange(split.n_users), np.array([5, 3])):
        found = score(users)
        unheard = ~heard[users]
        np.testing.assert_allclose(found[unheard], expected[users][unheard], atol=1e-10)


@pytest.mark.parametrize("sizes", [{"users": 24, "tracks": 160}, {"users": 96, "tracks": 60}])
def test_large_sides_are_inverted_in_float32_where_that_is_near_enough(
    toy_root, sizes, monkeypatch
):
    split = load_split(toy_root(**sizes))
    expected, heard = plain_scores(split, 30)
    users = np.arange(split.n_users)
    exact = ease_scorer(split.train, split.n_items, 30)(users)
    monkeypatch.setattr(ease, "SMALL", 10)
    found = ease_scorer(split.train, split.n_items, 30)(users)
    np.testing.assert_allclose(found[~heard], expected[~heard], rtol=2e-5, atol=1e-6)
    assert not np.array_equal(found, exact)
    monkeypatch.setattr(ease, "NEAR", 1e-12)
    assert np.array_equal(ease_scorer(split.train, split.n_items, 30)(users), exact)


def test_what_cannot_be_inverted_is_refused_by_name(toy_root, monkeypatch):
    split = load_split(toy_root())
    with pytest.raises(InputError, match="--l2 must be above 0, got 0"):
        ease_scorer(split.train, split.n_items, 0)
    twice = np.zeros((2, 3))
    twice[:, 0] = 1
    from scipy.sparse import csr_matrix

    with pytest.raises(WorkError, match="not positive definite at --l2 1e-30; use a larger one"):
        inverse_gram(csr_matrix(twice), 1e-30)
    monkeypatch.setattr(ease, "MOST", 10)
    with pytest.raises(InputError, match="of 24 rows here.*at most 10: leave ease out of --only"):
        ease_scorer(split.train, split.n_items, 1)


def test_the_penalty_is_the_best_on_validation_and_recorded(toy_root, call, capsys):
    root = toy_root(users=96)
    call("baselines", "--root", root, "--only", "ease", "--l2", "1000,20,5")
    folder = root / "runs" / "ease-none-s1"
    chosen = yaml.safe_load((folder / "config.yaml").read_text())["chosen_l2"]
    said = [line.split() for line in capsys.readouterr().out.splitlines() if line[:4] == "EASE"]
    values = {float(line[3].rstrip(":")): float(line[5]) for line in said}
    assert list(values) == [1000, 20, 5]
    assert values[chosen] == max(values.values())

    call("baselines", "--root", root, "--only", "ease", "--l2", chosen, "--tag", "alone")
    alone = root / "runs" / "ease-none-alone-s1"
    assert (alone / "recs.pqt").read_bytes() == (folder / "recs.pqt").read_bytes()
    with pytest.raises(InputError, match="--l2 must be above 0, got 5.0, 0.0"):
        call("baselines", "--root", root, "--l2", "5,0")
    with pytest.raises(InputError, match=f"--only knows {', '.join(CONTROLS)}, got 'elsie'"):
        call("baselines", "--root", root, "--only", "elsie")
