"""How far the study's Slurm jobs are: done, running, waiting, failed, and what mends it.

    python study_status.py --root sample
    python study_status.py --root sample --lines 30        # more of the logs of failed jobs

Reads   runs/study.json and the finished files under the root, logs/, the queue (squeue, if there
        is one; accounting is not needed)

Exit code 1 when something has failed. What is done is judged from the files alone.
"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from core.artifacts import read_json
from core.options import InputError, WorkError, option, parse_config, run
from study import cluster
from study.config import StudyConfig
from study.graph import Node, look, study_file
from study.progress import describe


@dataclass(frozen=True)
class StatusConfig:
    root: Path = option(Path("sample"), "folder of the study")
    lines: int = option(8, "last lines of a failed job's log to show")

    def __post_init__(self):
        if self.lines < 0:
            raise InputError(f"--lines must be at least 0, got {self.lines}")


def main(config: StatusConfig) -> None:
    path = study_file(config.root)
    again = f"bash run_all.sh --slurm --root {config.root} ..."
    record = read_json(path, again)
    nodes: list[Node] = look(parse_config(StudyConfig, "", record["flags"]), record)
    if not cluster.there_is_slurm():
        print("no Slurm on this machine: what is in the queue is not known")
    states = Counter()
    by_name = {node.stage.name: node for node in nodes}
    for node in nodes:
        state, lines = describe(node, by_name, config.lines)
        states[state] += 1
        print("\n".join(lines))
    print(", ".join(f"{n} {state}" for state, n in states.items()))
    command = shlex.join(["bash", "run_all.sh", *record["flags"]])
    if states["failed"]:
        raise WorkError(f"{states['failed']} of {len(nodes)} stages failed; mend it: {command}")
    if not set(states) <= {"done", "running", "waiting"}:
        print(f"go on: {command}")


if __name__ == "__main__":
    run(main, StatusConfig, __doc__)
