"""Time the recommenders' inner steps against plain versions of the same mathematics.

    python -m benchmarks.bench_training                 # all, at the study's sizes
    python -m benchmarks.bench_training --only knn      # one of shallow, bert4rec, knn, metrics
    python -m benchmarks.bench_training --scaling true  # twice the users, tracks, width, length

Prints, for each, seconds and peak memory of ours and of the plain version, run in turn in this one
process, and their ratios; for the networks also the time that the step's bare matrix products and
its unavoidable reads and writes take at this machine's measured rates. The last line is one json
object: {"shallow": {"speedup": x, "memory_ratio": y}, ...}, memory as ours over plain.
"""

from __future__ import annotations

import gc
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import threads  # noqa: F401  before torch

import numpy as np
import torch
from torch import nn

from benchmarks import plain
from bert4rec import BERT4Rec
from config import InputError, option, run
from dataset import PairBatch, SequenceDataset
from interactions import Interactions, Split
from metrics import list_metrics
from model import ShallowEmbeddingModel
from recommend import recommend
from vectors import knn_scorer

PARTS = ("shallow", "bert4rec", "knn", "metrics")


@dataclass(frozen=True)
class BenchConfig:
    only: str | None = option(None, f"one of {', '.join(PARTS)}")
    scaling: bool = option(False, "also time ours at twice the users, tracks, width and length")
    repeats: int = option(3, "timed repeats; the fastest counts")
    seed: int = option(0, "of the made-up data")

    def __post_init__(self):
        if self.only not in (None, *PARTS):
            raise InputError(f"--only must be one of {', '.join(PARTS)}, got '{self.only}'")


@dataclass(frozen=True)
class Size:
    """The study's sizes."""

    users: int = 17_053
    tracks: int = 56_512
    pairs: int = 5_122_221
    width: int = 200
    batch: int = 10_000
    negatives: int = 20
    sequences: int = 32
    length: int = 200


def main(config: BenchConfig) -> None:
    torch.manual_seed(config.seed)
    rates = machine_rates()
    print(f"{torch.get_num_threads()} threads, {rates[0] / 1e9:.0f} GFLOP/s, ", end="")
    print(f"{rates[1] / 1e9:.1f} GB/s (float32 product and copy, measured now)")
    benches = {"shallow": shallow, "bert4rec": bert4rec, "knn": knn, "metrics": metrics}
    results = {}
    for name in [config.only] if config.only else PARTS:
        print(f"\n{name}")
        results[name] = benches[name](Size(), config, rates)
        if config.scaling and name in SCALED:
            scaling(name, config)
    print(json.dumps(results))


def shallow(size: Size, config: BenchConfig, rates) -> dict:
    """One training step (loss, gradients, Adam), users trained, tracks frozen."""
    network, batch = shallow_step(size, config.seed)
    ours = measure(lambda: step(network, batch), config.repeats)
    published = measure(lambda: step(network, batch, plain.shallow_loss), 1)
    once = measure(lambda: step(network, batch, plain.shallow_loss_positives_once), 1)
    vectors = len(batch.items.unique()) + len(
        torch.cat([batch.users, batch.negatives.flatten()]).unique()
    )
    flops = 2 * vectors * size.width**2 * 3 + 6 * batch.negatives.numel() * size.width
    moved = 4 * (vectors * size.width * 8 + network.users.numel() * 7)
    show("ours", ours)
    show("every index list through the layer (as published)", published, ours)
    show("each positive once", once, ours)
    limit(ours[0], flops, moved, rates)
    return {
        "speedup": published[0] / ours[0],
        "memory_ratio": ours[1] / published[1],
        "speedup_over_positives_once": once[0] / ours[0],
    }


def shallow_step(size: Size, seed: int) -> tuple[nn.Module, PairBatch]:
    rng = np.random.default_rng(seed)
    users = rng.standard_normal((size.users, size.width), dtype=np.float32)
    items = rng.standard_normal((size.tracks, size.width), dtype=np.float32)
    network = ShallowEmbeddingModel(
        users, items, size.width, train_users=True, train_tracks=False, negatives_are_users=True
    )
    popularity = zipf(size.tracks)
    batch = PairBatch(
        torch.as_tensor(rng.integers(size.users, size=size.batch)),
        torch.as_tensor(rng.choice(size.tracks, size.batch, p=popularity)),
        torch.as_tensor(rng.integers(size.users, size=(size.batch, size.negatives))),
        None,
    )
    return network, batch


def bert4rec(size: Size, config: BenchConfig, rates) -> dict:
    """One training step (loss, gradients, Adam), tracks frozen, full-length sequences."""
    network, batch = bert_step(size, config.seed)
    ours = measure(lambda: step(network, batch), config.repeats)
    published = measure(lambda: step(network, batch, plain.bert4rec_loss), config.repeats)
    tokens, d, ffn = batch.tokens.numel(), size.width, 256
    layer = tokens * (8 * d * d + 4 * d * ffn + 4 * size.length * d)
    flops = 3 * 2 * layer + 4 * batch.size * d * size.tracks
    moved = 4 * (4 * batch.size * size.tracks + 40 * tokens * d)
    show("ours", ours)
    show("logits at every position (as published)", published, ours)
    limit(ours[0], flops, moved, rates)
    return {"speedup": published[0] / ours[0], "memory_ratio": ours[1] / published[1]}


def bert_step(size: Size, seed: int) -> tuple[nn.Module, object]:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((size.tracks, size.width), dtype=np.float32)
    network = BERT4Rec(vectors, train_tracks=False, max_length=size.length)
    rows = [rng.choice(size.tracks, size.length, replace=False) for _ in range(size.sequences)]
    data = SequenceDataset(interactions(rows), size.tracks, size.length, "cpu")
    batch = next(data.masked_batches(size.sequences, seed, mask_share=0.2, shuffle=False))
    return network, batch


def knn(size: Size, config: BenchConfig, rates) -> dict:
    """Lists of 100 for users with histories of the study's mean length."""
    split, vectors, n = knn_lists(size, config.seed)
    ours = measure(lambda: knn_ours(split, vectors), config.repeats)
    few = 200
    one_by_one = measure(lambda: plain.knn(split, vectors, few), 1)
    partial = measure(lambda: plain.knn(split, vectors, few, partial=True), 1)
    per_user = [ours[0] / n, one_by_one[0] / few, partial[0] / few]
    show(f"ours, {n:,} users", ours)
    show(f"one user at a time, {few} users", one_by_one)
    show(f"one user at a time, partial sort, {few} users", partial)
    print("  a user: " + ", ".join(f"{seconds * 1e3:.3f} ms" for seconds in per_user))
    flops = 2 * n * size.tracks * size.width
    limit(ours[0], flops, 4 * 3 * n * size.tracks, rates)
    return {
        "speedup": per_user[1] / per_user[0],
        "memory_ratio": ours[1] / one_by_one[1],
        "speedup_over_partial_sort": per_user[2] / per_user[0],
    }


def knn_lists(size: Size, seed: int) -> tuple[Split, np.ndarray, int]:
    rng = np.random.default_rng(seed)
    lengths = rng.poisson(size.pairs / size.users, size.users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = rng.choice(size.tracks, offsets[-1], p=zipf(size.tracks))
    train = Interactions(np.arange(size.users), offsets, items, items, items)
    n = 2_000
    held_out = replace(train, users=rng.choice(size.users, n, replace=False))
    split = Split(
        np.arange(size.users), np.arange(size.tracks), size.tracks, train, held_out, held_out
    )
    return split, rng.standard_normal((size.tracks, size.width), dtype=np.float32), n


def knn_ours(split: Split, vectors: np.ndarray) -> None:
    recommend(knn_scorer(split.train, vectors), split)


def metrics(size: Size, config: BenchConfig, rates) -> dict:
    """All five metrics of 10,000 users with lists of 100."""
    rng = np.random.default_rng(config.seed)
    n, pool = 10_000, 1_000
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


SCALED = {"shallow": shallow_step, "bert4rec": bert_step}


def scaling(name: str, config: BenchConfig) -> None:
    """Print how a step of ours grows when one size doubles."""
    base = None
    doubled = {
        "the study's size": {},
        "2 x users": {"users": 34_106},
        "2 x tracks": {"tracks": 113_024},
    }
    doubled |= {"2 x width": {"width": 400}, "2 x length": {"length": 400}}
    for label, change in doubled.items():
        network, batch = SCALED[name](replace(Size(), **change), config.seed)
        seconds, peak = measure(lambda n=network, b=batch: step(n, b), config.repeats)
        base = base or (seconds, peak)
        print(f"  {label:<18}{seconds / base[0]:6.2f} x time {peak / base[1]:6.2f} x memory")


def step(network: nn.Module, batch, loss: Callable | None = None) -> None:
    """One step of Adam; its state is made once and kept with the network."""
    if not hasattr(network, "adam"):
        trained = [p for p in network.parameters() if p.requires_grad]
        network.adam = torch.optim.Adam(trained, fused=True)
    network.adam.zero_grad(set_to_none=True)
    (loss(network, batch) if loss else network.loss(batch)).backward()
    network.adam.step()


def measure(work: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Return the fastest of the repeats in seconds, and the peak memory above the start in bytes.

    One call beforehand warms up, unless there is a single repeat of something slow.
    """
    if repeats > 1:
        work()
    gc.collect()
    before = reset_peak()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds), max(peak_bytes() - before, 1 << 20)


def reset_peak() -> int:
    """Forget the process's peak memory (Linux) and return what it holds now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine_rates() -> tuple[float, float]:
    """Return this machine's float32 product rate (FLOP/s) and copy rate (bytes/s)."""
    a, b = torch.randn(2048, 2048), torch.randn(1 << 26)
    target = torch.empty_like(b)
    product = measure(lambda: torch.mm(a, a), 5)[0]
    copy = measure(lambda: target.copy_(b), 5)[0]
    return 2 * 2048**3 / product, 8 * len(b) / copy


def show(name: str, measured: tuple[float, float], ours: tuple[float, float] | None = None) -> None:
    ratio = (
        f"{measured[0] / ours[0]:7.1f} x time {measured[1] / ours[1]:5.1f} x memory" if ours else ""
    )
    print(f"  {name:<50}{measured[0]:9.3f} s {measured[1] / 2**20:8.0f} MiB {ratio}")


def limit(seconds: float, flops: float, moved: float, rates: tuple[float, float]) -> None:
    """Print the time of the bare products and bytes, and ours over the larger."""
    products, bytes_ = flops / rates[0], moved / rates[1]
    print(
        f"  bare products {products:.3f} s, bytes {bytes_:.3f} s; ours is "
        f"{seconds / max(products, bytes_):.2f} x the larger"
    )


def zipf(n: int) -> np.ndarray:
    weights = 1 / (np.arange(n) + 10) ** 0.8
    return weights / weights.sum()


def interactions(rows: list[np.ndarray]) -> Interactions:
    """Return histories (one array of items a user) as Interactions in the order given."""
    lengths = [len(row) for row in rows]
    times = np.concatenate([np.arange(n) for n in lengths])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Interactions(np.arange(len(rows)), offsets, np.concatenate(rows), times, times)


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
