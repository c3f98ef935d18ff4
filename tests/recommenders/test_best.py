"""The best of scores that come in blocks, and lists by products, against all scores at once."""

import numpy as np
import pytest

from recommenders import nearest
from recommenders.best import CHUNK, ROOM, SAMPLE, Best, leave_out
from recommenders.interactions import Interactions, load_split
from recommenders.lists import recommend
from recommenders.nearest import BestProducts, recommend_nearest
from recommenders.vectors import knn_scorer, load_item_vectors


def best_of_blocks(scores, k, size):
    best = Best(len(scores), k, scores.dtype)
    for first in range(0, scores.shape[1], size):
        best.add(scores[:, first : first + size], first)
    return best.lists()


def assert_is_a_full_sort(scores, k, size):
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(scores, order, axis=1)
    found, theirs = best_of_blocks(scores, k, size)
    assert np.array_equal(theirs, values)
    assert np.array_equal(found, np.where(values > -np.inf, order, -1))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 7, 100, 300])
@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, 1000, SAMPLE, SAMPLE + 1, 9000])
def test_blocks_of_any_size_give_what_a_full_sort_gives(kind, k, size):
    rng = np.random.default_rng(k + size)
    scores = rng.standard_normal((4, 9000)).astype(kind)
    scores[1] = np.sort(scores[1])  # each is better than all before, so that room is made often
    scores[2] = np.round(3 * scores[2])  # hundreds are equal
    scores[3, rng.random(9000) < 0.98] = -np.inf
    assert_is_a_full_sort(scores, k, size)


def test_more_equal_ones_than_there_is_room_for_come_in_order_of_item():
    k = 5
    scores = np.zeros((2, 3 * (ROOM * k + CHUNK)), np.float32)
    scores[1, -1] = 1
    assert_is_a_full_sort(scores, k, 10)
    assert_is_a_full_sort(scores, k, scores.shape[1])


@pytest.mark.parametrize("k", [1, 7, 100])
@pytest.mark.parametrize("size", [1, 50, 700])
def test_columns_and_rows_of_blocks_in_turn_give_what_a_full_sort_gives(k, size):
    rng = np.random.default_rng(k + size)
    scores = rng.standard_normal((CHUNK + 3, 2000)).astype(np.float32)
    scores[1], scores[2] = np.sort(scores[1]), -np.inf
    scores[2, :40] = 1 + np.arange(40)
    best = Best(len(scores), k, scores.dtype)
    for turn, first in enumerate(rng.permutation(range(0, 2000, size))):
        block = scores[:, first : first + size]
        if turn % 3 == 2:
            best.add(block, first)
        else:
            best.add_columns(np.ascontiguousarray(block.T), first)
    found, values = best.lists()
    order = np.argsort(-scores, axis=1)[:, :k]
    expected = np.take_along_axis(scores, order, axis=1)
    assert np.array_equal(values, expected)
    assert np.array_equal(found, np.where(expected > -np.inf, order, -1))


def test_of_more_equal_columns_than_there_is_room_for_the_first_that_came_stay():
    k = 5
    n = 3 * (ROOM * k + CHUNK)
    best = Best(CHUNK, k, np.float32)
    for first in range(0, n, 10):
        best.add_columns(np.zeros((10, CHUNK), np.float32), first)
    best.add_columns(np.ones((1, CHUNK), np.float32), n)
    assert (best.lists()[0] == [n, 0, 1, 2, 3]).all()


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK + 2])
def test_a_column_that_is_not_a_number_is_an_error(place):
    scores = np.zeros((3, CHUNK + 3), np.float32)
    scores[1, place] = np.nan
    with pytest.raises(ValueError, match=f"column {place} holds NaN"):
        Best(CHUNK + 3, 2, np.float32).add_columns(scores, 0)


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e38, np.inf])
def test_numbers_at_the_ends_of_the_floats_are_told_apart(scale):
    rng = np.random.default_rng(0)
    steps = rng.permutation(np.arange(-1500, 1500))
    row = np.where(steps == 0, 0, steps * np.float32(1e-45) if scale == 1e-45 else steps / 1500)
    with np.errstate(invalid="ignore", over="ignore"):
        scores = np.nan_to_num(np.float32(row) * np.float32(1 if scale == 1e-45 else scale), nan=0)
    assert_is_a_full_sort(scores[None].astype(np.float32), 40, 500)


@pytest.mark.parametrize("place", [0, 70, 4999])
def test_a_score_that_is_not_a_number_is_an_error_in_any_block(place):
    scores = np.zeros((3, 5000), np.float32)
    scores[:, :20] = 9  # so that later ones are below the floor
    scores[2, place] = np.nan
    with pytest.raises(ValueError, match="scores row 2 holds NaN"):
        best_of_blocks(scores, 5, 1000)


def test_what_a_row_holds_is_left_out_of_its_block_and_of_no_other():
    offsets, items = np.array([0, 0, 4]), np.array([9, 2, 5, 4])  # in any order
    scores = np.zeros((2, 3), np.float32)
    leave_out(scores, 3, np.array([1, 0]), offsets, items)
    assert scores.tolist() == [[0, -np.inf, -np.inf], [0, 0, 0]]


@pytest.mark.parametrize(("users", "tracks"), [(3, 7), (5, 1000), (1000, 1)])
@pytest.mark.parametrize("offset", [0, 1000])
def test_lists_by_products_are_those_of_all_scores(monkeypatch, toy_root, users, tracks, offset):
    split = load_split(toy_root(users=40))
    vectors = load_item_vectors(toy_root("again", users=40), "toy", split)
    vectors = vectors + np.float32(offset)  # beyond 999 they are compared in float64
    monkeypatch.setattr(nearest, "USERS", users)
    monkeypatch.setattr(nearest, "TRACKS", tracks)
    cosines = knn_scorer(split.train, vectors)
    expected = recommend(cosines, split, k=20)
    lists = recommend_nearest(cosines, split, k=20)
    assert lists.items.tolist() == expected.items.tolist()
    assert lists.users.tolist() == expected.users.tolist()
    assert lists.scores.dtype == np.float32
    np.testing.assert_allclose(lists.scores, expected.scores, atol=1e-6)


def test_heard_tracks_out_of_order_are_refused_instead_of_listed():
    heard = Interactions(
        np.arange(1), np.array([0, 2]), np.array([3, 1]), np.zeros(2, "M8[us]"), np.ones(2, int)
    )
    with pytest.raises(ValueError, match="in the order of item_idx"):
        BestProducts(np.ones((5, 2), np.float32), heard)
