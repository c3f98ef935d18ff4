"""recommenders/known.py beside the plain set of pairs."""

import numpy as np
import pytest
import torch

from recommenders.known import KnownPairs

N_USERS, N_ITEMS = 13, 29


@pytest.fixture(params=[0, 1, 7, 200, N_USERS * N_ITEMS], ids="{} pairs".format)
def keys(request):
    drawn = np.random.default_rng(request.param).permutation(N_USERS * N_ITEMS)
    return np.sort(drawn[: request.param])


@pytest.fixture(params=["searched", "a map", "a map, as on a GPU"])
def make(request, monkeypatch):
    """keys, anchored_at_items -> the set in one of the forms that it has."""

    def build(keys, anchored_at_items):
        asked = 0 if request.param == "searched" else 1 << 20
        known = KnownPairs(
            keys, N_USERS, N_ITEMS, anchored_at_items=anchored_at_items, asked=asked, device="cpu"
        )
        assert (known.bits is None) == (asked == 0)
        if request.param.endswith("GPU"):
            known.on_cpu = False
        return known

    return build


@pytest.mark.parametrize("anchored_at_items", [False, True])
def test_it_contains_what_it_was_made_of_and_nothing_else(keys, make, anchored_at_items):
    users, items = (each.ravel() for each in np.indices((N_USERS, N_ITEMS)))
    order = np.random.default_rng(1).permutation(len(users))
    anchors, others = (items, users) if anchored_at_items else (users, items)
    found = make(keys, anchored_at_items).contain(
        torch.as_tensor(anchors[order]), torch.as_tensor(others[order])
    )
    assert np.array_equal(found.numpy(), np.isin((users * N_ITEMS + items)[order], keys))


@pytest.mark.parametrize("anchored_at_items", [False, True])
def test_what_is_free_of_an_anchor_is_what_it_is_in_no_pair_with(keys, make, anchored_at_items):
    known, matrix = make(keys, anchored_at_items), np.zeros((N_USERS, N_ITEMS), bool)
    matrix.flat[keys] = True
    for anchor, row in enumerate(matrix.T if anchored_at_items else matrix):
        free = known.free_of(torch.tensor(anchor))
        assert free.tolist() == np.flatnonzero(~row).tolist()
