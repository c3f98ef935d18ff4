"""Time training epochs on a GPU at the study's size, and the whole study from them.

    python -m benchmarks.bench_gpu                   # where torch finds a GPU; else it says so
    python -m benchmarks.bench_gpu --widths 1024 --precision float32
    python -m benchmarks.bench_gpu --device cpu --users 300 --tracks 500 --pairs 6000 --widths 16

For each width, prints the seconds of an epoch of both networks (batches made on the device, steps
of Adam; a sample of steps is timed), and the operations of their matrix products as a share of the
rate that one large product reaches on this GPU in the same precision. The hours of the whole study
(7 backbones x both networks x 3 seeds; KNN takes seconds) are those of --epochs each, with widths
between the measured ones interpolated. Validation and lists are not in it. The last line is one
json object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
from core.options import InputError, option, run
from dataset import SequenceDataset
from training.epochs import autocast
from training.loop import pick_device

WIDTHS = (200, 1024, 768, 768, 4800, 1024, 104)  # of the study's backbones
SEEDS = 3


@dataclass(frozen=True)
class GpuConfig:
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    precision: Literal["bfloat16", "float32"] = option("bfloat16", "of matrix products")
    widths: tuple[int, ...] = option((200, 1024, 4800), "of the vectors, ascending")
    users: int = option(17_053, "of train")
    tracks: int = option(56_193, "of train")
    pairs: int = option(5_122_221, "of train")
    length: int = option(300, "of BERT4Rec's sequences, at most")
    batch: int = option(128, "BERT4Rec's, in users")
    steps: int = option(30, "timed steps of each network and width")
    epochs: int = option(100, "of every training of the study: at most 100 as published")
    seed: int = option(0, "of the made-up data")

    def __post_init__(self):
        numbers = (self.users, self.tracks, self.pairs, self.batch, self.steps, self.epochs)
        if min(*numbers, *self.widths) < 1 or self.length < 2:
            raise InputError("all sizes must be at least 1, --length at least 2")
        if list(self.widths) != sorted(set(self.widths)) or any(w % 2 for w in self.widths):
            raise InputError(f"--widths must be ascending and even (2 heads), got {self.widths}")


def main(config: GpuConfig) -> None:
    if config.device == "auto" and not torch.cuda.is_available():
        print("torch finds no GPU here: nothing was measured; --device cpu times the same code")
        return
    device = pick_device(config.device)
    rate = product_rate(device, config.precision)
    name = torch.cuda.get_device_name(device) if device != "cpu" else "cpu"
    print(
        f"{name}, {config.precision}: {rate / 1e12:.2f} TFLOP/s (one large product, measured now)"
    )
    makers = {make.__name__: make for make in (shallow, bert4rec)}
    epochs: dict = {name: {} for name in makers}
    shares: dict = {name: {} for name in makers}
    for width in config.widths:
        size = Size(config.users, config.tracks, config.pairs, width, length=config.length)
        for network_name, make in makers.items():
            torch.manual_seed(config.seed)
            network, batches, n_batches, cost = make(size, config, device)
            seconds, flops = timed_steps(network.to(device), batches, cost, config, device)
            epochs[network_name][width] = seconds * n_batches
            shares[network_name][width] = flops / seconds / rate
            print(
                f"{network_name:<9} width {width:>5}: {seconds * 1e3:8.2f} ms a step, "
                f"{seconds * n_batches:8.1f} s an epoch of {n_batches:,}, "
                f"{shares[network_name][width]:.0%} of the rate",
                flush=True,
            )
    hours = study_hours(epochs, config)
    print(f"the study's training: {hours:.1f} h of {config.epochs} epochs each")
    print(json.dumps({"epoch_seconds": epochs, "share": shares, "study_hours": hours}))


def shallow(size: Size, config: GpuConfig, device: str):
    """Return the network, its batches without end, their number an epoch, a step's cost."""
    data = shallow_data(train_part(size, config.seed), size, device)
    batches = forever(lambda seed: data.batches(size.batch, seed, shuffle=True))
    return shallow_network(size, config.seed), batches, data.n_batches(size.batch), shallow_cost


def bert4rec(size: Size, config: GpuConfig, device: str):
    """As `shallow`, for the other network."""
    train = train_part(size, config.seed)
    data = SequenceDataset(train, size.tracks, size.length, device)
    batches = forever(
        lambda seed: data.masked_batches(config.batch, seed, mask_share=0.2, shuffle=True)
    )
    return bert_network(size, config.seed), batches, data.n_batches(config.batch), bert_cost


def forever(epoch: Callable):
    seed = 0
    while True:
        yield from epoch(seed)
        seed += 1


def timed_steps(network, batches, cost, config: GpuConfig, device: str) -> tuple[float, float]:
    """Return the mean seconds of a step, its batch included, and the mean operations."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], fused=True)

    def step():
        batch = next(batches)
        optimizer.zero_grad(set_to_none=True)
        with autocast(config.precision, device):
            loss = network.loss(batch)
        loss.backward()
        optimizer.step()
        return batch

    for _ in range(3):
        step()
    _wait(device)
    started = time.perf_counter()
    seen = [step() for _ in range(config.steps)]
    _wait(device)
    seconds = (time.perf_counter() - started) / config.steps
    return seconds, float(np.mean([cost(network, batch)[0] for batch in seen]))


def product_rate(device: str, precision: str) -> float:
    """Return the operations a second of a large product, as the networks' products are made."""
    n = 8192 if device != "cpu" else 512
    a = torch.randn(n, n, device=device, dtype=getattr(torch, precision))
    best = np.inf
    for _ in range(5):
        _wait(device)
        started = time.perf_counter()
        torch.mm(a, a)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def study_hours(epochs: dict, config: GpuConfig) -> float:
    """Return the hours of all trainings; an epoch's time at other widths is interpolated."""
    seconds = 0.0
    for by_width in epochs.values():
        at = np.interp(WIDTHS, list(by_width), list(by_width.values()))
        seconds += SEEDS * config.epochs * float(at.sum())
    return seconds / 3600


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    run(main, GpuConfig, __doc__)
