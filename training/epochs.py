"""One pass over train or validation: precision, optimizers, seeds, and a loss that is watched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from tqdm import tqdm

from core.options import InputError, WorkError
from training import parallel
from training.ahead import made_ahead

VALIDATION = 1 << 31  # stands in for the epoch: validation draws the same in every epoch
LOOKED_AT_TOGETHER = 16  # losses: to wait for each would keep a GPU from working ahead


def derived_seed(seed: int, *stream: int) -> int:
    """Return an independent 63-bit seed for a stream (an epoch, validation) of a run's seed."""
    # As entropy, [seed] and [seed, 0, 0] would be the same; as a spawn key, they are not.
    state = np.random.SeedSequence(seed, spawn_key=stream).generate_state(1, np.uint64)
    return int(state[0] >> 1)


def autocast(precision: str, device: str) -> torch.autocast:
    """Return the context in which a network's matrix products have the precision asked for."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")


def optimizers_of(network: torch.nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Return Adam, or what the network makes for itself, and SparseAdam for sparse gradients."""
    sparse = network.sparse_parameters() if hasattr(network, "sparse_parameters") else []
    apart = {id(p) for p in sparse}
    dense = [p for p in network.parameters() if p.requires_grad and id(p) not in apart]
    make = getattr(network, "make_optimizer", _adam)
    found = [make(dense, learning_rate)]
    return found + ([torch.optim.SparseAdam(sparse, lr=learning_rate)] if sparse else [])


def _adam(parameters: list, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def train_epoch(
    network: torch.nn.Module,
    optimizers: list[torch.optim.Optimizer],
    train_batches: Callable[[int], Iterable],
    epoch: int,
    n_batches: int,
    config,
) -> float:
    """Make one pass over train; return the mean loss, each batch weighted by its size.

    Args:
        network, train_batches, n_batches: as training.fit takes them.
        optimizers: all of them step after every batch.
        epoch: from 0; with the seed, it decides order, negatives, masks and dropout.
        config: its seed and precision are used.

    Raises:
        WorkError: a loss is not finite; the message names epoch, batch and learning rate.
    """
    apart = [parallel.rank()] if parallel.rank() else []
    torch.manual_seed(derived_seed(config.seed, epoch, 1, *apart))  # dropout
    network.train()
    device = next(network.parameters()).device
    rate = optimizers[0].param_groups[0]["lr"]
    where = f"in epoch {epoch + 1}, batch {{}} of {n_batches}, at learning rate {rate:g}"
    losses = _Losses("train", where)
    batches = _made(train_batches(derived_seed(config.seed, epoch, 0)), device)
    bar = tqdm(batches, f"epoch {epoch + 1}", n_batches, unit=" batches", disable=None, leave=False)
    for batch in bar:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        part = parallel.part_of(batch)
        if part.size:
            with autocast(config.precision, device):
                loss = network.loss(part)
            (loss if part is batch else loss * (part.size / batch.size)).backward()
            losses.add(loss.detach(), part.size)
        parallel.sum_gradients(network)
        for optimizer in optimizers:
            optimizer.step()
    return losses.mean()


@torch.no_grad()
def validation_loss(
    network: torch.nn.Module,
    val_batches: Callable,
    seed: int,
    precision: str = "float32",
    draws: tuple = (),
) -> float:
    """Return the mean loss over validation, under random draws that seed and `draws` decide."""
    network.eval()
    losses = _Losses("validation")
    device = next(network.parameters()).device
    batches = _made(val_batches(derived_seed(seed, VALIDATION, *draws)), device)
    for batch in map(parallel.part_of, batches):
        if batch.size:
            with autocast(precision, device):
                losses.add(network.loss(batch), batch.size)
    return losses.mean()


def _made(batches: Iterable, device: torch.device) -> Iterable:
    """Return the batches, made beside the steps where those leave a core idle now and then.

    A GPU's work is begun ahead in any case.
    """
    return made_ahead(batches) if device.type == "cpu" else batches


class _Losses:
    """The mean of batches' losses by size, read from the device LOOKED_AT_TOGETHER at a time.

    Args:
        part: train or validation, for a message.
        where: the end of a message, with a place for the number of the batch, if a loss that is
            not finite is an error.
    """

    def __init__(self, part: str, where: str | None = None):
        self.part, self.where = part, where
        self.waiting: list[tuple[torch.Tensor, int]] = []
        self.total, self.size, self.seen = 0.0, 0, 0

    def add(self, loss: torch.Tensor, size: int) -> None:
        self.waiting.append((loss, size))
        if len(self.waiting) == LOOKED_AT_TOGETHER:
            self._look()

    def _look(self) -> None:
        values = torch.stack([loss for loss, _ in self.waiting]).tolist() if self.waiting else []
        for value, (_, size) in zip(values, self.waiting, strict=True):
            self.seen += 1
            if self.where and not math.isfinite(value):
                raise WorkError(
                    f"the loss is {value} {self.where.format(self.seen)}; try a smaller "
                    "--learning-rate"
                )
            self.total += value * size
            self.size += size
        self.waiting = []

    def mean(self) -> float:
        self._look()
        self.total, self.size = parallel.total(self.total, self.size)
        if not self.size:
            raise InputError(
                f"there is nothing to compute the {self.part} loss from: too few interactions, or "
                "a --mask-share under which none was masked"
            )
        return self.total / self.size
