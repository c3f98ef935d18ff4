"""Run every two stages at once on one finished root, and look at what stands there afterwards.

    python -m benchmarks.stress_pairs
    python -m benchmarks.stress_pairs --only table,metrics --rounds 20
    python -m benchmarks.stress_pairs --shards 4 --shard 0      # a fourth of all, and so on

The root is that of stress_files, with a few tracks' sound besides. Each of COMMANDS makes anew what
is there, or makes it otherwise; every one meets every other, and itself. In the first round both
are started at the same moment: two processes that leave one gate together, forked from this one, in
which all is imported, so that they meet in their work. In further rounds one is stopped before an
opening, renaming or removal of a file under the root, drawn from --seed; the other is run to its
end, and then the first goes on. Both must end with 0, or with one line that says why and exit code
1 or 2; and the root must then hold

    in order      what it holds after the two in a row, this one or that one first; of one that was
                  refused, as if it had not been started
    named later   something else, about which every stage that comes later (LATER, without
                  --overwrite) ends with an error, or has the numbers of such an order

and is otherwise `silent`. Prints a line for every two: how each ended, and what stands; the last
line is one json object with the sums. Ends with exit code 1 where anything is silent, a traceback,
an error without a line (`unnamed`), or takes five minutes (`hang`).

Measured, in a drawn order: 365 of the 406 pairs, 353 in order, 12 named later, nothing else.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import select
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
from core import artifacts
from core.options import WorkError, option, run
from core.trackids import read_trackids
from extract_item_embeddings.engine import main as extract

PATIENCE = 300.0  # seconds after which a process hangs
OUTCOMES = ("in order", "named later", "silent", "traceback", "unnamed", "hang")
EXTRACTION = "extract_item_embeddings.mfcc"
FAST = ("--embedding", "noise", "--width", "8", "--device", "cpu", "--overwrite")
EPOCHS = ("--epochs", "1")
MOMENTS = {"open": 0, "os.rename": 1, "os.remove": 0}  # audit event: place of the path in it
NOT_COMPARED = {".lock", ".tmp", ".db", ".pt", ".jsonl", ".md", ".tex", ".pdf", ".png", ".html"}
NOT_COMPARED |= {".txt"}  # what a trial said, with its seconds
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
        EXTRACTION,
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
    rounds: int = option(1, "of every two; from the second on one of them is stopped")
    shards: int = option(1, "parts of the pairs, for as many processes")
    shard: int = option(0, "which of them, from 0")
    seed: int = option(0, "of the log, of the order of pairs, of where one is stopped")
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

    def __str__(self) -> str:
        """Return the kind; of an error with its line, of a traceback with its end."""
        line = " ".join(self.said.split())
        shown = {"named": line[:150], "traceback": self.said[-2000:], "unnamed": str(self.code)}
        return f"{self.kind} ({shown[self.kind]})" if self.kind in shown else self.kind


def main(config: PairsConfig) -> None:
    import_all()
    rng, sums = np.random.default_rng(config.seed), Counter()
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        work = Path(name)
        forked(lambda: make_pairs_root(work / "root", config.seed), work / "made")
        orders = Orders(work / "root", work / "order")
        for names in pairs(config, rng):
            for turn in range(config.rounds):
                pair = names if turn % 2 == 0 else names[::-1]
                at = int(rng.integers(orders.moments(pair[0]))) if turn else None
                ended = meet(work, orders.root, pair, at)
                bad = [each.kind for each in ended if each.kind in OUTCOMES]
                found = bad or [orders.judge(work / "pair", pair, ended)]
                sums.update(found)
                moment = "at once" if at is None else f"at {at}"
                told = "; ".join([*map(str, ended), *found])
                print(f"{pair[0]:<22}{pair[1]:<22}{moment:<9}{told}", flush=True)
    print(json.dumps({outcome: sums[outcome] for outcome in OUTCOMES}))
    if sum(sums[outcome] for outcome in OUTCOMES[2:]):
        raise WorkError("two at once made what neither order makes, or said nothing of use; above")


def pairs(config: PairsConfig, rng) -> list[tuple[str, str]]:
    """Return every two commands that are asked for, and each with itself, in an order drawn."""
    names = [n for n in COMMANDS if not config.only or any(part in n for part in config.only)]
    every = list(itertools.combinations_with_replacement(names, 2))
    return [every[at] for at in rng.permutation(len(every))][config.shard :: config.shards]


def meet(work: Path, root: Path, names: tuple[str, str], at: int | None) -> list[Ended]:
    """Run two commands on a copy of the root, work/pair; return how each ended.

    Args:
        at: before which of its moments the first is stopped; None: both start together.
    """
    copy = copied(root, work / "pair")
    first, second = (COMMANDS[name] for name in names)
    remove(copy, first, second)
    gate, opened = os.pipe()
    if at is None:
        children = [start(first, copy, work / "said0", gate=gate)]
        children.append(start(second, copy, work / "said1", gate=gate))
        os.write(opened, b"go")
        ended = [finish(*child) for child in children]
    else:
        here, arrived = os.pipe()
        child = start(first, copy, work / "said0", hook=Stop(copy, at, arrived, gate))
        os.close(arrived)
        select.select([here], [], [], PATIENCE)  # it is there, or has ended before
        ended = [finish(*start(second, copy, work / "said1", patient=False))]
        os.write(opened, b"g")
        ended.insert(0, finish(*child))
        os.close(here)
    os.close(gate), os.close(opened)
    return ended


class Stop:
    """An audit hook that stops a process before one of its moments, and counts them all.

    A moment is the opening, renaming or removal of a file under the root, by Python's own means.

    Args:
        at: which moment, from 0; None: only count.
        arrived: pipe that is told of it.
        gate: pipe that lets it go on.
    """

    def __init__(self, root: Path, at: int | None, arrived: int = -1, gate: int = -1):
        self.root, self.at, self.arrived, self.gate = f"{root}/", at, arrived, gate
        self.count = 0

    def __call__(self, event: str, args: tuple) -> None:
        if event in MOMENTS and str(args[MOMENTS[event]]).startswith(self.root):
            self.count += 1
            if self.count - 1 == self.at:
                os.write(self.arrived, b".")
                os.read(self.gate, 1)


class Orders:
    """What a root holds after commands one after the other; each order is made once.

    Args:
        root: finished, and left as it is.
        work: a folder for copies.
    """

    def __init__(self, root: Path, work: Path):
        self.root, self.work, self._made, self._moments = root, work, {}, {}

    def moments(self, name: str) -> int:
        """Return how many moments a command has by itself, see Stop."""
        self.after(name)
        return self._moments[name]

    def after(self, *names: str) -> Path:
        """Return the root after these commands, in a folder of its own."""
        if not names:
            return self.root
        if names not in self._made:
            before = self.after(*names[:-1])
            folder = self.work.with_name("orders") / str(len(self._made))
            shutil.copytree(before, folder)
            remove(folder, COMMANDS[names[-1]])
            counted, out = folder.with_suffix(".moments"), folder.with_suffix(".said")
            ended = finish(*start(COMMANDS[names[-1]], folder, out, counted=counted))
            self._moments.setdefault(names[-1], int(counted.read_text()))
            if ended.kind not in ("ok", "named"):
                raise WorkError(f"{' then '.join(names)} ended with {ended}")
            self._made[names] = folder
        return self._made[names]

    def judge(self, root: Path, names: tuple[str, str], ended: list[Ended]) -> str:
        """Return the outcome of a root on which two commands ran at once."""
        done = tuple(n for n, each in zip(names, ended, strict=True) if each.kind == "ok")
        found = state(root)
        orders = {0: [()], 1: [done], 2: [names, names[::-1]]}[len(done)]
        if any(state(self.after(*order)) == found for order in orders):
            return "in order"
        possible = {(), *((name,) for name in names), names, names[::-1]}
        for label, reader in LATER.items():
            answer = answered(reader, root, self.work)
            known = {answered(reader, self.after(*order), self.work) for order in possible}
            if not answer.startswith("error") and answer not in known:
                made = state(self.after(*orders[0]))
                other = sorted(n for n in {*made, *found} if made.get(n) != found.get(n))
                print(f"{label} believes it; other than in order: {', '.join(other)}")
                return "silent"
        return "named later"


def answered(reader, root: Path, work: Path) -> str:
    """Return what a later stage has of a copy of the root, as text."""

    def ask(out: Path) -> None:
        copy = copied(root, work)
        found = attempt(reader, copy)
        told = f"error {found.__name__}" if isinstance(found, type) else repr(found)
        out.write_text(told.replace(f"{copy}/", "ROOT/").replace(f"{root}/", "ROOT/"))

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
                found[name] = said(path, root)
    return found


def said(path: Path, root: Path):
    """Return what a file says, without what is another each time it is made, and where."""
    if path.name == "config.yaml":
        made = yaml.safe_load(path.read_text())
        return {key: made[key] for key in ("options", "split", "embedding_hash")}
    if path.name == "search.csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv()
    if path.suffix == ".json":
        told = content(path, root)
        told.pop("sha256", None)  # of files that are compared themselves
        return json.loads(json.dumps(told), object_hook=without_times)
    return content(path, root)


def without_times(told: dict) -> dict:
    return {name: value for name, value in told.items() if name not in TAKES}


def remove(root: Path, *commands: Command) -> None:
    for name in {name for command in commands for name in command.removes}:
        (root / name).unlink(missing_ok=True)


def start(
    command: Command,
    root: Path,
    out: Path,
    *,
    gate: int | None = None,
    hook: Stop | None = None,
    counted: Path | None = None,
    patient: bool = True,
) -> tuple[int, Path]:
    """Fork a process that runs a command; return its id, and the file of what it says on stderr.

    Args:
        gate: pipe; it begins when a byte comes through.
        hook: that stops it.
        counted: file for the number of its moments.
        patient: it waits for locks as long as it does; else for a moment.
    """
    hook = hook or Stop(root, None)

    def begin() -> None:
        if gate is not None:
            os.read(gate, 1)
        if not patient:
            take = artifacts._take
            artifacts._take = lambda *lock, wait: take(*lock, wait=min(wait, 0.1))
        module = importlib.import_module(command.script)
        sys.argv = [command.script, *command.argv(root)]
        sys.addaudithook(hook)
        try:
            if command.script == EXTRACTION:
                extract(module.Mfcc)
            else:
                run(module.main, config_of(module), module.__doc__)
        finally:
            if counted:
                counted.write_text(str(hook.count))

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
