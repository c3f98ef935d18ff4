"""The level of chance against scipy, enumeration and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from evaluation.chance import chance
from evaluation.measures import METRICS, list_metrics


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9])
def test_it_is_the_mean_over_all_orders_of_the_candidates(k):
    for wanted, among in ((1, 5), (2, 5), (5, 5), (3, 6)):
        orders = np.array(list(itertools.permutations(range(among))))
        tracks = np.tile(np.arange(wanted), len(orders))
        lists = list_metrics(orders, np.full(len(orders), wanted), tracks, k)
        found = chance(np.array([wanted]), np.array([among]), k)
        for name in METRICS:
            assert found[name][0] == pytest.approx(lists[name].mean(), rel=1e-9), name


def test_hits_are_scipys_hypergeometric_at_the_studys_size():
    held_out, candidates = np.array([1, 22, 22, 900]), np.array([56_000, 55_893, 41_000, 50_000])
    found = chance(held_out, candidates, 50)
    miss = stats.hypergeom.pmf(0, candidates, held_out, 50)
    assert found["HitRate"] == pytest.approx(1 - miss, rel=1e-7)
    assert found["Precision"] == pytest.approx(
        stats.hypergeom.mean(candidates, held_out, 50) / 50, rel=1e-12
    )
    assert found["Recall"].tolist() == (50 / candidates).tolist()
