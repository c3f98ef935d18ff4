"""Time the recommenders' inner steps against plain versions of the same mathematics.

    python -m benchmarks.bench_training                 # all, at the study's sizes; 5 minutes
    python -m benchmarks.bench_training --only knn      # one of shallow, bert4rec, knn, metrics

Prints, for each, seconds and peak memory of ours and of the plain version, run in turn in this one
process, and their ratios; the time that the step's bare matrix products and the bytes it must move
take at this machine's measured rates, and ours over the larger; and how ours grows with twice the
users, tracks, width and length. The last line is one json object:
{"shallow": {"speedup": x, "memory_ratio": y}, ...}, memory as ours over plain.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, replace

import training.threads  # noqa: F401  before torch

import numpy as np
import torch

from benchmarks import plain
from benchmarks.full_size import (
    Size,
    bert_cost,
    bert_step,
    shallow_cost,
    shallow_data,
    shallow_step,
    split_of,
    step,
    vectors_of,
)
from benchmarks.measure import limit, machine_rates, measure, show
from core.options import InputError, option, run
from evaluation.measures import list_metrics
from recommenders.interactions import Split
from recommenders.nearest import recommend_nearest
from recommenders.vectors import knn_scorer

DOUBLED = ("users", "tracks", "width", "length")


@dataclass(frozen=True)
class BenchConfig:
    only: str | None = option(None, "one part: a recommender's name, or metrics")
    scaling: bool = option(True, "also time ours at twice the users, tracks, width and length")
    repeats: int = option(5, "timed repeats; the fastest counts")
    seed: int = option(0, "of the made-up data")

    def __post_init__(self):
        if self.only not in (None, *BENCHES):
            raise InputError(f"--only must be one of {', '.join(BENCHES)}, got '{self.only}'")
        if self.repeats < 1:
            raise InputError(f"--repeats must be at least 1, got {self.repeats}")


def main(config: BenchConfig) -> None:
    torch.manual_seed(config.seed)
    rates = machine_rates()
    print(f"{torch.get_num_threads()} threads, {rates[0] / 1e9:.0f} GFLOP/s, ", end="")
    print(f"{rates[1] / 1e9:.1f} GB/s (float32 product and copy, measured now)")
    results = {}
    for name in [config.only] if config.only else BENCHES:
        print(f"\n{name}", flush=True)
        results[name] = BENCHES[name](Size(), config, rates)
        if config.scaling and BENCHES[name] in SCALED:
            scaling(*SCALED[BENCHES[name]], Size(), config)
    print(json.dumps(results))


def shallow(size: Size, config: BenchConfig, rates) -> dict:
    """One training step (loss, gradients, Adam), users trained, tracks frozen."""
    network, batch = shallow_step(size, config.seed)
    ours = measure(lambda: step(network, batch), 4 * config.repeats)
    published = measure(lambda: step(network, batch, plain.shallow_loss), 1)
    once = measure(lambda: step(network, batch, plain.shallow_loss_positives_once), 1)
    show("ours", ours)
    show("four index lists through the layer, as published", published, ours)
    show("each positive once", once, ours)
    limit(ours[0], *shallow_cost(network, batch), rates)
    show("making a batch: order, unheard negatives", batch_making(size, config.seed))
    return {
        "speedup": published[0] / ours[0],
        "memory_ratio": ours[1] / published[1],
        "speedup_over_positives_once": once[0] / ours[0],
    }


def batch_making(size: Size, seed: int) -> tuple[float, float]:
    """Return seconds and memory of the next batch, negatives drawn until they are unheard."""
    data = shallow_data(split_of(size, seed).train, size, "cpu")
    batches = data.batches(size.batch, seed, shuffle=True)
    return measure(lambda: next(batches), 5)


def bert4rec(size: Size, config: BenchConfig, rates) -> dict:
    """One training step (loss, gradients, Adam), tracks frozen, full-length sequences."""
    network, batch = bert_step(size, config.seed)
    ours = measure(lambda: step(network, batch), config.repeats)
    published = measure(lambda: step(network, batch, plain.bert4rec_loss), 2)
    show("ours", ours)
    show("logits at every position, as published", published, ours)
    limit(ours[0], *bert_cost(network, batch), rates)
    return {"speedup": published[0] / ours[0], "memory_ratio": ours[1] / published[1]}


def knn(size: Size, config: BenchConfig, rates) -> dict:
    """Lists of 100 for users with histories of the study's mean length.

    Three plain searches, one user at a time: as published, an exact index; a partial sort of all
    cosines, which is faster; and a full sort of them.
    """
    split, vectors = knn_step(size, config.seed)
    n = len(split.eval_users)
    few = min(200, n)
    ours = measure(lambda: knn_ours(split, vectors), config.repeats)
    index = None
    if importlib.util.find_spec("faiss"):
        index = measure(lambda: plain.knn_index(split, vectors, few), 2)
    partial = measure(lambda: plain.knn(split, vectors, few, partial=True), 2)
    full = measure(lambda: plain.knn(split, vectors, few), 1)
    show(f"ours, {n:,} users", ours)
    if index:
        show(f"one user at a time, an index, as published, {few} users", index)
    else:
        print("  the published index is left out: faiss-cpu of requirements-dev.txt is not here")
    show(f"one user at a time, partial sort, {few} users", partial)
    show(f"one user at a time, all tracks sorted, {few} users", full)
    one, *others = (
        ours[0] / n,
        *(seconds / few for seconds, _ in filter(None, (index, partial, full))),
    )
    times = ", ".join(f"{seconds * 1e3:.3f} ms ({seconds / one:.1f} x)" for seconds in others)
    print(f"  a user: ours {one * 1e3:.3f} ms; {times}")
    limit(ours[0], 2 * n * size.tracks * size.width, 4 * 3 * n * size.tracks, rates)
    many = replace(size, tracks=size.many_tracks, listed=min(200, n))
    split, vectors = knn_step(many, config.seed)
    million = measure(lambda: knn_ours(split, vectors), 1)
    show(f"ours, {many.listed} users, {many.tracks:,} tracks ({vectors.nbytes >> 20} MiB)", million)
    return {
        "speedup": others[0] / one,  # over the index; without it over the partial sort
        "memory_ratio": ours[1] / (index or partial)[1],
        "speedup_over_partial_sort": others[-2] / one,
        "speedup_over_full_sort": others[-1] / one,
    }


def knn_step(size: Size, seed: int) -> tuple[Split, np.ndarray]:
    return split_of(size, seed), vectors_of(size.tracks, size.width, seed)


def knn_ours(split: Split, vectors: np.ndarray) -> None:
    """Do what knn.py does, which brings the vectors themselves to length 1."""
    recommend_nearest(knn_scorer(split.train, vectors, overwrite=True), split)


def metrics(size: Size, config: BenchConfig, rates) -> dict:
    """All five metrics of many users with lists of 100."""
    rng = np.random.default_rng(config.seed)
    n, pool = size.measured, 1_000
    lists = rng.random((n, pool)).argsort(axis=1)[:, :100]
    lengths = rng.integers(1, 40, n)
    tracks = np.concatenate([rng.choice(pool, m, replace=False) for m in lengths])
    ours = measure(lambda: list_metrics(lists, lengths, tracks, 50), config.repeats)
    truth = dict(enumerate(t.tolist() for t in np.split(tracks, np.cumsum(lengths)[:-1])))
    listed = dict(enumerate(lists.tolist()))
    reference = measure(lambda: plain.metrics(truth, listed, 50), 1)
    show("ours", ours)
    show("rs_metrics", reference, ours)
    return {"speedup": reference[0] / ours[0], "memory_ratio": ours[1] / reference[1]}


BENCHES = {bench.__name__: bench for bench in (shallow, bert4rec, knn, metrics)}
SCALED = {  # what makes the data, the work, and whether twice the length is twice the pairs
    shallow: (shallow_step, step, None),  # it knows no length
    bert4rec: (bert_step, step, False),
    knn: (knn_step, knn_ours, True),  # histories twice as long
}


def scaling(make, work, longer: bool | None, base_size: Size, config: BenchConfig) -> None:
    """Print how the time and memory of ours grow when one size doubles."""
    base = None
    for doubled in (None, *(name for name in DOUBLED if name != "length" or longer is not None)):
        change = {doubled: 2 * getattr(base_size, doubled)} if doubled else {}
        size = replace(base_size, **change)
        if doubled == "users":
            size = replace(size, pairs=2 * size.pairs, listed=2 * size.listed)
        if doubled == "length" and longer:
            size = replace(size, pairs=2 * size.pairs)
        made = make(size, config.seed)
        seconds, peak = measure(lambda made=made: work(*made), config.repeats)
        base = base or (seconds, peak)
        label = f"2 x {doubled}" if doubled else "the study's size"
        print(f"  {label:<18}{seconds / base[0]:6.2f} x time {peak / base[1]:6.2f} x memory")


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
