"""What is asked of Slurm: submit, look at the queue, cancel, the size of a node. No accounting."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from core.options import InputError, WorkError

HERE = Path(__file__).resolve().parents[1]
PATIENCE = 60  # seconds for an answer
ACTIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED")


@dataclass(frozen=True)
class Task:
    """A job, or one task of an array, that Slurm still knows."""

    job: int
    index: int  # 0 for a job that is no array
    array: bool
    state: str  # PENDING, RUNNING, COMPLETED, FAILED, ...
    reason: str  # why it waits
    node: str
    time: str  # that it has run, days-hours:minutes:seconds
    comment: str

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def name(self) -> str:
        """What Slurm calls it."""
        return f"{self.job}_{self.index}" if self.array else str(self.job)


def there_is_slurm() -> bool:
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def submit(batch: str, options: list[str], arguments: list[str], **environment: str) -> int:
    """Submit a batch file by cluster.sh, with the site's settings; return the job's number.

    Args:
        environment: variables that the job gets beside this process's own.
    """
    script = '. ./cluster.sh && submit "$@"'
    words = ["bash", "-c", script, "cluster.sh", batch, "--parsable", *options, "--", *arguments]
    return int(_call(words, **environment).split()[-1].partition(";")[0])


def refusal(batch: str, options: list[str], arguments: list[str]) -> str:
    """Return why Slurm would not take such a job now; '' if it would. Nothing is submitted."""
    words = ["bash", "-c", '. ./cluster.sh && submit "$@"', "cluster.sh", batch, "--test-only"]
    try:
        _call([*words, *options, "--", *arguments])
    except WorkError as error:
        said = re.split(r"\s*(?:sbatch: error|sbatch failed|allocation failure): ", str(error))
        return ", ".join(line.strip() for line in said if line.strip())
    return ""


def tasks(user: str | None = None) -> list[Task]:
    """Return all jobs of a user, else of this one, that Slurm remembers, also ended ones.

    Raises:
        WorkError: Slurm does not answer.
    """
    form, user = "%F|%K|%T|%r|%N|%M|%k", user or getpass.getuser()
    lines = _call(["squeue", "-h", "-r", "-t", "all", "-u", user, "-o", form])
    found = []
    for line in lines.splitlines():
        job, index, state, *rest = line.strip().split("|", 6)
        array = index.isdecimal()
        found.append(Task(int(job), int(index) if array else 0, array, state, *rest))
    return found


def resources(batch: str, script: str, options: list[str]) -> dict[str, str]:
    """Return what a job would ask for: its batch file's options, the site's, its own.

    Args:
        script: what stage.sh would run, or else anything.
        options: of sbatch, as submit takes them.

    Returns:
        {"time": "4:00:00", "mem": "20G", "cpus-per-task": "4", "gres": "gpu:1", ...}
    """
    line = (
        '. ./cluster.sh && settings "$@" || exit; for name in PARTITION ACCOUNT QOS; do '
        'from=SBATCH_$name; [ -z "${!from:-}" ] || echo "--${name,,}=${!from}"; done; '
        'printf "%s\\n" ${site[@]+"${site[@]}"}'
    )
    site = _call(["bash", "-c", line, "cluster.sh", batch, script, *options]).split("\n")
    text = (HERE / batch).read_text(encoding="utf-8")
    words = " ".join(re.findall(r"^#SBATCH (.*)$", text, re.M)).split()
    asked = dict(w.removeprefix("--").partition("=")[::2] for w in (*words, *site, *options) if w)
    if "mem-per-cpu" in asked and not any(o.startswith("--mem=") for o in options):
        asked.pop("mem", None)
    return asked


def limits() -> dict[str, int]:
    """Return the numbers among Slurm's settings, as {"MaxArraySize": 1001, ...}."""
    lines = (line.partition("=") for line in _call(["scontrol", "show", "config"]).splitlines())
    return {name.strip(): int(v.strip()) for name, _, v in lines if v.strip().isdecimal()}


def ask(*words: str) -> str:
    """Return what one of Slurm's commands prints.

    Raises:
        WorkError: it fails, or is not there.
    """
    try:
        return _call(list(words))
    except FileNotFoundError as error:
        raise WorkError(f"there is no {words[0]} on this machine") from error


def with_settings(words: list[str]) -> list[str]:
    """Return a command that runs another with the settings of cluster.env, as jobs have them."""
    return ["bash", "-c", '[ ! -f cluster.env ] || . ./cluster.env; exec "$@"', "bash", *words]


def job_name(root: Path, stage: str) -> str:
    """Return what squeue and the logs call a job: stage, embedding and study."""
    words = f"{stage.replace(' ', '-')}.{root.resolve().name}"
    return re.sub(r"[^A-Za-z0-9_.-]", "_", words)


def cancel(which: list[Task]) -> None:
    _call(["scancel", *(task.name for task in which)])


def nodes(partition: str = "") -> set[tuple[int, int, int]]:
    """Return (processors, MB, GPUs) of the nodes of a partition, else of all, in any state."""
    some, found = (["-p", partition] if partition else []), set()
    for line in _call(["sinfo", "-h", "-N", *some, "-o", "%G|%c|%m"]).splitlines():
        resources, cores, memory = line.strip().split("|")
        counts = re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", resources)
        found.add((int(cores.rstrip("+")), int(memory.rstrip("+")), sum(map(int, counts))))
    return found


def node_share(gpus: int, batch: str) -> list[str]:
    """Return the options that let as many jobs of a batch file share a node as it has GPUs.

    Each asks for no more than an equal part of the processors and memory of the smallest node that
    has so many GPUs, and for no more than the batch file does.

    Raises:
        InputError: no node has so many.
    """
    found = nodes()
    fitting = [node for node in found if node[2] >= gpus]
    if not fitting:
        largest = max((node[2] for node in found), default=0)
        raise InputError(f"--gpus {gpus}: no node has so many, the largest has {largest}")
    cores = min(node[0] for node in fitting) // gpus
    memory = int(min(node[1] for node in fitting) * 0.95) // gpus  # some is kept for the system
    text = (HERE / batch).read_text(encoding="utf-8")
    wanted_cores = int(re.search(r"--cpus-per-task=(\d+)", text)[1])
    wanted_memory = 1024 * int(re.search(r"--mem=(\d+)G", text)[1])
    return [
        f"--cpus-per-task={max(1, min(cores, wanted_cores))}",
        f"--mem={min(memory, wanted_memory)}M",
    ]


def _call(words: list[str], **environment: str) -> str:
    name = words[0] if words[0] != "bash" else "sbatch"
    try:
        done = subprocess.run(
            words,
            cwd=HERE,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkError(
            f"{name} failed: no answer within {PATIENCE} s; Slurm is busy or down: try again later"
        ) from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        if re.search("unable to contact|connection refused|connect failure", said, re.I):
            said += "; Slurm itself is down: try again once `scontrol ping` says UP"
        raise WorkError(f"{name} failed: {said}")
    return done.stdout
