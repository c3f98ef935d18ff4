"""The study as a graph of jobs: what is done, what the queue does, what is to be submitted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from core.options import InputError
from study.cluster import Task
from study.config import StudyConfig
from study.record import Record, number_in
from study.stages import Stage, plan


@dataclass
class Node:
    """A stage, and what is known of its jobs.

    Attributes:
        missing: tasks that are not done.
        changed: {task: what it would refuse}: done, but from other things than asked for.
        jobs: the record's, oldest first.
        tasks: that Slurm remembers, of any state.
        working: {task: its job in the queue}, if that does what is asked for now.
        differing: jobs in the queue that do something else, or began before what they need is done.
        todo: tasks to submit; `decide` sets it.
        let_go: jobs to cancel first: they differ, or wait for jobs that have failed.
        remade: it is done again because of what has changed.
        asked: MB that its next job asks for; 0: it says nothing.
        memory: MB that its next job asks for, since one ran out of what it had; or None.
        taken: tasks that were submitted just now, as the job `submitted`.
    """

    stage: Stage
    missing: list[int]
    changed: dict[int, str] = field(default_factory=dict)
    jobs: list[dict] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    working: dict[int, Task] = field(default_factory=dict)
    differing: list[Task] = field(default_factory=list)
    todo: list[int] = field(default_factory=list)
    let_go: list[Task] = field(default_factory=list)
    remade: bool = False
    submitted: int | None = None
    asked: int = 0
    memory: int | None = None
    taken: list[int] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return not self.missing

    @property
    def flags(self) -> tuple[str, ...]:
        """What its next job is called with."""
        return (*self.stage.flags, *(["--overwrite"] if self.remade else []))

    def active(self) -> list[Task]:
        """Return the jobs in the queue that work on what is missing."""
        return [*self.working.values(), *self.differing]

    def open(self) -> list[int]:
        """Return the missing tasks that no job of the queue will do."""
        return [index for index in self.missing if index not in self.working]

    def uncovered(self) -> list[int]:
        """Return the missing tasks that no job does or will do, those of just now included."""
        return [index for index in self.open() if index not in self.taken]

    def last_job(self, index: int) -> dict | None:
        """Return the newest job that was to do a task; None: there was none."""
        label = self.stage.labels[index]
        return next((j for j in reversed(self.jobs) if number_in(j, label) is not None), None)


def look(config: StudyConfig, record: Record, queue: list[Task]) -> list[Node]:
    """Return every stage with what is missing on the disk and what the queue does of it.

    What is made from something that is not done is not done either.

    Raises:
        InputError: an extraction was begun with another number of shards.
    """
    by_name: dict[str, Node] = {}
    for stage in plan(config):
        needs = [by_name[name] for name in stage.needs]
        node = Node(stage, stage.missing(), jobs=record.stages.get(stage.name, []))
        waits = not all(need.done for need in needs)
        if not waits or not stage.follows:
            node.changed = stage.changed()
            node.missing = sorted({*node.missing, *node.changed})
        if waits and stage.follows:
            node.missing = stage.tasks
            node.remade = any(need.remade for need in needs) and stage.asks
        node.remade = node.remade or bool(node.changed)
        node.tasks = record.own(stage.name, queue)
        node.jobs = record.stages[stage.name]
        _assign(node, began_too_early=waits and stage.follows)
        by_name[stage.name] = node
    return list(by_name.values())


def _assign(node: Node, began_too_early: bool) -> None:
    """Sort the stage's jobs of the queue into those that do what is asked, and others."""
    by_id = {job["id"]: job for job in node.jobs}
    places = {label: index for index, label in enumerate(node.stage.labels)}
    for task in (task for task in node.tasks if task.active):
        job, waits = by_id[task.job], task.state == "PENDING"
        place = dict(zip(job["tasks"], map(places.get, job["labels"]), strict=True)).get(task.index)
        command, now = job["command"].removesuffix(" --overwrite"), node.stage.python
        same = command == now and (job["command"] != command or not node.remade)
        if not waits and node.stage.array:  # a running task trains its seed, whatever the others
            same = _but_seeds(command) == _but_seeds(now)
        if place is None and same and not waits and node.stage.array:
            continue  # a seed that is not asked for now
        if place is None or not same or (began_too_early and not waits):
            node.differing.append(task)
        elif place in node.missing:
            node.working[place] = task


def _but_seeds(command: str) -> str:
    return re.sub(r" --seeds \S+", "", command)


def decide(nodes: list[Node], *, overwrite: bool) -> None:
    """Set what each stage submits, and what it cancels before.

    Raises:
        InputError: something was made from other things, and is not to be overwritten; or is being
            made with other options.
    """
    refused = {
        node.stage.name: why
        for node in nodes
        for index, why in node.changed.items()
        if index not in node.working  # else it is being made again
    }
    if refused and not overwrite:
        raise InputError(tell_changed(refused))
    by_name = {node.stage.name: node for node in nodes}
    for node in nodes:
        running = [task for task in node.differing if task.state != "PENDING"]
        if running and node.stage.array:
            raise InputError(
                f"{node.stage.name} runs with other options than are asked for now, as "
                f"{', '.join(task.name for task in running)}; wait for it, or cancel it: scancel "
                f"{' '.join(task.name for task in running)}"
            )
        node.let_go = [task for task in node.differing if task.state == "PENDING"]
        node.differing = running
        if any(by_name[name].todo for name in node.stage.needs):
            waiting = {i: task for i, task in node.working.items() if task.state == "PENDING"}
            node.let_go += waiting.values()
            node.working = {i: t for i, t in node.working.items() if i not in waiting}
        node.todo = node.open()


def tell_changed(refused: dict[str, str]) -> str:
    """Return the message for stages that are done, but were made from other things."""
    shown = [f"{name}: {why.partition('; --overwrite')[0]}" for name, why in refused.items()]
    more = f"; and {len(shown) - 4} more stages" if len(shown) > 4 else ""
    return (
        f"{len(refused)} stages were made from other things than are asked for now: "
        f"{'; '.join(shown[:4])}{more}. Nothing was begun; --overwrite makes them again with what "
        "follows from them, another --root keeps both"
    )
