"""The epochs that are timed are those of the made-up data, in whole or in part."""

import json

import numpy as np
import pytest

from benchmarks.bench_epochs import EpochConfig, held_out, main
from benchmarks.full_size import Size, train_part
from core.options import InputError

SMALL = {"users": 60, "tracks": 90, "pairs": 900, "widths": (8,)}


def test_both_networks_are_timed_and_held_out_pairs_are_not_trained_on(capsys):
    main(EpochConfig(batches=1, **SMALL))
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert set(found) == {"shallow-8", "bert4rec-8"}
    for each in found.values():
        assert each["ratio"] > 0 and each["epoch"] > 0 and each["peak"] > 0
    assert out.count("both checkpoints") == 2

    whole = train_part(Size(users=60, tracks=90, pairs=900), 0)
    train, val = held_out(whole, 0)
    pairs = [set(zip(p.user_of_pair, p.items, strict=True)) for p in (train, val)]
    assert pairs[0].isdisjoint(pairs[1]) and len(val.items) > 0
    assert pairs[0] | pairs[1] == set(zip(whole.user_of_pair, whole.items, strict=True))
    assert np.diff(train.offsets).min() > 0


def test_sizes_that_are_none_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        EpochConfig(users=0)
    with pytest.raises(InputError, match="shallow, bert4rec, got 'knn'"):
        EpochConfig(only="knn")
