"""Lists from scores on a device: those of recommend.top_k, in the same order."""

import numpy as np
import pytest
import torch

from recommenders import lists
from recommenders.interactions import Interactions, load_split
from recommenders.lists import recommend, top_k
from training.device_lists import DeviceTopK, recommend_on


def histories_of(rng, n_users, n_items) -> Interactions:
    """From nothing heard to everything but two tracks."""
    lengths = rng.integers(0, n_items - 1, size=n_users)
    items = [np.sort(rng.choice(n_items, size=n, replace=False)) for n in lengths]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate(items)
    return Interactions(np.arange(n_users), offsets, flat, flat, flat)


def assert_agrees(scores, train, users, k, device="cpu"):
    expected = top_k(scores.copy(), [train.of(user) for user in users], k)
    on_device = torch.tensor(scores, device=device)
    found, values = DeviceTopK(train, device)(on_device, users, k)
    assert found.tolist() == expected.tolist()
    wanted = np.take_along_axis(scores, expected.clip(min=0), axis=1)
    assert np.array_equal(values, np.where(expected < 0, -np.inf, wanted).astype(np.float32))


@pytest.mark.parametrize("values", [1, 2, 50, 10**6])
@pytest.mark.parametrize(("n_items", "k"), [(7, 3), (40, 40), (30, 99), (400, 5), (3001, 7)])
def test_lists_are_those_of_the_plain_arrays_with_many_and_with_few_equal_scores(
    n_items, k, values
):
    rng = np.random.default_rng(values + n_items)
    train = histories_of(rng, 30, n_items)
    users = rng.permutation(30)[:25]
    scores = rng.integers(values, size=(25, n_items)).astype(np.float32)
    assert_agrees(scores, train, users, k)
    assert_agrees(-scores, train, users, k)


def test_infinite_scores_are_ranked_and_minus_infinity_is_in_no_list():
    rng = np.random.default_rng(0)
    train = histories_of(rng, 5, 60)
    scores = rng.choice(np.array([np.inf, -np.inf, 0, 1, -0.0], np.float32), size=(5, 60))
    assert_agrees(scores, train, np.arange(5), 20)


@pytest.mark.parametrize("n_items", [5, 3000])
@pytest.mark.parametrize("place", [0, -1])
def test_a_score_that_is_not_a_number_is_an_error_that_names_its_row(n_items, place):
    nobody_heard = Interactions(np.arange(3), np.zeros(4, int), *[np.zeros(0, int)] * 3)
    scores = torch.zeros(3, n_items)
    scores[1, place] = torch.nan
    with pytest.raises(ValueError, match="scores row 1 holds NaN"):
        DeviceTopK(nobody_heard, "cpu")(scores, np.arange(3), 2)


@pytest.fixture
def split(toy_root):
    return load_split(toy_root())


def table_of(split):
    table = np.random.default_rng(0).normal(size=(split.n_users, split.n_items))
    return table.astype(np.float32)


@pytest.mark.parametrize("block", [1, 5, 100, None])
def test_a_study_on_a_device_gets_the_lists_it_gets_from_arrays(split, block):
    table = table_of(split)
    plain = recommend(lambda rows: table[rows], split, k=10)
    options = {"k": 10, "block": block}

    def score(rows):
        return torch.tensor(table[rows])

    on_device = recommend(score, split, best=DeviceTopK(split.masked, "cpu"), **options)
    for found in (on_device, recommend_on("cpu", score, split, **options)):
        for name in ("users", "items", "ranks", "scores"):
            assert np.array_equal(getattr(found, name), getattr(plain, name)), name
            assert getattr(found, name).dtype == getattr(plain, name).dtype


def test_memory_for_scores_follows_the_block_and_not_the_users(split, monkeypatch):
    monkeypatch.setattr(lists, "BLOCK_BYTES", 4 * split.n_items * 7)
    asked = []

    def score(users):
        asked.append(len(users))
        return torch.tensor(table_of(split)[users])

    recommend_on("cpu", score, split)
    assert max(asked) == 7 and sum(asked) == len(split.eval_users)


@pytest.mark.gpu
def test_a_gpu_makes_the_same_lists():
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    rng = np.random.default_rng(0)
    train = histories_of(rng, 50, 5000)
    for values in (1, 50, 10**6):
        scores = rng.integers(values, size=(50, 5000)).astype(np.float32)
        assert_agrees(scores, train, np.arange(50), 30, "cuda")
