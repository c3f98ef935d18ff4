"""What is said of each stage: done, running, waiting, failed, cancelled or not submitted."""

from __future__ import annotations

import re
import shlex

from extract_item_embeddings.engine.shards import array_expression
from study.cluster import HERE, Task
from study.endings import WORDS, find_log, hint, is_failure, last_state, log_of
from study.graph import Node
from study.record import WAVE, Record, number_in
from study.running import progress_of

# What cluster.sh, or Slurm, writes last of a job that has failed.
ENDED_BADLY = "|".join([r": exit code [1-9]", *WORDS.values()])
MOST_BARS = 10  # running tasks of an array whose bars are shown
SHOWN = 3  # failed tasks of an array whose logs are shown


def describe(
    node: Node,
    by_name: dict[str, Node],
    n_lines: int,
    *,
    wave: Task | None = None,
    this_round: int = 0,
    queue_known: bool = True,
) -> tuple[str, list[str]]:
    """Return the state of a stage, and the lines that tell it.

    Args:
        by_name: all stages of the study.
        n_lines: of each failed job's log.
        wave: job in the queue that submits what has had no job in this round.
        queue_known: Slurm has answered; else only what is done is known.
    """
    active, name = node.active(), node.stage.name
    if node.done:
        return "done", [f"done       {name}"]
    if node.jobs and not queue_known:
        ids = ", ".join(dict.fromkeys(str(job["id"]) for job in node.jobs[-2:]))
        return "not known", [f"not known  {name}: submitted as {ids}"]
    if node.changed and not active:
        why = next(iter(node.changed.values())).partition("; --overwrite")[0]
        return "changed", [f"CHANGED    {name}: {why}"]
    failed = [
        index
        for index in node.open()
        if (job := node.last_job(index)) and not (wave and job["round"] < this_round)
    ]
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
        lines = [f"running    {name}: {_where(active)}{_left(node)}"]
        return "running", lines + _bars(node)
    if active:
        return "waiting", [f"waiting    {name}: {_where(active)}{_left(node)}"]
    if wave:
        return "later", [f"later      {name}: wave {wave.name} submits it"]
    return "not submitted", [f"missing    {name}: not submitted"]


def _bars(node: Node) -> list[str]:
    """Return a line for each running task of which it is known how far it is."""
    lines = []
    for index, task in node.working.items():
        if task.state != "PENDING":
            if said := progress_of(node, index, task, find_log(node, index)):
                lines.append(f"           {task.name} {said}")
    return lines[:MOST_BARS]


def _left(node: Node) -> str:
    total = len(node.stage.labels)
    return f"; {total - len(node.missing)} of {total} tasks done" if total > 1 else ""


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
    advice = hint(node, index)
    lines = [f"           job {name} {state}".rstrip() + (f": {advice}" if advice else "")]
    if log is None:
        lines.append("           it wrote no log")
    else:
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        lines.append(f"           {log.relative_to(HERE)}:")
        lines += [f"           | {line}" for line in text[-n_lines:] if n_lines]
    before = f"SLURM_ARRAY_TASK_ID={index} " if node.stage.array else ""
    command = f"cd {shlex.quote(str(HERE))} && {before}{node.stage.python}"
    return [*lines, f"           by hand: {command}"]


def wave_failure(record: Record, n_lines: int) -> list[str]:
    """Return the lines that tell how the last wave failed; none if it has not.

    Args:
        n_lines: of its log.
    """
    job = next(iter(record.stages.get(WAVE, [])[::-1]), None)
    if job is None or job["round"] < record.round or job.get("cancelled"):
        return []
    log = log_of(job["id"])
    text = log.read_text(encoding="utf-8", errors="replace").splitlines() if log else []
    if not re.search(ENDED_BADLY, "\n".join(text[-3:])):
        return []
    lines = [f"FAILED     wave {job['id']}, which was to submit the rest:"]
    return lines + [f"           | {line}" for line in text[-n_lines:] if n_lines]
