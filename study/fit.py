"""Whether Slurm would take each job, found out before the first is submitted.

`sbatch --test-only` knows partitions, accounts, QOS and how a time is written. Of a job that is too
large for every node it says what it says of one whose nodes are all drained today, which it takes;
so whether a node is large enough is judged by the nodes' own sizes, whatever their state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.options import InputError
from study import cluster

TODAY = "node configuration is not available|busy|down|drained|reserved|inactive or drain"


@dataclass(frozen=True)
class Size:
    """Of a node, or what a job asks of one."""

    cpus: int
    memory: int  # MB
    gpus: int

    def holds(self, job: Size) -> bool:
        return all(a >= b for a, b in zip(vars(self).values(), vars(job).values(), strict=True))

    def __str__(self) -> str:
        return f"{self.cpus} cpus, {self.memory:,} MB and {self.gpus} GPUs"


def check_fit(stage: str, key: str, asked: dict[str, str], partition: str) -> None:
    """Raise InputError if the partition has no node on which a job of the stage could run.

    Args:
        key: of its settings in cluster.env, as in MEM_key.
        asked: of cluster.resources.
    """
    job, nodes = size_of(asked), [Size(*node) for node in cluster.nodes(partition)]
    if not nodes or any(node.holds(job) for node in nodes):
        return
    largest = max(nodes, key=lambda node: (node.gpus >= job.gpus, node.memory, node.cpus))
    advice = f"set MEM_{key} or CPUS_{key} in cluster.env"
    if largest.gpus < job.gpus:
        advice = f"give --gpus 0 to do without, or set PARTITION_{key} in cluster.env"
    raise InputError(
        f"{stage} asks for {job}, and no node of {partition or 'this Slurm'} has so much: the "
        f"largest has {largest}; {advice}"
    )


def check_taken(stage: str, refused: str) -> None:
    """Raise InputError unless what `sbatch --test-only` says ('': nothing) is about today alone."""
    if refused and not re.search(TODAY, refused):
        raise InputError(
            f"{stage} would not be taken by Slurm: {refused}; see its settings in cluster.env, and "
            "SBATCH_* in this shell"
        )


def size_of(asked: dict[str, str]) -> Size:
    return Size(int(asked.get("cpus-per-task", 1)), memory_of(asked), gpus_of(asked))


def memory_of(asked: dict[str, str]) -> int:
    """Return the MB that a job asks for, of all its processors; 0 where it says nothing."""
    each = int(asked.get("cpus-per-task", 1)) if "mem" not in asked else 1
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", asked.get("mem") or asked.get("mem-per-cpu", ""))
    if not found:
        return 0
    power = {"K": -1, "M": 0, "": 0, "G": 1, "T": 2}[found[2]]
    return int(each * int(found[1]) * 1024**power)


def gpus_of(asked: dict[str, str]) -> int:
    found = re.search(r"gpu(?::[^:,]+)?(?::(\d+))?", asked.get("gres", ""))
    return int(found[1] or 1) if found else 0
