"""What is said of each stage: done, running, waiting, failed, cancelled or not submitted."""

from __future__ import annotations

import shlex
from pathlib import Path

from extract_item_embeddings.engine.shards import array_expression
from study.cluster import HERE, Task
from study.graph import Node
from study.record import number_in

NO_ARRAY = 4294967294  # what stands for a task's number in the log of a job that is no array
HINTS = {
    "OUT_OF_MEMORY": "raise --mem in {batch}",
    "TIMEOUT": "raise --time in {batch}, or cut the work into more tasks",
    "NODE_FAIL": "the node failed; nothing is wrong with the work",
}
SHOWN = 3  # failed tasks of an array whose logs are shown


def describe(node: Node, by_name: dict[str, Node], n_lines: int) -> tuple[str, list[str]]:
    """Return the state of a stage, and the lines that tell it.

    Args:
        by_name: all stages of the study.
        n_lines: of each failed job's log.
    """
    active, name = node.active(), node.stage.name
    if node.done:
        return "done", [f"done       {name}"]
    if node.changed and not active:
        why = next(iter(node.changed.values())).partition("; --overwrite")[0]
        return "changed", [f"CHANGED    {name}: {why}"]
    failed = [index for index in node.open() if node.last_job(index)]
    held = [n for n in node.stage.needs if not by_name[n].done and not by_name[n].active()]
    ran = [index for index in failed if find_log(node, index)]
    if failed and held and not ran:
        return "cancelled", [f"cancelled  {name}: it needs {', '.join(held)}"]
    if failed and not active and not any(is_failure(node, index) for index in failed):
        which = f" tasks {array_expression(failed)}" if node.stage.array else ""
        return "cancelled", [f"cancelled  {name}{which}"]
    if failed:
        going = f"; {_where(active)}" if active else ""
        which = f" tasks {array_expression(failed)}" if node.stage.array else ""
        lines = [f"FAILED     {name}{which}{going}"]
        for index in failed[:SHOWN]:
            lines += _failure(node, index, n_lines)
        return "failed", lines
    running = [task for task in active if task.state != "PENDING"]
    if running:
        return "running", [f"running    {name}: {_where(active)}{_left(node)}"]
    if active:
        return "waiting", [f"waiting    {name}: {_where(active)}{_left(node)}"]
    return "not submitted", [f"missing    {name}: not submitted"]


def find_log(node: Node, index: int) -> Path | None:
    """Return the log of the newest job that was to do a task; None: it has not begun."""
    if (job := node.last_job(index)) is None:
        return None
    number = number_in(job, node.stage.labels[index]) if node.stage.array else NO_ARRAY
    return next((HERE / "logs").glob(f"*-{job['id']}_{number}.out"), None)


def is_failure(node: Node, index: int) -> bool:
    """Say whether a task that no job will do has failed: it was not cancelled, and has begun."""
    state = last_state(node, index)
    return state != "CANCELLED" if state else find_log(node, index) is not None


def last_state(node: Node, index: int) -> str:
    """Return what Slurm says of the newest job that was to do a task; '' once it has forgotten."""
    job = node.last_job(index)
    number = number_in(job, node.stage.labels[index])
    return next((t.state for t in node.tasks if (t.job, t.index) == (job["id"], number)), "")


def _left(node: Node) -> str:
    return f"; {len(node.missing)} tasks are not done" if node.stage.array else ""


def _where(tasks: list[Task]) -> str:
    """Return which jobs run where and for how long, and why others wait."""
    said = []
    for task in tasks:
        if task.state != "PENDING":
            said.append(f"{task.name} {task.state.lower()} on {task.node} for {task.time}")
    waiting: dict[tuple[int, str], list[Task]] = {}
    for task in tasks:
        if task.state == "PENDING":
            waiting.setdefault((task.job, task.reason), []).append(task)
    for (job, reason), some in waiting.items():
        which = f"_[{array_expression(sorted(t.index for t in some))}]" if some[0].array else ""
        said.append(f"{job}{which} pending ({reason})")
    return ", ".join(said)


def _failure(node: Node, index: int, n_lines: int) -> list[str]:
    job, log, state = node.last_job(index), find_log(node, index), last_state(node, index)
    number = number_in(job, node.stage.labels[index])
    name = f"{job['id']}_{number}" if node.stage.array else str(job["id"])
    hint = HINTS.get(state, "").format(batch=node.stage.batch)
    lines = [f"           job {name} {state}".rstrip() + (f": {hint}" if hint else "")]
    if log is None:
        lines.append("           it wrote no log")
    else:
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        lines.append(f"           {log.relative_to(HERE)}:")
        lines += [f"           | {line}" for line in text[-n_lines:] if n_lines]
    before = f"SLURM_ARRAY_TASK_ID={index} " if node.stage.array else ""
    command = f"cd {shlex.quote(str(HERE))} && {before}{node.stage.python}"
    return [*lines, f"           by hand: {command}"]
