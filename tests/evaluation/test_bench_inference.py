"""bench_inference: rates of equal rows, on made-up seeds, and runs that it refuses."""

import numpy as np
import pytest
from test_table import write_run

from benchmarks.bench_inference import InferenceConfig, main, rates
from core.options import InputError


def test_seeds_that_differ_by_luck_are_called_different_by_users_alone_only(tmp_path, capsys):
    rng = np.random.default_rng(0)
    values = rng.normal(size=150) + rng.normal(size=(8, 1)) + 0.2 * rng.normal(size=(8, 150))
    config = InferenceConfig(runs="*", root=tmp_path, trials=60, effect=0.0)
    alone, both, bootstrap, power = rates(values, 150, 3, config)
    assert alone > 0.5 and both < 0.2 and power == both
    assert rates(values, 400, 1, config)[1:] == [None, None, None]
    for seed, row in enumerate(values[:4]):
        write_run(tmp_path, "shallow", "toy", seed, row)
    main(InferenceConfig(runs="*", root=tmp_path, users=(50,), seeds=(1, 5), trials=5))
    assert "needs 10 runs" in capsys.readouterr().out
    write_run(tmp_path, "knn", "toy", 1, values[0])
    with pytest.raises(InputError, match="must be seeds of one row with NDCG@50"):
        main(InferenceConfig(runs="*", root=tmp_path))
