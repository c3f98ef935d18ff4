"""Start every two stages at the same moment on one finished root, and look at what stands there.

    python -m benchmarks.stress_pairs
    python -m benchmarks.stress_pairs --only table,metrics --rounds 5

The root is that of stress_files, with a few tracks' sound besides. Each of COMMANDS makes anew
what is there, or makes it otherwise; every one is started beside every other and beside itself, as
two processes that leave one gate together (forked from this one, in which all is imported, so that
they meet in their work and not in their imports). In further rounds the second waits for a part of
the first's time, drawn from --seed. Afterwards both must have ended with 0, or with one line that
says why and exit code 1 or 2; and the root must be one of

    one after the other   the same files as after the two in a row, this one or that one first; of
                          one that was refused, as if it had not been started
    named later           something else, about which every stage that comes later (LATER) ends with
                          an error, or has the numbers of such an order

and is otherwise `silent`. Prints a line for every two: what came of each, and of the root; the last
line is one json object with the sums. Ends with exit code 1 where anything is silent, a traceback,
unnamed (an error without a line), or hangs for a minute.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import yaml

from benchmarks.stress_files import attempt, copied
from benchmarks.stress_root import (
    AGAIN,
    DATES,
    METRICS,
    SPACE,
    STAGE_0,
    STAGE_1,
    TABLE_OF,
    TABLES,
    call,
    content,
    make_root,
)
from core.options import WorkError, option, run
from core.trackids import read_trackids

PATIENCE = 60.0  # seconds after which two that wait for each other are ended
OUTCOMES = ("one after the other", "named later", "silent", "traceback", "unnamed", "hang")
FAST = ("--embedding", "noise", "--width", "8", "--device", "cpu", "--overwrite")
EPOCHS = ("--epochs", "1")
NOT_COMPARED = {".lock", ".tmp", ".db", ".pt", ".jsonl", ".md", ".tex", ".pdf", ".png", ".html"}
TAKES = {"seconds", "peak_memory_mb"}  # what is another number each time


@dataclass(frozen=True)
class Command:
    """A script, or a module with -m, and its flags; ROOT in them is the root.

    Attributes:
        removes: what is removed before, of a stage that has no --overwrite.
    """

    script: str
    flags: tuple = ()
    removes: tuple[str, ...] = ()

    def argv(self, root: Path) -> list[str]:
        return ["--root", str(root), *(str(f).replace("ROOT", str(root)) for f in self.flags)]


def knn(*flags) -> Command:
    return Command("knn", ("--embedding", "toy", "--overwrite", *flags))


COMMANDS = {
    "stage 0": Command("0_get_plays_pqt", (*STAGE_0.flags, "--overwrite")),
    "stage 0, other log": Command(
        "0_get_plays_pqt", ("--log", "ROOT/other.tsv", "--users", "text", "--overwrite")
    ),
    "stage 1": Command("1_train_test_split", (*DATES, "--overwrite")),
    "stage 1, other seed": Command("1_train_test_split", (*DATES, "--seed", 7, "--overwrite")),
    "stage 1, last days": Command(
        "1_train_test_split", ("--test-last", "10%", "--train-last", "14d", "--overwrite")
    ),
    "extraction": Command(
        "extract_item_embeddings.mfcc",
        ("--audio", "ROOT/sound", "--workers", "1", "--device", "cpu", "--overwrite"),
    ),
    "import": Command("import_embedding", (*TABLE_OF, "imported", "--overwrite")),
    "import over toy": Command("import_embedding", (*TABLE_OF, "toy", "--overwrite")),
    "knn": knn(),
    "knn, other scale": knn("--scale", "rms"),
    "knn, three seeds": knn("--shuffle", "--seeds", "1,2,3"),
    "train": Command("train", (*FAST, *EPOCHS)),
    "train, other rate": Command("train", (*FAST, *EPOCHS, "--learning-rate", "0.01")),
    "train_bert": Command("train_bert", (*FAST, *EPOCHS)),
    "train_elsa": Command("train_elsa", ("--device", "cpu", "--overwrite", *EPOCHS)),
    "train_hybrid": Command("train_hybrid", (*FAST, *EPOCHS)),
    "baselines": Command("baselines", ("--only", "popular,random_lists", "--overwrite")),
    "metrics, 3": Command("metrics", ("--run", "all", "--k", "3")),
    "metrics, 7": Command("metrics", (*METRICS.flags, "--k", "7")),
    "table": Command("table", ("--resamples", "100")),
    "table of knn": Command("table", ("--resamples", "100", "--runs", "knn-*")),
    "report": Command("report", ("--neighbours", "drawn", "--overwrite")),
    "sweep": Command("sweep", (*SPACE, "--trials", "2", "--final-seeds", "none", "--overwrite")),
    "sweep, other vectors": Command(
        "sweep",
        (*(f if f != "noise" else "toy" for f in SPACE), "--trials", "1", "--overwrite"),
    ),
    "blend": Command("blend", ("--runs", "knn-toy-s1,popular-none-s1", "--overwrite")),
    "robustness": Command("robustness", ("--embeddings", "toy")),
    "artist_controls": Command(
        "artist_controls", ("--embedding", "toy", "--artists", "ROOT/artists.csv")
    ),
    "get_data": Command(
        "get_data",
        ("--sources", "ROOT/sources.yaml", "--mirror", "ROOT/mirror", "--tables", "table"),
        ("downloads/table.csv", "downloads/table.csv.json"),
    ),
}
# What a study's later commands make of a root; each without --overwrite.
LATER = {"stage 0": STAGE_0, "stage 1": STAGE_1, "knn": AGAIN, "metrics": METRICS, "tables": TABLES}


@dataclass(frozen=True)
class PairsConfig:
    only: tuple[str, ...] = option((), "of pairs in which both names hold one of these; auto: all")
    beside: tuple[str, ...] = option((), "of pairs in which one name holds one of these; auto: all")
    shards: int = option(1, "parts of the pairs, for as many processes")
    shard: int = option(0, "which of them, from 0")
    rounds: int = option(1, "starts of every two; from the second on one of them waits")
    seed: int = option(0, "of the log, and of the waiting")
    folder: Path | None = option(None, "where to work; auto: the system's temporary folder")


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code and what it said on stderr; None if it was ended."""

    code: int | None
    said: str

    @property
    def kind(self) -> str:
        """Return ok, named, or one of OUTCOMES."""
        if self.code is None:
            return "hang"
        if "Traceback" in self.said:
            return "traceback"
        if self.code == 0:
            return "ok"
        return "named" if self.code in (1, 2) and self.said.strip() else "unnamed"


def main(config: PairsConfig) -> None:
    import_all()
    rng, sums = np.random.default_rng(config.seed), Counter()
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        work = Path(name)
        forked(lambda: make_pairs_root(work / "root", config.seed), work / "made")
        orders = Orders(work / "root", work / "order")
        for pair in pairs(config):
            for turn in range(config.rounds):
                first, second = pair if turn % 2 == 0 else pair[::-1]
                wait = rng.random() * orders.seconds(first) if turn else 0.0
                told = together(work, orders, (first, second), wait)
                sums.update(told[2:])
                print(f"{first:<22}{second:<22}{wait:4.1f} s  {'; '.join(told)}", flush=True)
    print(json.dumps({outcome: sums[outcome] for outcome in OUTCOMES}))
    if sum(sums[outcome] for outcome in OUTCOMES[2:]):
        raise WorkError("two at once made what neither order makes, or said nothing of use; above")


def pairs(config: PairsConfig) -> list[tuple[str, str]]:
    """Return every two commands that are asked for, and each with itself."""
    every = itertools.combinations_with_replacement(COMMANDS, 2)
    asked = [
        pair
        for pair in every
        if (not config.only or all(any(part in n for part in config.only) for n in pair))
        and (not config.beside or any(part in n for n in pair for part in config.beside))
    ]
    return asked[config.shard :: config.shards]


def together(work: Path, orders: Orders, names: tuple[str, str], wait: float) -> list[str]:
    """Start two commands on a copy of the root; return what came of each, and of the root."""
    root = copied(work / "root", work / "pair")
    one, other = (COMMANDS[name] for name in names)
    remove(root, one, other)
    read, write = os.pipe()
    children = [
        start(command, root, work / f"said{n}", read, n * wait)
        for n, command in enumerate((one, other))
    ]
    os.write(write, b"go")
    ended = [finish(*child) for child in children]
    os.close(read), os.close(write)
    told = [each.kind if each.kind in ("ok", "named") else each.said[-2000:] for each in ended]
    told = [f"{kind} ({each.said.strip()[:150]})" if kind == "named" else kind
            for kind, each in zip(told, ended, strict=True)]  # fmt: skip
    bad = [each.kind for each in ended if each.kind in OUTCOMES]
    return [*told, *(bad or [orders.judge(root, names, [each.kind for each in ended])])]


class Orders:
    """What a root holds after commands one after the other; each order is made once.

    Args:
        root: finished, and left as it is.
        work: a folder for copies.
    """

    def __init__(self, root: Path, work: Path):
        self.root, self.work, self._made, self._took = root, work, {}, {}

    def seconds(self, name: str) -> float:
        """Return how long a command takes by itself."""
        self.after(name)
        return self._took[name]

    def after(self, *names: str) -> Path:
        """Return the root after these commands, in a folder of its own."""
        if not names:
            return self.root
        if names not in self._made:
            before = self.after(*names[:-1])
            folder = self.work.with_name("orders") / str(len(self._made))
            shutil.copytree(before, folder)
            remove(folder, COMMANDS[names[-1]])
            began = time.monotonic()
            ended = finish(*start(COMMANDS[names[-1]], folder, folder.with_suffix(".said")))
            self._took.setdefault(names[-1], time.monotonic() - began)
            if ended.kind not in ("ok", "named"):
                raise WorkError(f"{' then '.join(names)} ended with {ended}")
            self._made[names] = folder
        return self._made[names]

    def judge(self, root: Path, names: tuple[str, str], kinds: list[str]) -> str:
        """Return the outcome of a root on which two commands ran at once."""
        done = tuple(name for name, kind in zip(names, kinds, strict=True) if kind == "ok")
        found = state(root)
        possible = [(), *((name,) for name in names), names, names[::-1]]
        orders = {1: [done], 2: [names, names[::-1]], 0: [()]}[len(done)]
        for order in orders:
            if state(self.after(*order)) == found:
                return "one after the other"
        silent = []
        for label, reader in LATER.items():
            answer = answered(reader, root, self.work)
            known = {answered(reader, self.after(*order), self.work) for order in possible}
            if not answer.startswith("error") and answer not in known:
                silent.append(label)
        if not silent:
            return "named later"
        closest = min((state(self.after(*order)) for order in orders), key=lambda s: differ(s, found))
        print(f"{', '.join(names)}: {silent}; {sorted(k for k in {*found, *closest} if found.get(k) != closest.get(k))}")
        return "silent"


def differ(one: dict, other: dict) -> int:
    return sum(one.get(name) != other.get(name) for name in {*one, *other})


def answered(reader, root: Path, work: Path) -> str:
    """Return what a later stage has of a copy of the root, as text."""
    def ask(out: Path) -> None:
        found = attempt(reader, copied(root, work))
        out.write_text(f"error {found.__name__}" if isinstance(found, type) else repr(found))

    out = work.with_name("answer")
    forked(lambda: ask(out), work.with_name("asked"))
    return out.read_text()


def state(root: Path) -> dict:
    """Return what a root says that a later stage could believe, by file."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and path.suffix not in NOT_COMPARED and path.name[0] != ".":
            if "events" not in name and not name.startswith(("sample/", "sound/", "report/")):
                found[name] = said(path)
    return found


def said(path: Path):
    """Return what a file says, without what is another number each time it is made."""
    if path.name == "config.yaml":
        made = yaml.safe_load(path.read_text())
        return {key: made[key] for key in ("options", "split", "embedding_hash")}
    if path.name == "search.csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv()
    if path.suffix == ".json":
        told = content(path)
        told.pop("sha256", None)  # of files that are compared themselves
        return json.loads(json.dumps(told), object_hook=without_times)
    return content(path)


def without_times(told: dict) -> dict:
    return {name: value for name, value in told.items() if name not in TAKES}


def remove(root: Path, *commands: Command) -> None:
    for name in {name for command in commands for name in command.removes}:
        (root / name).unlink(missing_ok=True)


def start(command: Command, root: Path, out: Path, gate: int | None = None, wait=0.0) -> tuple:
    """Fork a process that runs a command once a byte comes through the gate; (pid, out)."""

    def begin() -> None:
        if gate is not None:
            os.read(gate, 1)
        time.sleep(wait)
        module = importlib.import_module(command.script)
        sys.argv = [command.script, *command.argv(root)]
        if "." in command.script:
            backbone = module.Mfcc
            importlib.import_module("extract_item_embeddings.engine").main(backbone)
        else:
            run(module.main, config_of(module), module.__doc__)

    return fork(begin, out), out


def config_of(module) -> type:
    kinds = (v for v in vars(module).values() if isinstance(v, type))
    return next(
        v for v in kinds if v.__module__ == module.__name__ and v.__name__.endswith("Config")
    )


def fork(work: Callable[[], None], out: Path) -> int:
    """Return the process that does the work; what it says on stderr is in the file."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        work()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  the parent reads of it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def finish(pid: int, out: Path) -> Ended:
    """Wait for a process; one that hangs is ended with its children."""
    until = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return Ended(os.waitstatus_to_exitcode(status), out.read_text())
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Ended(None, out.read_text())
        time.sleep(0.01)


def forked(work: Callable[[], None], out: Path) -> None:
    """Do work in a process of its own, so that this one stays without threads.

    Raises:
        WorkError: it failed.
    """
    ended = finish(fork(work, out), out)
    if ended.code:
        raise WorkError(f"{ended.said[-2000:]}")


def import_all() -> None:
    """Import what the commands need, in one thread."""
    for command in COMMANDS.values():
        importlib.import_module(command.script)
    importlib.import_module("study.search")


def make_pairs_root(root: Path, seed: int) -> None:
    """Make the root of every stage, and what COMMANDS want besides: another log, sound, runs."""
    make_root(root, seed)
    rng = np.random.default_rng([seed, 1])
    log = pd.read_csv(root / "log.tsv", sep="\t")
    log.sample(frac=0.9, random_state=seed).to_csv(root / "other.tsv", sep="\t", index=False)
    (root / "sound").mkdir()
    for track in read_trackids(root):
        noise = rng.standard_normal(11_025).astype(np.float32) / 8
        soundfile.write(root / "sound" / f"{track}.wav", noise, 22_050)
    call("report", "--root", root, "--neighbours", "drawn")


if __name__ == "__main__":
    run(main, PairsConfig, __doc__)
