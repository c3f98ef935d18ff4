"""KNN: one matrix in memory, the plain search's lists, vectors that are nearly parallel."""

import numpy as np
import pytest

from benchmarks import plain
from recommenders.interactions import load_split
from recommenders.lists import recommend
from recommenders.vectors import knn_scorer, load_item_vectors


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


@pytest.mark.parametrize("offset", [50, 1000])
@pytest.mark.parametrize("overwrite", [True, False])
def test_nearly_parallel_vectors_keep_their_neighbours_and_are_said_to_be_so(
    toy_root, capsys, offset, overwrite
):
    split = load_split(toy_root(users=40))
    rng = np.random.default_rng(0)
    vectors = (offset + rng.normal(size=(split.n_items, 16))).astype(np.float32)
    exact = vectors.astype(np.float64)
    lists = recommend(knn_scorer(split.train, vectors, overwrite=overwrite), split, k=20).matrix()
    assert "the vectors are nearly parallel, with a mean cosine of 0.99" in capsys.readouterr().out
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    for row, user in enumerate(split.eval_users):
        heard = split.train.of(user)
        mean = exact[heard].mean(axis=0)
        scores = unit @ (mean / np.linalg.norm(mean))
        scores[heard] = -np.inf
        assert lists[row].tolist() == np.argsort(-scores)[:20].tolist()
