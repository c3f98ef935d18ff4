"""Neighbours of every track: those that a comparison of all vectors in float64 finds."""

import numpy as np
import pytest

from reporting import neighbours
from reporting.neighbours import all_nearest, narrowed

K = 8


def low_rank(n=2000, width=300, rank=20, noise=0.02):
    """Return vectors that lie near few directions, the third without one and the last two alike."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, width))
    vectors = (vectors + noise * np.abs(vectors).mean() * rng.standard_normal((n, width))) + 1
    vectors[2], vectors[-1] = 0, vectors[-2]
    return vectors.astype(np.float32)


def brute(vectors):
    """Return all cosines float64 (n, n), -inf to itself and where there is no vector."""
    lengths = np.linalg.norm(vectors.astype(float), axis=1)
    units = vectors / np.where(lengths > 0, lengths, 1)[:, None]
    cosines = units @ units.T
    cosines[lengths == 0] = cosines[:, lengths == 0] = -np.inf
    np.fill_diagonal(cosines, -np.inf)
    return cosines


def check(vectors):
    places, cosines = (np.concatenate(each) for each in zip(*all_nearest(vectors, K), strict=True))
    known = brute(vectors)
    best = -np.sort(-known, axis=1)[:, :K]
    there = np.isfinite(best)
    assert (places[~there] == -1).all() and (cosines[~there] == 0).all()
    np.testing.assert_allclose(cosines[there], best[there], atol=2e-6)
    found = np.take_along_axis(known, np.where(there, places, 0), axis=1)
    np.testing.assert_allclose(found[there], best[there], atol=2e-6)
    assert all(len(set(row)) == K for row in places[there.all(axis=1)])


@pytest.mark.parametrize("few", [100, 10_000], ids=["on axes", "whole"])
def test_the_neighbours_are_those_of_a_comparison_of_all(monkeypatch, few):
    monkeypatch.setattr(neighbours, "FEW", few)
    vectors = low_rank()
    units = neighbours.unit_rows(vectors)
    axes = narrowed(units, units.any(axis=1), K)
    assert (axes is None) == (few > len(vectors)) and (axes is None or axes.shape[1] == 64)
    check(vectors)


def test_axes_are_added_until_no_neighbour_is_missed_and_given_up_where_all_matter(monkeypatch):
    monkeypatch.setattr(neighbours, "FEW", 100)
    tried, widest = [], neighbours._widest

    def counted(sample, axes, rng):
        tried.append(axes)
        return widest(sample, axes, rng)

    monkeypatch.setattr(neighbours, "_widest", counted)
    check(low_rank(rank=120, noise=0))
    assert tried == [64, 128], "64 axes of 120 miss neighbours"
    tried.clear()
    check(np.random.default_rng(0).standard_normal((2000, 300)).astype(np.float32))
    assert tried == [64, 128], "noise has no few axes"


@pytest.mark.parametrize("n", range(1, 12))
def test_in_rounds_everybody_meets_everybody_once_and_nobody_twice_at_a_time(n):
    rounds = list(neighbours._rounds(n))
    met = [frozenset(pair) for pairs in rounds for pair in pairs]
    assert len(met) == len(set(met)) == n * (n + 1) // 2
    for pairs in rounds[1:]:
        there = [each for pair in pairs for each in pair]
        assert len(there) == len(set(there)) <= n
