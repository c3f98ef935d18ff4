"""What it costs to compare what is read with what was made: a stage's fingerprints, of its time.

    python -m benchmarks.bench_fingerprints

Makes data of the study's size in a temporary folder (17,053 users, 56,512 tracks, 5.1 M pairs, an
embedding 768 wide; for `wide`, a report, ten of 104 to 4,800; for stages 0 and 1 a log of --rows
plays, packed as the published one is: hashing and the rest grow alike), runs each stage on it in a
process of its own, and prints the processor's seconds of the whole process and of all that is
hashed in it: reading files only to hash them, and hashing what is read or written anyway. Of
training it is one epoch of the Shallow Net, from a few of its steps, and the two checkpoints that
an epoch may write.
Processor's seconds, because they are nearly the same beside other work. What must hold between the
files of a split is timed as well (`checks`): it is no fingerprint, and what an own split needs.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import wraps
from itertools import islice
from pathlib import Path

import numpy as np

import core.artifacts
import core.split_parts
from core.options import WorkError, option, parse_config, run

HERE = Path(__file__).resolve().parents[1]
EMBEDDING = "e768"
EPOCH = "an epoch"  # of train.py, in the place of a script
STEPS = 4  # that are timed
WIDE = "wide"  # report.py over ten embeddings
OWN_ROOT = {"0_get_plays_pqt.py": "log", "1_train_test_split.py": "log", WIDE: WIDE}
LOG = "log.tsv.bz2"
STAGES = {
    "0_get_plays_pqt.py": ("--log", f"ROOT/{LOG}"),
    "1_train_test_split.py": (),
    "knn.py": ("--embedding", EMBEDDING),
    "baselines.py": ("--only", "popular,random_lists"),
    EPOCH: (),
    "metrics.py": ("--run", f"knn-{EMBEDDING}-s1"),
    "table.py": (),
    "report.py": ("--neighbours", "drawn"),
    WIDE: ("--neighbours", "drawn"),
}


@dataclass(frozen=True)
class FingerprintConfig:
    stage: str | None = option(None, "a script to run in this process; auto: each in its own")
    root: Path | None = option(None, "its root, which is kept; auto: made and removed")
    users: int = option(6_092, "who validate, and as many who test")
    rows: int = option(4_000_000, "plays of the log of stages 0 and 1")
    only: tuple[str, ...] = option(tuple(STAGES), "which stages, in order")


def main(config: FingerprintConfig) -> None:
    if config.stage:
        print(json.dumps(in_this_process(config.stage, config.root)))
        return
    with tempfile.TemporaryDirectory() as name:
        base = config.root or Path(name)
        print(f"{'':<16}{'seconds':>9}{'hashed':>9}{'share':>8}{'MB':>8}{'checks':>8}")
        for script in config.only:
            root = base / OWN_ROOT.get(script, "root")
            if not root.exists():
                make_root(root, config)
            words = ["-m", "benchmarks.bench_fingerprints", "--stage", script, "--root", root]
            done = subprocess.run(
                [sys.executable, *map(str, words)], cwd=HERE, stdout=subprocess.PIPE, text=True
            )
            if done.returncode:
                raise WorkError(f"{script} failed")
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{script:<16}{found['total']:>9.2f}{found['hashed']:>9.2f}"
                f"{found['hashed'] / found['total']:>8.1%}{found['bytes'] / 1e6:>8.0f}"
                f"{found['checks']:>8.2f}",
                flush=True,
            )


def make_root(root: Path, config: FingerprintConfig) -> None:
    """Make what stages start from: a log, a split and an embedding, or a study of ten."""
    if root.name == "log":
        from benchmarks.make_log import LogConfig
        from benchmarks.make_log import main as make_log

        root.mkdir(parents=True)
        make_log(LogConfig(out=root / LOG, rows=config.rows, start="2019-02-20"))
        return
    from benchmarks.made_up_study import make_data, make_embeddings, make_lists, make_runs, rows_of

    val, test = make_data(root, config.users)
    if root.name != WIDE:
        make_embeddings(root, [EMBEDDING], widths=(768,))
        return
    names = [f"e{number:02d}" for number in range(10)]
    make_embeddings(root, names)
    make_runs(root, rows_of(["knn"], names, shuffled=False), 1, test)
    for number, folder in enumerate(sorted((root / "runs").glob("*-s1"))):
        make_lists(folder, np.sort(np.concatenate([val, test])), number)
    subprocess.run([sys.executable, "table.py", "--root", str(root)], cwd=HERE, check=True)


def in_this_process(script: str, root: Path) -> dict:
    """Run a stage; return the processor's seconds of the process, of hashing and of checks."""
    clock = Clock()
    hashlib.sha256 = clock.hashing(hashlib.sha256)
    hashlib.file_digest = clock.timed("hashed", clock.counted(hashlib.file_digest))
    core.artifacts.sha256 = clock.timed("hashed", core.artifacts.sha256)
    core.split_parts.check_between = clock.timed("checks", core.split_parts.check_between)
    if script == EPOCH:
        return an_epoch(root, clock)
    module = importlib.import_module({WIDE: "report"}.get(script, script.removesuffix(".py")))
    kinds = [v for v in vars(module).values() if isinstance(v, type)]
    kind = next(
        v for v in kinds if v.__module__ == module.__name__ and v.__name__.endswith("Config")
    )
    flags = [flag.replace("ROOT", str(root)) for flag in STAGES[script]]
    module.main(parse_config(kind, "", ["--root", str(root), *flags]))
    return {"total": time.process_time(), "bytes": clock.bytes, **clock.seconds}


def an_epoch(root: Path, clock: Clock) -> dict:
    """Return what in_this_process does of one epoch of the Shallow Net and its checkpoints."""
    from recommenders.interactions import load_split
    from recommenders.vectors import load_item_vectors
    from training.checkpoints import save
    from training.epochs import optimizers_of

    train = importlib.import_module("train")
    config = train.ShallowConfig(root=root, embedding=EMBEDDING)
    split = load_split(root)
    network = train.build(config, split, load_item_vectors(root, EMBEDDING, split))
    (optimizer,) = optimizers_of(network, config.learning_rate)
    make, _, n_batches = train.batches(config, split, "cpu")
    seconds = []
    for batch in islice(make(0), STEPS + 1):
        started = time.process_time()
        optimizer.zero_grad()
        network.loss(batch).backward()
        optimizer.step()
        seconds.append(time.process_time() - started)
    steps = n_batches * min(seconds[1:])
    clock.seconds, clock.bytes, started = Counter(hashed=0.0, checks=0.0), 0, time.process_time()
    save(root / "best.pt", {"model": network.state_dict()})
    state = {"model": network.state_dict(), "optimizers": [optimizer.state_dict()]}
    save(root / "last.pt", state)
    total = steps + time.process_time() - started
    return {"total": total, "bytes": clock.bytes, **clock.seconds}


class Clock:
    """Each thread's processor seconds inside functions, by name; of nested ones the outer."""

    def __init__(self):
        self.seconds = Counter(hashed=0.0, checks=0.0)
        self.bytes = 0
        self._own = threading.local()

    def timed(self, name: str, function):
        """Return the function, timed."""

        @wraps(function)
        def call(*args, **more):
            inside = getattr(self._own, "inside", 0)
            self._own.inside = inside + 1
            started = time.thread_time()
            try:
                return function(*args, **more)
            finally:
                self._own.inside = inside
                if not inside:
                    self.seconds[name] += time.thread_time() - started

        return call

    def counted(self, file_digest):
        """Return hashlib.file_digest, whose bytes are counted."""

        def call(file, name):
            self.bytes += os.fstat(file.fileno()).st_size
            return file_digest(file, name)

        return call

    def hashing(self, make):
        """Return a maker of digests whose own work is timed and counted."""
        clock = self

        class Digest:
            def __init__(self, content: bytes = b""):
                self._digest = make()
                self.update(content)

            def update(self, content: bytes) -> None:
                clock.bytes += len(content)
                clock.timed("hashed", self._digest.update)(content)

            def hexdigest(self) -> str:
                return self._digest.hexdigest()

            def digest(self) -> bytes:
                return self._digest.digest()

        return Digest


if __name__ == "__main__":
    run(main, FingerprintConfig, __doc__)
