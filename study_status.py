"""How far the study's Slurm jobs are: done, running, waiting, failed, and what mends it.

    python study_status.py --root sample
    python study_status.py --root sample --lines 30        # more of the logs of failed jobs
    python study_status.py --root sample --watch 10        # again every 10 s

Reads   runs/study.json and the finished files under the root, logs/, the queue (squeue, if there
        is one; accounting is not needed)

Exit code 1 when something has failed. What is done is judged from the files alone.
"""

import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

from core.artifacts import read_json
from core.late import options_are_read
from core.options import WorkError, at_least, option, parse_config, run
from study import cluster
from study.config import StudyConfig, command_line
from study.record import WAVE, Record, study_file

if options_are_read(__name__):
    from study.graph import look
    from study.progress import describe, wave_failure

CLEAR = "\033[H\033[2J"  # a terminal's screen


@dataclass(frozen=True)
class StatusConfig:
    root: Path = option(Path("sample"), "folder of the study")
    watch: float | None = option(None, "look again every so many seconds, until no job is left")
    lines: int = option(8, "last lines of a failed job's log to show")

    def __post_init__(self):
        at_least(self, lines=0, watch=1)


def main(config: StatusConfig) -> None:
    while show(config, last=config.watch is None):
        time.sleep(config.watch)
        print(CLEAR if sys.stdout.isatty() else "", flush=True)


def show(config: StatusConfig, *, last: bool) -> bool:
    """Print the status; return whether to look again: not if it is the last, or no job is left.

    Raises:
        InputError: there is no study.
        WorkError: something has failed, and nobody looks again.
    """
    again = command_line("--slurm", "--root", config.root.absolute(), "...")
    read_json(study_file(config.root), again, ("flags", "id"))
    record, queue = Record.read_with_queue(config.root, queue_of)
    known, queue = queue is not None, queue or []
    nodes = look(parse_config(StudyConfig, "", record.flags), record, queue)
    wave = next((task for task in record.own(WAVE, queue) if task.active), None)
    now = {"wave": wave, "this_round": record.round, "queue_known": known}
    states = Counter()
    by_name = {node.stage.name: node for node in nodes}
    for node in nodes:
        state, lines = describe(node, by_name, config.lines, **now)
        states[state] += 1
        print("\n".join(lines))
    rest = wave_failure(record, config.lines) if states["not submitted"] and not wave else []
    print("\n".join([*rest, ", ".join(f"{n} {state}" for state, n in states.items() if n)]))
    command = command_line(*record.flags)
    if not last and (wave or states["not known"] or any(node.active() for node in nodes)):
        return True
    if states["failed"]:
        raise WorkError(f"{states['failed']} of {len(nodes)} stages failed; mend it: {command}")
    if rest and not any(node.active() for node in nodes):
        raise WorkError(f"the rest was not submitted; go on: {command}")
    if states["changed"]:
        print(f"make what has changed again: {command} --overwrite")
    elif known and not set(states) <= {"done", "running", "waiting", "later"}:
        print(f"go on: {command}")
    return False


def queue_of(record: Record) -> list[cluster.Task] | None:
    """Return the jobs of who submitted the study; where Slurm cannot say, say so: None."""
    if not cluster.there_is_slurm():
        print("no Slurm on this machine: what is in the queue is not known")
        return None
    try:
        return cluster.tasks(record.user)
    except WorkError as error:
        print(f"Slurm does not answer ({error}): what is in the queue is not known")
        return None


if __name__ == "__main__":
    run(main, StatusConfig, __doc__)
