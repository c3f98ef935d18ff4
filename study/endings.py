"""Why a job ended: what Slurm says of it, or, once it has forgotten, what it left in the log."""

from __future__ import annotations

import re
from pathlib import Path

from study import cluster
from study.cluster import HERE
from study.fit import memory_of
from study.graph import Node
from study.record import number_in
from study.stage import Stage

NO_ARRAY = 4294967294  # what stands for a task's number in the log of a job that is no array
TAIL = 4000  # characters of a log in which Slurm's last words are
WORDS = {
    "OUT_OF_MEMORY": r"oom[_-]kill|Out Of Memory|[Ee]xceeded (job )?memory limit",
    "TIMEOUT": r"DUE TO TIME LIMIT",
    "NODE_FAIL": r"DUE TO NODE FAILURE",
}
HINTS = {
    "OUT_OF_MEMORY": "set MEM_{key} in cluster.env{twice}",
    "TIMEOUT": "set TIME_{key} in cluster.env, or cut the work into more tasks",
    "NODE_FAIL": "the node failed; nothing is wrong with the work",
}


def find_log(node: Node, index: int) -> Path | None:
    """Return the log of the newest job that was to do a task; None: it has not begun."""
    if (job := node.last_job(index)) is None:
        return None
    return log_of(job["id"], number_in(job, node.stage.labels[index]) if node.stage.array else None)


def log_of(job: int, number: int | None = None) -> Path | None:
    """Return the log of a job, or of a task of its array; None: it has not begun."""
    number = NO_ARRAY if number is None else number
    return next((HERE / "logs").glob(f"*-{job}_{number}.out"), None)


def last_state(node: Node, index: int) -> str:
    """Return how the newest job that was to do a task ended, in Slurm's word; '': not known."""
    if (job := node.last_job(index)) is None:
        return ""
    label = node.stage.labels[index]
    number = number_in(job, label)
    known = next((t.state for t in node.tasks if (t.job, t.index) == (job["id"], number)), "")
    if known not in ("", "FAILED"):
        return known
    if label in job.get("cancelled", ()):
        return "CANCELLED"
    log = find_log(node, index)
    text = log.read_text(encoding="utf-8", errors="replace")[-TAIL:] if log else ""
    return next((state for state, words in WORDS.items() if re.search(words, text)), known)


def is_failure(node: Node, index: int) -> bool:
    """Say whether a task that no job will do has failed: it was not cancelled, and has begun."""
    state = last_state(node, index)
    return state != "CANCELLED" if state else find_log(node, index) is not None


def hint(node: Node, index: int) -> str:
    """Return what to change after a task that ended so; '' where nothing is known."""
    again = "memory" in node.last_job(index)
    twice = "" if again else "; submitted again it gets twice the memory, once"
    return HINTS.get(last_state(node, index), "").format(key=setting_of(node.stage), twice=twice)


def setting_of(stage: Stage) -> str:
    """Return the name of a stage's settings in cluster.env, as in TIME_name."""
    name = Path(stage.script[-1] if stage.batch == "stage.sh" else stage.batch).stem
    return re.sub(r"\W", "_", name)


def more_memory(node: Node, options: list[str]) -> int | None:
    """Return the MB that a stage's next job is to have, if one that it repeats had too little.

    It is twice what that one had; None if that was tried, if by now the file and the site ask for
    more than it had, or nothing ran out.
    """
    short = [i for i in node.taken or node.todo if last_state(node, i) == "OUT_OF_MEMORY"]
    if not short or any("memory" in node.last_job(index) for index in short):
        return None
    now = memory_of(cluster.resources(node.stage.batch, node.stage.script[0], options))
    had = max(node.last_job(index).get("asked", now) for index in short)
    return 2 * had if now <= had and had else None
