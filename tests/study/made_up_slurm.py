"""A Slurm that takes every job and never starts one; and files that only look like a study's."""

from core.options import parse_config
from core.registry import CONTROLS
from study import checks, cluster
from study.cluster import Task
from study.config import StudyConfig


def study(root, *flags):
    """Return the options of a study of a log and audio that are under its root."""
    (root / "audio").mkdir(parents=True, exist_ok=True)
    (root / "log.tsv").touch()
    flags = ("--root", root, "--log", root / "log.tsv", "--audio", root / "audio", *flags)
    return parse_config(StudyConfig, "", [str(flag) for flag in flags])


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")


def made_up_queue(monkeypatch):
    """Return a Slurm that takes every job and never starts one; tests say what becomes of them."""

    class Queue:
        def __init__(self):
            self.tasks, self.submitted, self.cancelled = [], [], []
            self.environments = []
            self.changed = {}  # {script, script and embedding, or embedding: {task: why}}

        def says(self, what):
            return lambda: self.changed.get(what, {})

        def submit(self, batch, options, arguments, **environment):
            self.environments.append(environment)
            job = 100 + len(self.submitted)
            given = dict(o.removeprefix("--").partition("=")[::2] for o in options)
            self.submitted.append({"id": job, "batch": batch, "args": arguments, **given})
            indices = [0]
            if "array" in given:
                indices = []
                for span in given["array"].partition("%")[0].split(","):
                    first, _, last = span.partition("-")
                    indices += range(int(first), int(last or first) + 1)
            self.tasks += [
                Task(job, i, "array" in given, "PENDING", "Priority", "", "0:00", given["comment"])
                for i in indices
            ]
            return job

        def cancel(self, which):
            self.cancelled += [task.name for task in which]
            self.tasks = [task for task in self.tasks if task not in which]

        def becomes(self, state, job, *indices):
            self.tasks = [
                Task(*(vars(t) | {"state": state}).values())
                if t.job == job and (not indices or t.index in indices)
                else t
                for t in self.tasks
            ]

        def job(self, stage):
            return next(j for j in self.submitted[::-1] if j["comment"].endswith(f": {stage}"))

    queue = Queue()
    monkeypatch.setattr(cluster, "there_is_slurm", lambda: True)
    monkeypatch.setattr(cluster, "tasks", lambda user=None: queue.tasks)
    monkeypatch.setattr(cluster, "limits", dict)
    monkeypatch.setattr(cluster, "ask", lambda *words: "")  # no partition or QOS has limits
    monkeypatch.setattr(cluster, "refusal", lambda *_: "")
    monkeypatch.setattr(cluster, "nodes", lambda *_: set())
    # the files are made up as well: what they are made from is asked in test_checks.py
    monkeypatch.setattr(checks, "of_data", lambda script, *_: queue.says(script))
    monkeypatch.setattr(checks, "of_embedding", lambda _, name, __: queue.says(name))
    monkeypatch.setattr(
        checks, "of_runs", lambda script, *_, embedding, **__: queue.says(f"{script} {embedding}")
    )
    monkeypatch.setattr(cluster, "submit", queue.submit)
    monkeypatch.setattr(cluster, "cancel", queue.cancel)
    return queue


SMALL = ("--slurm", "--embeddings", "mfcc", "--recommenders", "knn,shallow", "--shuffled", "none")
SMALL += ("--shards", "4")
CONTROL_STAGES = tuple(  # as plan names them
    dict.fromkeys(
        "controls" if each.script == "baselines.py" else name
        for name, each in CONTROLS.items()
        if each.by_default
    )
)
CONTROL_RUNS = tuple(
    f"runs/{name}-none-s1/metrics.json" for name, each in CONTROLS.items() if each.by_default
)
N_STAGES = 10 + len(CONTROL_STAGES)  # of a SMALL study
