"""Time and memory of an epoch of ELSA at the extended study's size, beside its authors' package.

    python -m benchmarks.bench_elsa
    python -m benchmarks.bench_elsa --batches 20            # of an epoch's 165
    python -m benchmarks.bench_elsa --only ours --device cuda

On a made-up history of the same shape, each in a process of its own, one after the other: seconds
of so many batches, and the peak memory above what stood there before training (of a GPU: what torch
allocated). The package is PyPI's `elsarec`, which requirements-dev.txt pins; without it ours is
timed alone. Both learn by the published optimizer; ours by its own as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Literal

import training.threads  # noqa: F401  before torch

import numpy as np
import torch
from scipy.sparse import csr_matrix

from benchmarks.bench_ease import make_history
from benchmarks.measure import measure
from core.options import WorkError, option, run
from recommenders.networks.elsa import Elsa
from recommenders.networks.histories import HistoryDataset, histories_of
from training.loop import pick_device


@dataclass(frozen=True)
class BenchElsaConfig:
    users: int = option(21_018, "of train")
    tracks: int = option(55_262, "of train")
    pairs: int = option(5_371_381, "of train, about")
    factors: int = option(768, "numbers of a track's vector")
    batch_size: int = option(128, "users a step")
    batches: int = option(0, "that are timed; 0: an epoch")
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    only: Literal["all", "ours", "ours_nadam", "elsarec"] = option("all", "which")


def main(config: BenchElsaConfig) -> None:
    if config.only == "all":
        found = {name: in_its_process(config, name) for name in SUBJECTS}
        show(found)
        return
    device = pick_device(config.device)
    train = make_history(config.users, config.tracks, config.pairs)
    if config.batches:
        train = histories_of(
            train, np.arange(min(config.users, config.batches * config.batch_size))
        )
    work = SUBJECTS[config.only](config, train, device)
    if work is None:
        print(json.dumps({"absent": "pip install -r requirements-dev.txt brings elsarec"}))
        return
    seconds, peak = measure(work, 1)
    if device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated(device)
    n = -(-len(train.users) // config.batch_size)
    print(json.dumps({"seconds": seconds, "peak_mb": peak / 2**20, "batches": n}))


def in_its_process(config: BenchElsaConfig, name: str) -> dict:
    """Return what one subject prints of itself."""
    options = {**asdict(config), "only": name}
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "benchmarks.bench_elsa", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise WorkError(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def show(found: dict[str, dict]) -> None:
    """Print a line for each subject, the package's as multiples of ours."""
    for name, numbers in found.items():
        if "absent" in numbers:
            print(f"{name:<12} not installed: {numbers['absent']}")
            continue
        ratio = numbers["seconds"] / found["ours"]["seconds"]
        memory = numbers["peak_mb"] / found["ours"]["peak_mb"]
        print(
            f"{name:<12} {numbers['batches']:>4} batches {numbers['seconds']:9.1f} s "
            f"{numbers['peak_mb']:8.0f} MiB   {ratio:5.2f} x time {memory:5.2f} x memory"
        )


def ours(config: BenchElsaConfig, train, device: str, nadam: bool = False):
    """Return an epoch of ours."""

    def epoch():
        network = Elsa(config.tracks, config.factors, nadam=nadam).to(device)
        optimizer = network.make_optimizer([network.items], 0.1 if nadam else 0.003)
        data = HistoryDataset(train, device=device)
        for batch in data.batches(config.batch_size, 0, shuffle=not nadam):
            optimizer.zero_grad(set_to_none=True)
            network.loss(batch).backward()
            optimizer.step()
        return network.items.sum().item()  # waits for a GPU

    return epoch


def ours_nadam(config: BenchElsaConfig, train, device: str):
    """Return an epoch of ours by the published optimizer."""
    return ours(config, train, device, nadam=True)


def elsarec(config: BenchElsaConfig, train, device: str):
    """Return an epoch of the package; None if it is not installed."""
    try:
        from elsa import ELSA
    except ImportError:
        return None
    ones = np.ones(len(train.items), dtype=np.float32)
    x = csr_matrix((ones, train.items, train.offsets), (len(train.users), config.tracks))

    def epoch():
        model = ELSA(config.tracks, config.factors, device=torch.device(device), lr=0.1)
        model.fit(x, batch_size=config.batch_size, epochs=1, verbose=False)
        return model.get_items_embeddings().sum().item()

    return epoch


SUBJECTS = {each.__name__: each for each in (ours, ours_nadam, elsarec)}


if __name__ == "__main__":
    run(main, BenchElsaConfig, __doc__)
