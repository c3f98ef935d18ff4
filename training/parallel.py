"""Several processes train one network: each a part of every batch, the gradients summed.

    sbatch --ntasks=4 --gres=gpu:4 train_bert.sh --root R --embedding mert      # srun starts four
    torchrun --nproc-per-node=4 train_bert.py --root R --embedding mert         # without Slurm

Batches, negatives and masks are drawn whole in every process, from the same seed, and then cut, and
a part's loss counts as its size: so the losses are those of one process, but for the order of
sums (and for dropout, which is drawn for the parts). The first process alone writes and prints.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
from types import SimpleNamespace

import torch
import torch.distributed as dist

from core.options import InputError


def start(device: str) -> str:
    """Join the other processes, if there are any; return the device of this one.

    Processes are told of each other by srun or torchrun. GPUs talk by NCCL, CPUs by gloo.

    Args:
        device: cpu, cuda or cuda:N.

    Raises:
        InputError: one GPU was named for several processes.
    """
    where = _launched()
    if where is None or where["world_size"] == 1:
        return device
    if ":" in device:
        raise InputError(f"--device {device} is one GPU for several processes; use --device cuda")
    local = where.pop("local")
    if device == "cuda":
        device = f"cuda:{local % torch.cuda.device_count()}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", **where)
        atexit.register(dist.destroy_process_group)
    return device


def _launched() -> dict | None:
    environment = os.environ
    if "RANK" in environment and "WORLD_SIZE" in environment:  # torchrun
        return {
            "init_method": "env://",
            "rank": int(environment["RANK"]),
            "world_size": int(environment["WORLD_SIZE"]),
            "local": int(environment.get("LOCAL_RANK", 0)),
        }
    if "SLURM_STEP_NUM_TASKS" not in environment:  # the batch script itself is no step
        return None
    address = environment.get("MASTER_ADDR", environment["SLURM_LAUNCH_NODE_IPADDR"])
    port = environment.get("MASTER_PORT", 20_000 + int(environment["SLURM_JOB_ID"]) % 10_000)
    return {
        "init_method": f"tcp://{address}:{port}",
        "rank": int(environment["SLURM_PROCID"]),
        "world_size": int(environment["SLURM_STEP_NUM_TASKS"]),
        "local": int(environment["SLURM_LOCALID"]),
    }


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def own(config):
    """Return the options as this process should take them: --overwrite is the first one's work."""
    return dataclasses.replace(config, overwrite=False) if rank() else config


def first(value):
    """Return the first process's value, in all of them."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def part_of(batch):
    """Return this process's part of a batch, which may be empty."""
    n = world_size()
    return batch if n == 1 else batch.part(rank(), n)


def sum_gradients(network: torch.nn.Module) -> None:
    """Make every process's gradients the sum of all; one that has none counts as zero."""
    if world_size() == 1:
        return
    for parameter in network.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


def total(*numbers: float) -> list[float]:
    """Return the sums of the numbers over all processes."""
    if world_size() == 1:
        return list(numbers)
    device = f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


@contextlib.contextmanager
def one_run(run):
    """Open a run in the first process; the others get its options, and whether it is finished."""
    if rank() == 0:
        with run:
            first(run.finished)
            yield run
    else:
        yield SimpleNamespace(
            config=run.config, folder=run.folder, finished=first(None), earlier_seconds=0.0
        )
