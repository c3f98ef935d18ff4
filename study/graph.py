"""The study as a graph of jobs: what is missing is submitted, after what it needs.

ROOT/runs/study.json remembers which job does what. It is written after every submission; a job
that was submitted and not written down is found in the queue by its comment. So submitting again,
at any time, adds only what is neither on the disk nor in the queue.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path

from core.artifacts import exclusive, read_json, write_json
from core.options import InputError
from extract_item_embeddings.engine.shards import array_expression
from study import cluster
from study.cluster import Task
from study.config import StudyConfig, flags_of
from study.stages import Stage, plan


@dataclass
class Node:
    """A stage, and what is known of its jobs."""

    stage: Stage
    missing: list[int]  # tasks that are not on the disk
    tasks: list[Task] = field(default_factory=list)  # that Slurm remembers, of any state
    submitted: int | None = None  # the job that was submitted just now
    jobs: list[dict] = field(default_factory=list)  # of study.json, oldest first

    @property
    def done(self) -> bool:
        return not self.missing

    def active(self) -> list[Task]:
        return [task for task in self.tasks if task.active and task.index in self.missing]

    def open(self) -> list[int]:
        """Return the missing tasks that no job of the queue will do."""
        busy = {task.index for task in self.active()}
        return [index for index in self.missing if index not in busy]


def study_file(root: Path) -> Path:
    return root / "runs" / "study.json"


def look(config: StudyConfig, record: dict) -> list[Node]:
    """Return every stage with what is missing on the disk and what Slurm knows of its jobs."""
    found = cluster.tasks() if cluster.there_is_slurm() else []
    nodes = []
    for stage in plan(config):
        jobs = record.get("stages", {}).get(stage.name, {}).get("jobs", [])
        known, comment = {job["id"] for job in jobs}, _comment(config, stage)
        mine = [task for task in found if task.job in known or task.comment == comment]
        nodes.append(Node(stage, stage.missing(), mine, jobs=jobs))
    return nodes


def submit_study(config: StudyConfig) -> list[Node]:
    """Submit what is missing; return all stages.

    Raises:
        InputError: there is no Slurm, or another process submits this study now.
        WorkError: Slurm refuses.
    """
    if not cluster.there_is_slurm():
        raise InputError("--slurm: no Slurm on this machine (no sbatch); leave --slurm away")
    path = study_file(config.root)
    with exclusive(path.with_name(".study.lock"), f"the submission of {config.root}"):
        record = {"flags": [], "stages": {}}
        if path.exists():
            record = read_json(path, "the same command once it is removed")
        record["flags"] = flags_of(config)
        nodes = look(config, record)
        by_name = {node.stage.name: node for node in nodes}
        for node in nodes:
            needs = [by_name[name] for name in node.stage.needs if not by_name[name].done]
            if any(need.submitted for need in needs):
                _let_go(node)
            record["stages"].setdefault(node.stage.name, {}).update(
                needs=list(node.stage.needs), python=node.stage.python, jobs=node.jobs
            )
            if todo := node.open():
                options = _options(config, node.stage, todo) + _dependency(needs)
                arguments = list(node.stage.flags)
                if node.stage.batch == "stage.sh":
                    arguments = [*node.stage.script, *arguments]
                node.submitted = cluster.submit(node.stage.batch, options, arguments)
                now = datetime.datetime.now().isoformat(" ", "seconds")
                node.jobs.append({"id": node.submitted, "tasks": todo, "submitted": now})
                write_json(path, record)
        write_json(path, record)
    return nodes


def _let_go(node: Node) -> None:
    """Cancel what waits for jobs that have failed: it is submitted again, after the new ones."""
    waiting = [task for task in node.active() if task.state == "PENDING"]
    if waiting:
        cluster.cancel(waiting)
        node.tasks = [task for task in node.tasks if task not in waiting]


def _comment(config: StudyConfig, stage: Stage) -> str:
    return f"study {config.root.absolute()}: {stage.name}"


def _options(config: StudyConfig, stage: Stage, todo: list[int]) -> list[str]:
    options = [f"--comment={_comment(config, stage)}", "--kill-on-invalid-dep=yes"]
    if stage.batch == "stage.sh":
        options.append(f"--job-name={stage.name.replace(' ', '-')}")
    if stage.array:
        options.append(f"--array={array_expression(todo)}%{config.at_once}")
    if stage.without_gpu or config.gpus == 0:
        options.append("--gres=none")
    elif stage.training and config.gpus:
        options += cluster.node_share(config.gpus, stage.batch)
    return options


def _dependency(needs: list[Node]) -> list[str]:
    """Return the option that lets a job wait for all unfinished tasks of other stages."""
    jobs = []
    for need in needs:
        jobs += [task.name for task in need.active()]
        jobs += [str(need.submitted)] if need.submitted else []
    return [f"--dependency=afterok:{':'.join(dict.fromkeys(jobs))}"] if jobs else []


def tree(nodes: list[Node]) -> list[str]:
    """Return the lines of the graph as a tree: each job under the last of those it waits for."""
    by_name = {node.stage.name: node for node in nodes}
    children: dict[str | None, list[Node]] = {}
    for node in nodes:
        waits_for = [name for name in node.stage.needs if not by_name[name].done]
        children.setdefault(waits_for[-1] if waits_for else None, []).append(node)

    def lines(parent: str | None, indent: str):
        below = children.get(parent, [])
        for node in below:
            last = node is below[-1]
            stem, deeper = (
                ("", "") if parent is None else ("└─ ", "   ") if last else ("├─ ", "│  ")
            )
            yield f"{indent}{stem}{_label(node, by_name)}"
            yield from lines(node.stage.name, indent + deeper)

    return list(lines(None, ""))


def _label(node: Node, by_name: dict[str, Node]) -> str:
    if node.done:
        return f"{node.stage.name}: done"
    jobs = dict.fromkeys(task.job for task in node.active())
    known = f" in the queue as {', '.join(map(str, jobs))}" if jobs else ""
    new = f" {node.submitted}" if node.submitted else ""
    if node.submitted and node.stage.array:
        new += f"_[{array_expression(node.jobs[-1]['tasks'])}]"
    others = [n for n in node.stage.needs if not by_name[n].done][:-1]
    more = f" (and after {len(others)} others)" if len(others) > 2 else ""
    if 0 < len(others) <= 2:
        more = f" (and after {', '.join(others)})"
    return f"{node.stage.name}:{new}{known}{more}"
