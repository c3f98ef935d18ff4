"""Paired statistics against scipy, closed forms and planted differences."""

import itertools

import numpy as np
import pytest
from scipy import stats

from evaluation.paired import (
    bootstrap_interval,
    effects,
    enough_permutations,
    holm,
    letters,
    permutation_p,
)

PAIR = np.array([[0, 1]])


def columns(n, shift=0.0, seed=0, m=2):
    """Return values (n, m): alike in law, correlated over users, the first higher by shift."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 1)) + rng.normal(size=(n, m))
    values[:, 0] += shift
    return values


def test_the_permutation_test_agrees_with_scipys_over_all_sign_flips():
    for seed in range(4):
        values = columns(10, shift=0.6, seed=seed)
        exact = stats.permutation_test(
            (values[:, 0], values[:, 1]),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            n_resamples=np.inf,
            vectorized=True,
        ).pvalue
        found = permutation_p(values, PAIR, permutations=40_000)[0]
        assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / 40_000) + 1e-4)


def test_flips_that_give_the_same_sum_count_as_reaching_it():
    # HitRates: 7 users differ, all in favour of one. Of 2^7 flips two reach a sum of 7.
    values = np.zeros((30, 2))
    values[:7, 0] = 1 / 3 + 1 / 3 + 1 / 3
    values[7:12] = 1
    found = permutation_p(values, PAIR, permutations=50_000)[0]
    assert found == pytest.approx(2 / 2**7, abs=0.002)


def test_equal_columns_have_p_1_no_effect_and_an_interval_of_nothing():
    values = np.repeat(columns(50)[:, :1], 2, axis=1)
    assert permutation_p(values, PAIR).tolist() == [1]
    assert {name: v.tolist() for name, v in effects(values, PAIR).items()} == {
        "difference": [0],
        "effect_size": [0],
        "better_a": [0],
        "better_b": [0],
    }
    assert np.array(bootstrap_interval(values, PAIR)).tolist() == [[0], [0]]


def test_the_bootstrap_interval_is_scipys_and_close_to_students():
    values = columns(400, shift=0.2)
    difference = values[:, 0] - values[:, 1]
    low, high = (bound[0] for bound in bootstrap_interval(values, PAIR, resamples=20_000))
    same = stats.bootstrap(
        (difference,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    student = stats.t.interval(0.95, 399, loc=difference.mean(), scale=stats.sem(difference))
    width = high - low
    assert (low, high) == pytest.approx(tuple(same), abs=0.03 * width)
    assert (low, high) == pytest.approx(student, abs=0.03 * width)


def test_many_pairs_at_once_are_the_same_as_each_alone():
    values = columns(37, shift=0.4, m=5)
    pairs = np.array(list(itertools.combinations(range(5), 2)))
    together = permutation_p(values, pairs, permutations=700)
    low, high = bootstrap_interval(values, pairs, resamples=700)
    for place, pair in enumerate(pairs):
        own = values[:, pair]
        assert permutation_p(own, PAIR, permutations=700)[0] == together[place]
        alone = bootstrap_interval(own, PAIR, resamples=700)
        assert (alone[0][0], alone[1][0]) == pytest.approx((low[place], high[place]))


def test_effects_are_the_plain_formulas():
    values = np.array([[3.0, 1, 2], [2, 2, 0], [5, 1, 7], [0, 1, 1]])
    pairs = np.array([[0, 1], [2, 0]])
    found = effects(values, pairs)
    for place, (a, b) in enumerate(pairs):
        difference = values[:, a] - values[:, b]
        assert found["difference"][place] == difference.mean()
        t = stats.ttest_rel(values[:, a], values[:, b]).statistic
        assert found["effect_size"][place] == pytest.approx(t / np.sqrt(4))
    assert found["better_a"].tolist() == [0.5, 0.5]
    assert found["better_b"].tolist() == [0.25, 0.5]


def plain_holm(p):
    """The procedure as Holm wrote it: the smallest alpha at which each is rejected."""
    adjusted = []
    for own in p:
        for alpha in sorted({min(1, q * f) for q in p for f in range(1, len(p) + 1)}):
            rejected, left = set(), sorted(range(len(p)), key=lambda i: p[i])
            while left and p[left[0]] * len(left) <= alpha + 1e-12:
                rejected.add(left.pop(0))
            if any(p[i] == own for i in rejected):
                adjusted.append(alpha)
                break
        else:
            adjusted.append(1.0)
    return adjusted


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.2], [0.5, 0.01, 0.6, 0.01], [1, 1]])
def test_holms_adjusted_p_is_the_smallest_level_at_which_his_procedure_rejects(p):
    assert holm(np.array(p)).tolist() == pytest.approx(plain_holm(p))


def test_letters_are_shared_exactly_by_those_that_are_not_apart():
    rng = np.random.default_rng(0)
    for n in range(1, 8):
        for _ in range(20):
            pairs = list(itertools.combinations(range(n), 2))
            apart = [pair for pair in pairs if rng.random() < 0.5]
            found = letters(n, np.array(apart).reshape(-1, 2))
            for a, b in pairs:
                assert bool(set(found[a]) & set(found[b])) == ((a, b) not in apart)
            assert all(found), "everything has a letter"
    assert letters(4, np.array([[0, 2], [0, 3], [1, 3]])) == ["a", "ab", "bc", "c"]
    assert letters(3, np.array([[2, 0], [2, 1]])) == ["a", "a", "b"]


def simulate(shift, simulations, n):
    """Return p and intervals of that many independent studies of n users, made as columns."""
    values = np.concatenate([columns(n, shift, seed) for seed in range(simulations)], axis=1)
    pairs = np.arange(2 * simulations).reshape(-1, 2)
    p = permutation_p(values, pairs, permutations=999)
    return p, bootstrap_interval(values, pairs, resamples=999)


def test_false_positives_power_and_coverage_are_as_promised():
    # 1,000 studies of 60 users: a rate of .05 has a standard error of .007.
    p, (low, high) = simulate(0, 1000, n=60)
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.025)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.945, abs=0.03)
    # The differences have deviation sqrt(2); the t-test's power is the noncentral t's.
    shift, n = 0.6, 60
    bound = stats.t.ppf(0.975, n - 1)
    power = 1 - stats.nct.cdf(bound, n - 1, shift / np.sqrt(2 / n))
    p, _ = simulate(shift, 500, n=n)
    assert np.mean(p < 0.05) == pytest.approx(power, abs=0.06) and power > 0.8


def test_holm_keeps_a_family_of_ten_null_pairs_at_its_level():
    # Five equal columns in each of 300 families: any rejection is wrong.
    families = [columns(40, 0, seed, m=5) for seed in range(300)]
    inside = np.array(list(itertools.combinations(range(5), 2)))
    pairs = np.concatenate([inside + 5 * f for f in range(300)])
    p = permutation_p(np.concatenate(families, axis=1), pairs, permutations=999)
    wrong = [holm(own).min() < 0.05 for own in p.reshape(300, 10)]
    plain = [own.min() < 0.05 for own in p.reshape(300, 10)]
    assert np.mean(wrong) < 0.09 < np.mean(plain)


def test_enough_flips_are_made_for_many_pairs():
    assert enough_permutations(45) == 10_000
    n = enough_permutations(1225)
    assert holm(np.append(1 / (1 + n), np.ones(1224)))[0] < 0.05
