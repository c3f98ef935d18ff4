"""Time epochs as train.py and train_bert.py run them, beside the bare matrix products they need.

    python -m benchmarks.bench_epochs                        # minutes: a part of each epoch
    python -m benchmarks.bench_epochs --only shallow --widths 768 --batches 0     # all of it
    python -m benchmarks.bench_epochs --users 300 --tracks 500 --pairs 9000 --widths 16 --batches 2

For each network and width, at the extended study's size: seconds of making the batches alone, of
the training (batches, steps of Adam, watched losses), of the validation loss and of both
checkpoints; the epoch that follows of --batches measured ones; and the training over its bare
products at the rate of one large product, which is measured before and after it and the faster
counts. Each in seconds of a clock and of a processor: on a machine that others use as well, only
the second says something. The last line is one json object of the ratios and peak memory.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import training.threads  # noqa: F401  before torch

import numpy as np
import torch

from benchmarks.full_size import (
    Size,
    bert_cost,
    bert_network,
    shallow_cost,
    shallow_data,
    shallow_network,
    train_part,
)
from benchmarks.measure import measure
from core.options import InputError, option, run
from dataset import SequenceDataset
from recommenders.interactions import Interactions, pair_keys
from training.checkpoints import save
from training.epochs import optimizers_of, train_epoch, validation_loss

HELD_OUT = 20  # one pair in so many validates
PRODUCT = 2048


@dataclass(frozen=True)
class EpochConfig:
    only: str | None = option(None, "shallow or bert4rec")
    widths: tuple[int, ...] = option((104, 200, 768), "of the vectors")
    batches: int = option(60, "timed batches of an epoch, its order drawn in full; 0 for all")
    users: int = option(21_018, "of train")
    tracks: int = option(55_262, "of train")
    pairs: int = option(5_400_000, "of train, about")
    length: int = option(200, "of BERT4Rec's sequences, at most")
    sequences: int = option(32, "of a batch of BERT4Rec")
    seed: int = option(0, "of the made-up data")

    def __post_init__(self):
        if self.only not in (None, *NETWORKS):
            raise InputError(f"--only must be one of {', '.join(NETWORKS)}, got '{self.only}'")
        if self.batches < 0 or min(self.users, self.tracks, self.pairs, *self.widths) < 1:
            raise InputError("all sizes must be at least 1, and --batches at least 0")


@dataclass(frozen=True)
class Epoch:
    """What an epoch is made of: as training.loop.fit takes it, and the cost of a step."""

    network: torch.nn.Module
    train_batches: Callable[[int], Iterator]
    val_batches: Callable[[int], Iterator]
    n_batches: int
    cost: Callable[[torch.nn.Module, object], tuple[float, float]]


@dataclass(frozen=True)
class Fixed:
    """The options of a training that an epoch reads."""

    seed: int
    precision: str = "float32"


def main(config: EpochConfig) -> None:
    results: dict = {}
    for name in [config.only] if config.only else NETWORKS:
        for width in config.widths:
            size = Size(config.users, config.tracks, config.pairs, width, length=config.length)
            torch.manual_seed(config.seed)
            epoch = NETWORKS[name](replace(size, sequences=config.sequences), config.seed)
            print(f"\n{name}, width {width}, {epoch.n_batches:,} batches an epoch", flush=True)
            results[f"{name}-{width}"] = timed(epoch, config)
    print(json.dumps(results))


def timed(epoch: Epoch, config: EpochConfig) -> dict:
    """Print what the parts of an epoch take, and return its ratios."""
    n = min(config.batches or epoch.n_batches, epoch.n_batches)
    some = lambda seed: islice(epoch.train_batches(seed), n)  # noqa: E731
    options = Fixed(config.seed)
    optimizers = optimizers_of(epoch.network, 1e-3)
    flops = np.mean([epoch.cost(epoch.network, batch)[0] for batch in islice(some(1), 3)])
    train_epoch(epoch.network, optimizers, lambda seed: islice(some(seed), 1), 0, 1, options)
    rates = [product_rate()]
    making = clocked(lambda: sum(batch.size for batch in some(1)))
    clocks: list[np.ndarray] = []
    train = lambda: train_epoch(epoch.network, optimizers, some, 1, n, options)  # noqa: E731
    _, peak = measure(lambda: clocks.append(clocked(train)), 1)
    training = clocks[0]
    rates.append(product_rate())
    bare = n * flops / np.max(rates, axis=0)
    validating = clocked(lambda: validation_loss(epoch.network, epoch.val_batches, 0, "float32"))
    saving = clocked(lambda: checkpoints(epoch.network, optimizers))
    whole = training * epoch.n_batches / n + validating + saving
    for label, value in (
        (f"making {n} batches alone", making),
        (f"{n} batches and steps", training),
        ("their bare products", bare),
        ("validation loss", validating),
        ("both checkpoints", saving),
        ("an epoch, by these", whole),
    ):
        print(f"  {label:<28}{value[0]:10.3f} s{value[1]:10.3f} s of a processor")
    ratio = training / bare
    print(
        f"  training is {ratio[0]:.2f} x its bare products ({ratio[1]:.2f} by processor), "
        f"{peak >> 20} MiB above the start",
        flush=True,
    )
    return {"ratio": ratio[0], "by_processor": ratio[1], "epoch": whole[0], "peak": int(peak)}


def shallow(size: Size, seed: int) -> Epoch:
    train, val = held_out(train_part(size, seed), seed)
    data = shallow_data(train, size, "cpu")
    held = shallow_data(val, size, "cpu", pair_keys(train, val, n_items=size.tracks))
    return Epoch(
        shallow_network(size, seed),
        lambda seed: data.batches(size.batch, seed, shuffle=True),
        lambda seed: held.batches(size.batch, seed, shuffle=False),
        data.n_batches(size.batch),
        shallow_cost,
    )


def bert4rec(size: Size, seed: int) -> Epoch:
    train, val = held_out(train_part(size, seed), seed)
    data, held = (SequenceDataset(part, size.tracks, size.length, "cpu") for part in (train, val))
    make = {"batch_size": size.sequences, "mask_share": 0.2}
    return Epoch(
        bert_network(size, seed),
        lambda seed: data.masked_batches(seed=seed, shuffle=True, **make),
        lambda seed: held.masked_batches(seed=seed, shuffle=False, **make),
        data.n_batches(size.sequences),
        bert_cost,
    )


NETWORKS = {make.__name__: make for make in (shallow, bert4rec)}


def held_out(whole: Interactions, seed: int) -> tuple[Interactions, Interactions]:
    """Return train and validation: each user's distinct pairs, of which one in HELD_OUT is held."""
    users, items = np.divmod(
        np.unique(whole.user_of_pair * (whole.items.max() + 1) + whole.items),
        whole.items.max() + 1,
    )
    held = np.random.default_rng(seed).random(len(items)) < 1 / HELD_OUT
    parts = []
    for kept in (~held, held):
        counts = np.bincount(users[kept], minlength=len(whole.users))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        own = items[kept]
        parts.append(Interactions(whole.users, offsets, own, own, np.ones_like(own)))
    return parts[0], parts[1]


def checkpoints(network: torch.nn.Module, optimizers: list) -> None:
    """Write best.pt and last.pt, as training.loop.fit does after an epoch that was the best."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "best.pt", {"model": network.state_dict(), "epoch": 1})
        states = [each.state_dict() for each in optimizers]
        save(Path(folder) / "last.pt", {"model": network.state_dict(), "optimizers": states})


def clocked(work: Callable[[], object]) -> np.ndarray:
    """Return the seconds of the work, of a clock and of a processor, (2,)."""
    started = np.array([time.perf_counter(), time.process_time()])
    work()
    return np.array([time.perf_counter(), time.process_time()]) - started


def product_rate() -> np.ndarray:
    """Return the operations of one large product a second of a clock and of a processor, (2,)."""
    a = torch.randn(PRODUCT, PRODUCT)
    torch.mm(a, a)
    return 2 * PRODUCT**3 / np.min([clocked(lambda: torch.mm(a, a)) for _ in range(5)], axis=0)


if __name__ == "__main__":
    run(main, EpochConfig, __doc__)
