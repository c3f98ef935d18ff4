"""ROOT/runs/study.json: which job does what. A job is a study's if its number and comment agree.

The record is written before a job is submitted and again when it has its number, so that a
submission that is killed in between leaves no job unknown: the queue has its comment.
"""

from __future__ import annotations

import datetime
import getpass
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.artifacts import read_json, write_json
from study.cluster import Task

WAVE = "wave"  # stands for the job that submits the rest, where stages have their names
AGAIN = "the same command once it is removed"
PAUSE = 0.2  # seconds before a record that was written meanwhile is read again


def study_file(root: Path) -> Path:
    return root / "runs" / "study.json"


@dataclass
class Record:
    """The study of a root.

    Attributes:
        id: made once; with the root it tells this study's jobs from those of a copy.
        user: who submitted last.
        flags: of that submission.
        audio: the folder whose files were looked at.
        round: how often somebody has submitted; what a wave submits belongs to the same.
        stages: {name: jobs, oldest first}; a job is a dict of id (None: being submitted), tasks,
            labels (of its tasks), command, submitted (when), round, asked (MB),
            memory (MB, if raised) and cancelled (labels).
    """

    root: Path
    id: str
    user: str
    flags: list[str] = field(default_factory=list)
    audio: str | None = None
    round: int = 0
    stages: dict[str, list[dict]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> Record:
        """Return the record; a new one where there is none, or one that came with a copied root.

        Raises:
            InputError: it is damaged. A new one in its place would forget jobs that are running.
        """
        path, place = study_file(root), str(root.resolve())
        made = read_json(path, AGAIN, ("root", "id", "stages")) if path.exists() else {}
        if made.get("root") != place:
            return cls(root, uuid.uuid4().hex[:12], getpass.getuser(), made.get("flags", []))
        names = ("id", "user", "flags", "audio", "round", "stages")
        return cls(root, **{name: made[name] for name in names if name in made})

    @classmethod
    def read_with_queue(
        cls, root: Path, ask: Callable[[Record], list[Task] | None]
    ) -> tuple[Record, list[Task] | None]:
        """Return the record and what `ask` says of the queue, both of one moment.

        What submits, as a wave does, writes the record around each job. A record of before would
        not know jobs that are in the queue since, one of after would miss them there: both would
        tell of work that nobody does. So both are read again until the record has stood still.

        Args:
            ask: gets the record, and returns the jobs of who submitted it.

        Raises:
            InputError: the record is damaged.
        """
        path = study_file(root)
        while True:
            before = path.read_bytes() if path.exists() else b""
            record = cls.read(root)
            queue = ask(record)
            if before == (path.read_bytes() if path.exists() else b""):
                return record, queue
            time.sleep(PAUSE)

    def write(self) -> None:
        write_json(study_file(self.root), vars(self) | {"root": str(self.root.resolve())})

    def comment(self, stage: str) -> str:
        """Return the comment of a stage's jobs: it names the study, and nobody else's has it."""
        return f"study {self.id} {self.root.resolve()}: {stage}"

    def own(self, stage: str, queue: list[Task]) -> list[Task]:
        """Return those jobs of the queue that are a stage's; forget what was not submitted."""
        comment, jobs = self.comment(stage), self.stages.setdefault(stage, [])
        alike = [task for task in queue if task.comment == comment]
        unknown = {task.job for task in alike} - {job["id"] for job in jobs}
        for job in jobs:
            if job["id"] is None and unknown:
                job["id"] = unknown.pop()
        jobs[:] = [job for job in jobs if job["id"] is not None]
        return [task for task in alike if task.job in {job["id"] for job in jobs}]

    def begin(self, stage: str, **job) -> dict:
        """Write down a job that is about to be submitted; set its `id` when it is."""
        now = datetime.datetime.now().isoformat(" ", "seconds")
        job = {"id": None, **job, "submitted": now, "round": self.round}
        self.stages.setdefault(stage, []).append(job)
        self.write()
        return job

    def cancelled(self, stage: str, tasks: list[Task]) -> None:
        """Remember which tasks people have cancelled: Slurm forgets within minutes."""
        for job in self.stages[stage]:
            numbers = {task.index for task in tasks if task.job == job["id"]}
            labels = zip(job["tasks"], job["labels"], strict=True)
            if gone := [label for number, label in labels if number in numbers]:
                job["cancelled"] = [*job.get("cancelled", []), *gone]


def number_in(job: dict, label: str) -> int | None:
    """Return the number that a job's array gives to what has this label; None: it is not in it."""
    labels = job["labels"]
    return job["tasks"][labels.index(label)] if label in labels else None
