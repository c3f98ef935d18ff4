"""How often are networks, or shuffles, of one embedding called different? Which gain is found?

    python -m benchmarks.bench_inference --root R --runs 'shallow-musicnn-s*'
    python -m benchmarks.bench_inference --root R --runs 'knn-mfcc-shuffled-s*' --seeds 1,3,5
    python -m benchmarks.bench_inference --root R --runs 'shallow-noise-s*' --users 171,1000,6092

Reads   ROOT/runs/PATTERN   finished runs that differ in their seed alone (or shuffle, or noise):
                            trained once, and kept; twice the largest --seeds at least
Prints  for each number of users and seeds, the share of p below .05 between two rows of so many
        seeds each, drawn from the runs without a common one, on users drawn from the test users:
        by users alone (the sign-flip test's t), by users and seeds (evaluation/crossed.py) and by a
        bootstrap of both; then the power of the second, for a difference of --effect.

Nothing is different, so that .05 is right and .03 to .07 is near enough. Users beyond those that
there are, are drawn with replacement: their number is what is asked, not their variety.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.options import InputError, option, run
from evaluation.crossed import difference
from evaluation.results import average_seeds, read_runs

ALPHA = 0.05


@dataclass(frozen=True)
class InferenceConfig:
    runs: str = option(help="which folders under ROOT/runs, as a glob: seeds of one row")
    root: Path = option(Path("."), "folder of the runs")
    metric: str = option("NDCG@50", "of which users' values are compared")
    users: tuple[int, ...] = option((171, 1000, 6092), "numbers of test users")
    seeds: tuple[int, ...] = option((1, 3, 5), "numbers of seeds of a row")
    effect: float = option(0.01, "difference whose discovery is the power")
    trials: int = option(400, "pairs of rows for each line")
    resamples: int = option(200, "of the bootstrap, which takes nearly all of the time; 0: none")
    seed: int = option(0, "of all draws")


def main(config: InferenceConfig) -> None:
    rows = average_seeds(read_runs(config.root, config.runs))
    if len(rows) != 1 or config.metric not in rows[0].metrics:
        names = ", ".join(f"{row.recommender}-{row.embedding}" for row in rows)
        raise InputError(f"--runs must be seeds of one row with {config.metric}, got {names}")
    values = rows[0].seeds_of(config.metric)
    print(f"{len(values)} runs of {values.shape[1]:,} users, {config.metric} {values.mean():.4f}")
    print("users seeds  users alone  users and seeds  bootstrap of both  power")
    for users in config.users:
        for seeds in config.seeds:
            if 2 * seeds > len(values):
                print(f"{users:>5,} {seeds:>5}  needs {2 * seeds} runs")
                continue
            found = rates(values, users, seeds, config)
            cells = "  ".join("-".rjust(12) if x is None else f"{x:12.3f}" for x in found)
            print(f"{users:>5,} {seeds:>5}  {cells}", flush=True)


def rates(values: np.ndarray, users: int, seeds: int, config: InferenceConfig) -> list:
    """Return the shares of p below ALPHA by the three tests, and the second's power.

    Args:
        values: float64 (runs, n_users).
    """
    rng = np.random.default_rng([config.seed, users, seeds])
    called = np.zeros(4)
    for _ in range(config.trials):
        chosen = rng.permutation(len(values))[: 2 * seeds]
        drawn = rng.choice(values.shape[1], users, replace=users > values.shape[1])
        one, other = values[chosen[:seeds]][:, drawn], values[chosen[seeds:]][:, drawn]
        alone = difference(one.mean(axis=0)[None], other.mean(axis=0)[None])
        called[0] += alone.p < ALPHA
        if seeds > 1:
            called[1] += difference(one, other).p < ALPHA
            if config.resamples:
                called[2] += bootstrap_excludes_zero(one, other, rng, config.resamples)
            called[3] += difference(one + config.effect, other).p < ALPHA
    shares = list(called / config.trials)
    if not config.resamples:
        shares[2] = None
    return shares if seeds > 1 else [shares[0], None, None, None]


def bootstrap_excludes_zero(one: np.ndarray, other: np.ndarray, rng, resamples: int) -> bool:
    """Say whether the percentile interval over users and seeds, both drawn again, excludes 0."""
    seeds, n = one.shape
    found = np.empty(resamples)
    for draw in range(resamples):
        users = np.bincount(rng.integers(0, n, n), minlength=n) / n
        sides = [row[rng.integers(0, seeds, seeds)].mean(axis=0) @ users for row in (one, other)]
        found[draw] = sides[0] - sides[1]
    low, high = np.quantile(found, [ALPHA / 2, 1 - ALPHA / 2])
    return bool(low > 0 or high < 0)


if __name__ == "__main__":
    run(main, InferenceConfig, __doc__)
