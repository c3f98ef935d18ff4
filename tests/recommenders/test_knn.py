"""KNN: rescaled vectors, one matrix in memory, the plain search's lists."""

import numpy as np
import pytest

from benchmarks import plain
from knn import rescale
from recommenders.interactions import load_split
from recommenders.lists import recommend
from recommenders.vectors import knn_scorer, load_item_vectors


def raw(seed=0):
    """Vectors ruled by one direction, with one dimension that never varies."""
    vectors = np.random.default_rng(seed).normal(size=(9000, 6)) * [1, 2, 3, 0.1, 5, 0] + 100
    return vectors.astype(np.float32)


@pytest.mark.parametrize(("center", "standardize"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_vectors_are_centred_or_standardized_a_dimension(center, standardize):
    expected = raw().astype(float)
    if center or standardize:
        expected -= expected.mean(axis=0)
    if standardize:
        expected /= np.where(expected.std(axis=0) > 0, expected.std(axis=0), 1)
    found = rescale(raw(), center, standardize)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    if center or standardize:
        assert not found[:, 5].any(), "it never varies"


def test_the_published_search_and_the_plain_one_give_the_same_lists(toy_root):
    split = load_split(toy_root(users=40))
    vectors = load_item_vectors(toy_root("again", users=40), "toy", split)
    n = len(split.eval_users)
    lists = [search(split, vectors, n, 10) for search in (plain.knn, plain.knn_index)]
    assert lists[0] == lists[1] and all(len(own) == 10 for own in lists[0])


@pytest.mark.parametrize("overwrite", [True, False])
def test_lists_are_those_of_the_plain_search_up_to_scores_that_are_nearly_equal(
    toy_root, overwrite
):
    split = load_split(toy_root(users=40))
    vectors = load_item_vectors(toy_root("again", users=40), "toy", split)
    expected = plain.knn(split, vectors, len(split.eval_users), k=20)
    scores = knn_scorer(split.train, vectors.copy())(split.eval_users).copy()
    before = vectors.copy()
    lists = recommend(knn_scorer(split.train, vectors, overwrite=overwrite), split, k=20).matrix()
    assert np.array_equal(vectors, before) != overwrite
    for row, (found, wanted) in enumerate(zip(lists, expected, strict=True)):
        np.testing.assert_allclose(scores[row][found], scores[row][wanted], atol=1e-6)


def test_a_row_of_zeros_stays_zero_where_the_matrix_is_overwritten(toy_root):
    split = load_split(toy_root())
    vectors = load_item_vectors(toy_root("again"), "toy", split)
    vectors[3] = 0
    scores = knn_scorer(split.train, vectors, overwrite=True)(split.eval_users)
    assert np.isfinite(scores).all() and not scores[:, 3].any()
