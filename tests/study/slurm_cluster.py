"""A real Slurm on this machine, and a copy of the project that submits to it; for tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import HERE

DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")
SYSTEM = os.environ["PATH"] + ":/usr/sbin:/sbin"
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


def require_slurm() -> None:
    """Skip unless a Slurm can be started; where SLURM_TESTS is set, fail instead."""
    absent = [name for name in DAEMONS if not shutil.which(name, path=SYSTEM)]
    lacks = f"no {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)"
    if not absent and os.geteuid() == 0:
        return
    if not absent:
        lacks = "only root can make the device files of its GPUs"
    if os.environ.get("SLURM_TESTS"):
        pytest.fail(f"SLURM_TESTS is set, but a Slurm cannot be started here: {lacks}")
    pytest.skip(f"a Slurm cannot be started here: {lacks}")


@dataclass
class Cluster:
    """Two nodes of 16 processors, 32 GB and two GPUs each, in name; and the project's copy."""

    folder: Path  # of the Slurm
    project: Path  # where commands run

    @property
    def environment(self) -> dict:
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        return {**outside, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, line: str, code: int = 0) -> str:
        """Run a command line in the project; return what it prints, all of it."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"{line}\n{done.stdout}"
        return done.stdout

    def submit(self, line: str) -> int:
        """Submit; return the job's number."""
        return int(re.search(r"Submitted batch job (\d+)", self.call(line))[1])

    def states(self, *jobs: int) -> dict[str, str]:
        """Return {JOB or JOB_TASK: state}, of all jobs or of some."""
        some = f" -j {','.join(map(str, jobs))}" if jobs else ""
        lines = self.call(f"squeue -h -r -t all -o '%i %T'{some}").splitlines()
        return dict(line.split() for line in lines)

    def wait(self, *jobs: int, seconds: float = 200) -> dict[str, str]:
        """Wait until jobs (none: all) are over; return their states."""
        return self.until(lambda states: states and set(states.values()) <= OVER, *jobs, t=seconds)

    def until(self, reached, *jobs: int, t: float = 120) -> dict[str, str]:
        """Wait until the states are as they should be; return them."""
        end = time.monotonic() + t
        while not reached(states := self.states(*jobs)):
            if time.monotonic() > end:
                logs = "\n".join(f"{p.name}:\n{p.read_text()}" for p in self.logs())
                pytest.fail(f"still {states} after {t} s\n{logs}")
            time.sleep(0.1)
        return states

    def logs(self) -> list[Path]:
        return sorted((self.project / "logs").glob("*.out"))

    def log(self, job: int, task: int = 4294967294) -> str:
        """Return the log of a job, or of an array's task; empty before it runs."""
        found = list((self.project / "logs").glob(f"*-{job}_{task}.out"))
        return found[0].read_text() if found else ""

    def warn(self, name: str) -> None:
        """Send a job, or a task as JOB_TASK, what Slurm sends before a time limit."""
        # scancel would try again, and hit the job's next start
        self.call(f"timeout 2 scancel --batch --signal=USR1 {name} || true")

    def clear(self) -> None:
        """Cancel every job, and wait until they are gone."""
        self.call("scancel --user=$(id -un)")
        self.until(lambda states: set(states.values()) <= OVER)


def start_cluster(folder: Path):
    """Yield a running cluster; stop it in the end, whatever happens."""
    require_slurm()
    cluster = Cluster(folder / "slurm", folder / "project")
    copy_project(cluster.project)
    scripts = HERE / "tests" / "study" / "slurm"
    # When these tests are killed, this pipe closes, and what reads it stops the daemons.
    guard = subprocess.Popen(
        ["bash", "-c", 'cat; exec "$0" "$1"', scripts / "stop.sh", cluster.folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    done = subprocess.run(
        [scripts / "start.sh", cluster.folder], capture_output=True, text=True, timeout=120
    )
    try:
        assert done.returncode == 0, done.stderr
        yield cluster
    finally:
        guard.stdin.close()
        guard.wait(120)


def copy_project(target: Path) -> None:
    """Copy what git has or would have, and settle which python jobs use."""
    git = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(git, cwd=HERE, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        if (HERE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, target / name)
    python = Path(sys.executable).parent
    settings = f'export PATH="{python}:$PATH" OMP_NUM_THREADS=1\n'
    (target / "cluster.env").write_text(settings)
