"""The loop that networks share: epochs, plateau, early stop, checkpoints, resume.

Nothing about the past has to be remembered to go on: the order of pairs, negatives, masks and
dropout of an epoch follow from (seed, epoch) alone. So a run that is killed and started again
from last.pt gives the same numbers, bit for bit on the CPU, as one that was not.
"""

from __future__ import annotations

import copy
import math
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from core.options import InputError, WorkError
from evaluation.measures import list_metrics
from recommenders.interactions import Split
from recommenders.runs import Run
from training.checkpoints import load, save
from training.curves import Curves, describe_epoch
from training.device_lists import recommend_on
from training.epochs import optimizers_of, train_epoch, validation_loss
from training.fit_options import LOSSES
from training.parallel import first, rank

REMEDY = "--overwrite trains it again from the start"


def pick_device(name: str) -> str:
    """Return the device to train on, and make its arithmetic repeatable.

    Raises:
        InputError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(f"--device must be auto, cpu, cuda or cuda:N, got '{name}'")
    if name.startswith("cuda"):
        found = torch.cuda.device_count()
        if int(name.partition(":")[2] or 0) >= found:
            raise InputError(f"--device {name}: torch finds {found} GPUs here; use --device cpu")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return name


def parameters(network: torch.nn.Module) -> dict:
    """Return how many numbers the network learns, and how many vectors it holds frozen."""
    frozen = sum(buffer.numel() for name, buffer in network.named_buffers() if "." not in name)
    return {"parameters": sum(p.numel() for p in network.parameters()), "frozen": frozen}


def fit(
    network: torch.nn.Module,
    train_batches: Callable[[int], Iterable],
    val_batches: Callable[[int], Iterable] | None,
    n_batches: int,
    evaluate: Callable[[], float],
    run: Run,
) -> dict:
    """Train until validation stops improving; leave the best weights in the network.

    Of several processes (see parallel.py) the first writes, prints, and has the best weights.

    Args:
        network: has `loss(batch)`, a scalar mean; its state_dict is what is saved. Parameters in
            its `sparse_parameters()`, if it has such, have sparse gradients and get SparseAdam;
            the others get Adam, or what its `make_optimizer(parameters, learning_rate)` returns.
        train_batches, val_batches: seed -> batches. A batch has `size`, how much its mean loss
            counts for (pairs, masked places; 0 if there is nothing in it), and `part(i, n)`, the
            i-th of n parts of it, whose sizes add up to its own: what the i-th of n processes does.
            They are drawn from a generator of their own, since they are made beside the steps.
            None for val_batches where the network has no validation loss.
        n_batches: of train, for the progress bar.
        evaluate: the metric that the option `select` names, over the validation users' lists;
            called only when it names one.
        run: its options are FitOptions; its folder gets best.pt, last.pt, log.jsonl and
            TensorBoard events.

    Returns:
        {"epochs": passes made, "best_epoch": n, "best_value": loss or metric, "stopped_by": why}.

    Raises:
        WorkError: the loss is not finite; the message names epoch, batch and learning rate.
    """
    config, folder = run.config, run.folder
    device = next(network.parameters()).device
    optimizers = optimizers_of(network, config.learning_rate)
    aim = "min" if config.select in LOSSES else "max"
    if config.select == "loss" and val_batches is None:
        raise InputError("--select loss: there is no validation loss here; take NDCG@50")
    schedulers = [
        ReduceLROnPlateau(each, aim, patience=config.plateau_patience) for each in optimizers
    ]
    state = _resume(folder / "last.pt", network, optimizers, schedulers, device)
    run.earlier_seconds = state["seconds"]
    curves = Curves(folder, state["log"]) if rank() == 0 else None
    started = time.monotonic() - state["seconds"]
    stopped_by = "epochs"

    for epoch in range(state["epoch"], config.epochs):
        if epoch - state["best_epoch"] >= config.early_stop:
            stopped_by = "early_stop"
            break
        over = config.max_minutes is not None and state["seconds"] > 60 * config.max_minutes
        if first(over):
            stopped_by = "max_minutes"
            break
        clock = time.monotonic()
        rate = optimizers[0].param_groups[0]["lr"]
        train_loss = train_epoch(network, optimizers, train_batches, epoch, n_batches, config)
        measured = {"train_loss": train_loss}
        if val_batches is None:
            network.eval()
        else:
            draws = (epoch,) if config.fresh_validation else ()
            val_loss = validation_loss(network, val_batches, config.seed, config.precision, draws)
            if not math.isfinite(val_loss):
                raise WorkError(
                    f"the validation loss is {val_loss} after epoch {epoch + 1}, at learning rate "
                    f"{rate:g}; try a smaller --learning-rate"
                )
            measured["val_loss"] = val_loss
        if config.select in LOSSES:
            value = cost = {"loss": measured.get("val_loss"), "last": -epoch - 1.0}.get(
                config.select, train_loss
            )
        else:
            value = measured[config.select] = first(evaluate() if rank() == 0 else None)
            cost = -value
        for scheduler in schedulers:
            scheduler.step(value)

        state["epoch"] = epoch + 1
        better = cost < state["best_cost"]
        if better:
            state.update(best_cost=cost, best_epoch=epoch + 1)
            _save(folder / "best.pt", {"model": network.state_dict(), "epoch": epoch + 1})
        record = {
            "epoch": epoch + 1,
            **measured,
            "learning_rate": rate,
            "seconds": round(time.monotonic() - clock, 3),
            "best_epoch": state["best_epoch"],
        }
        state["log"].append(record)
        state["seconds"] = time.monotonic() - started
        checkpoint = {
            "model": network.state_dict(),
            "optimizers": [each.state_dict() for each in optimizers],
            "schedulers": [each.state_dict() for each in schedulers],
            **state,
        }
        _save(folder / "last.pt", checkpoint)
        if curves is not None:
            curves.add(record)
            print(describe_epoch(record, config.epochs, better), flush=True)

    if rank() == 0:
        best = load(folder / "best.pt", device, REMEDY)
        network.load_state_dict(best["model"])
    network.eval()
    return {
        "epochs": state["epoch"],
        "best_epoch": state["best_epoch"],
        "best_value": abs(state["best_cost"]),
        "stopped_by": stopped_by,
    }


def validation_metric(name: str, split: Split, score: Callable, device: str) -> float:
    """Return the mean over the validation users of a metric such as `NDCG@50` of their lists.

    Args:
        score: user_idx (b,) -> scores (b, n_items) on the device, of the network as it is now.
    """
    metric, k = name.split("@")
    lists = recommend_on(device, score, split, users=split.val.users, k=int(k))
    lengths = np.diff(split.val.offsets)
    return float(list_metrics(lists.matrix(), lengths, split.val.items, int(k))[metric].mean())


def _resume(path: Path, network, optimizers, schedulers, device) -> dict:
    fresh = {"epoch": 0, "best_cost": math.inf, "best_epoch": 0, "seconds": 0.0, "log": []}
    if not path.exists():
        return fresh
    saved = load(path, device, REMEDY)
    network.load_state_dict(saved["model"])
    for parts, states in ((optimizers, "optimizers"), (schedulers, "schedulers")):
        for part, state in zip(parts, saved[states], strict=True):
            part.load_state_dict(state)
    if rank() == 0:
        print(f"continuing after epoch {saved['epoch']} from {path}")
    return {key: copy.deepcopy(saved[key]) for key in fresh}


def _save(path: Path, content: dict) -> None:
    if rank() == 0:
        save(path, content)
