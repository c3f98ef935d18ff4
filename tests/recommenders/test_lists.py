"""recommend.top_k against its definition, and the promises of every list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import cores as cores_module
from core.options import WorkError
from recommenders import lists as module
from recommenders.interactions import load_split
from recommenders.lists import Lists, recommend, top_k

NOTHING = np.array([], dtype=int)


def brute_force(scores, seen, k):
    """The definition, one user at a time: rank everything, skip what was heard."""
    lists = []
    for row, heard in zip(scores, seen, strict=True):
        ranked = sorted(range(len(row)), key=lambda item: (-row[item], item))
        best = [item for item in ranked if item not in set(heard)][:k]
        lists.append(best + [-1] * (min(k, len(row)) - len(best)))
    return lists


def assert_agrees(scores, seen, k):
    expected = brute_force(scores.tolist(), [s.tolist() for s in seen], k)
    assert top_k(scores.copy(), seen, k).tolist() == expected


@pytest.mark.parametrize("values", [2, 3, 50, 10**6])
@pytest.mark.parametrize(("n_items", "k"), [(7, 3), (40, 40), (400, 5), (401, 7), (1000, 1)])
def test_agrees_with_brute_force_with_many_and_with_few_equal_scores(values, n_items, k):
    rng = np.random.default_rng(values + n_items)
    scores = rng.integers(values, size=(25, n_items)).astype(np.float32)
    lengths = rng.integers(0, n_items, size=25)
    seen = [rng.choice(n_items, size=n, replace=False) for n in lengths]
    assert_agrees(scores, seen, k)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_agrees_with_brute_force_on_anything(data):
    n_users = data.draw(st.integers(1, 4), "users")
    n_items = data.draw(st.integers(1, 120), "items")
    k = data.draw(st.integers(1, 130), "k")
    numbers = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3e38, -3e38, 1e-45, np.inf])
    row = st.lists(numbers, min_size=n_items, max_size=n_items)
    scores = np.array(data.draw(st.lists(row, min_size=n_users, max_size=n_users)), np.float32)
    items = st.sets(st.integers(0, n_items - 1))
    seen = [np.array(sorted(data.draw(items)), dtype=int) for _ in range(n_users)]
    assert_agrees(scores, seen, k)


def test_never_recommends_a_heard_track_even_when_nothing_else_is_left():
    scores = np.array([[3.0, 2.0, 1.0]])
    assert top_k(scores, [np.array([0, 1])], k=3).tolist() == [[2, -1, -1]]
    assert top_k(np.ones((1, 2)), [np.array([0, 1])], k=2).tolist() == [[-1, -1]]


def test_equal_scores_come_in_item_order():
    assert top_k(np.zeros((1, 4)), [NOTHING], k=3).tolist() == [[0, 1, 2]]
    assert top_k(np.zeros((1, 5000)), [NOTHING], k=3).tolist() == [[0, 1, 2]]


def test_a_list_is_not_longer_than_the_catalogue():
    assert top_k(np.array([[1.0, 2.0]]), [NOTHING], k=100).tolist() == [[1, 0]]


@pytest.mark.parametrize("n_items", [5, 3000])
@pytest.mark.parametrize("place", [0, -1])
def test_a_score_that_is_not_a_number_is_an_error_that_names_its_row(n_items, place):
    scores = np.zeros((3, n_items), np.float32)
    scores[1, place] = np.nan
    with pytest.raises(ValueError, match="scores row 1 holds NaN"):
        top_k(scores, [NOTHING] * 3, k=2)


def test_wrong_arguments_are_errors_that_say_what_came():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        top_k(np.zeros((1, 3)), [NOTHING], k=0)
    with pytest.raises(ValueError, match="seen has 2 histories for 1 rows of scores"):
        top_k(np.zeros((1, 3)), [NOTHING] * 2, k=1)


@pytest.fixture
def split(toy_root):
    return load_split(toy_root())


def scores_of(split):
    table = np.random.default_rng(0).normal(size=(split.n_users, split.n_items))
    return table.astype(np.float32)


@pytest.mark.parametrize("block", [1, 5, 24, 100, None])
def test_lists_do_not_depend_on_how_many_users_are_scored_at_a_time(split, block):
    table, users = scores_of(split), split.eval_users
    lists = recommend(lambda rows: table[rows], split, k=10, block=block)
    expected = brute_force(table[users].tolist(), [split.train.of(u) for u in users], 10)
    assert lists.matrix().tolist() == expected
    assert lists.users.tolist() == np.repeat(users, 10).tolist()
    assert lists.ranks.tolist() == list(range(1, 11)) * len(users)
    assert lists.scores.tolist() == table[lists.users, lists.items].tolist()


@pytest.mark.parametrize("cores", [1, 2, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_rows_are_shared_out_over_the_cores_in_order_and_each_once(monkeypatch, cores, n):
    monkeypatch.setattr(cores_module.os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    parts = cores_module.by_parts(lambda rows: np.arange(n)[rows].tolist(), n)
    assert sum(parts, []) == list(range(n))
    assert len(parts) <= cores and all(parts)


@pytest.mark.parametrize(
    ("asked", "used"), [("1", 1), ("2,4", 2), ("64", 3), ("", 3), ("0", 3), ("many", 3)]
)
def test_no_more_cores_are_used_than_omp_num_threads_says(monkeypatch, asked, used):
    monkeypatch.setattr(cores_module.os, "sched_getaffinity", lambda process: {0, 1, 2})
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert cores_module.threads_to_use() == used
    assert len(cores_module.by_parts(lambda rows: rows, 12)) == used


def test_an_error_in_a_part_is_raised():
    with pytest.raises(ZeroDivisionError):
        cores_module.by_parts(lambda rows: 1 // 0, 3)


def test_memory_for_scores_follows_the_block_and_not_the_users(split, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * split.n_items * 7)
    table, asked = scores_of(split), []

    def score(users):
        asked.append(len(users))
        return table[users]

    recommend(score, split)
    assert max(asked) == 7 and sum(asked) == len(split.eval_users)


def test_what_a_user_played_in_train_is_in_no_list(split):
    everything = recommend(lambda users: scores_of(split)[users], split, k=split.n_items)
    for user in split.eval_users:
        listed = everything.items[everything.users == user]
        expected = np.setdiff1d(np.arange(split.n_items), split.train.of(user))
        assert sorted(listed) == expected.tolist()


def test_only_the_users_asked_for_get_lists(split):
    users = split.val.users
    lists = recommend(lambda rows: scores_of(split)[rows], split, users=users, k=5)
    assert np.unique(lists.users).tolist() == users.tolist()


def test_a_user_who_has_heard_everything_is_an_error_that_names_the_user(split, monkeypatch):
    last = int(split.eval_users[-1])
    of = type(split.train).of
    heard = {last: np.arange(split.n_items)}
    monkeypatch.setattr(type(split.train), "of", lambda s, row: heard.get(row, of(s, row)))
    with pytest.raises(WorkError, match=f"user {split.user_ids[last]} has heard every track"):
        recommend(lambda users: scores_of(split)[users], split)


def test_a_matrix_of_lists_ends_short_ones_in_minus_1():
    lists = Lists(np.array([4, 4, 9]), np.array([7, 5, 3]), np.array([1, 2, 1]), np.zeros(3))
    assert lists.matrix().tolist() == [[7, 5], [3, -1]]
