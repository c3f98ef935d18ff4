"""Stages on this machine, several at a time, each once those it needs are done.

A stage that runs alone has the terminal, as a command of its own would. What stages say that run
side by side goes into a file each, ROOT/logs/STAGE-PID.txt, and is shown in one piece when the
stage has ended; until then one line, at the bottom of a terminal or every five minutes in a file,
tells how far they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.options import PATIENCE, SIGNALS, InputError, WorkError
from study.config import HERE
from study.running import epochs_of
from study.stage import Stage
from study.usage import duration, ended

EVERY = 300.0  # seconds between two lines in a file
GLANCE = 0.1  # seconds between two looks at what runs
TAIL = 4000  # bytes at the end of a log that tell how far a stage is


def run_stages(
    stages: list[Stage],
    call: Callable[[Stage], None],
    at_once: int,
    logs: Path,
    *,
    overwrite: bool = False,
    one_gpu: bool = False,
) -> None:
    """Run every stage, each after those it needs.

    One at a time they run in their order; else what others need begins first, then what is long.

    Args:
        stages: in the order of a plan.
        call: runs one that is alone.
        at_once: how many may run at a time.
        logs: folder for what they say that run side by side.
        overwrite: what was made from other things is made again.
        one_gpu: those that need a GPU run one at a time.

    Raises:
        InputError, WorkError: a stage ended so and has said why; those beside it were ended.
    """
    waiting = list(stages)
    if at_once > 1:
        waiting.sort(key=lambda stage: _turn(stage, stages))
    running, done = Running(logs, len(stages)), set()
    with running:
        while waiting or running.stages:
            begin = _startable(waiting, done, running.stages, at_once, one_gpu)
            waiting = [stage for stage in waiting if stage not in begin]
            if overwrite:
                begin = [_overwriting(stage) for stage in begin]
            if len(begin) == 1 and not running.stages:
                _run_alone(begin[0], call)
                done.add(begin[0].name)
                running.n_done += 1
                continue
            for stage in begin:
                running.begin(stage)
            done |= {stage.name for stage in running.wait()}


def _turn(stage: Stage, stages: list[Stage]) -> tuple[bool, bool]:
    """Return what stages are sorted by: what more than the table needs, then what takes long."""
    users = sum(stage.name in other.needs for other in stages)
    return users < 2, not stage.long


def _startable(waiting, done: set[str], running, at_once: int, one_gpu: bool) -> list[Stage]:
    """Return the stages that begin now, given those that are done and those that run."""
    chosen: list[Stage] = []
    for stage in waiting:
        busy = [*running, *chosen]
        taken = one_gpu and stage.needs_gpu and any(other.needs_gpu for other in busy)
        if set(stage.needs) <= done and len(busy) < at_once and not taken:
            chosen.append(stage)
    return chosen


def _overwriting(stage: Stage) -> Stage:
    """Return the stage as it makes again what was made from other things."""
    changed = bool(stage.changed())
    return dataclasses.replace(stage, flags=(*stage.flags, "--overwrite")) if changed else stage


def _run_alone(stage: Stage, call: Callable[[Stage], None]) -> None:
    print(f"\n== {stage.name}", flush=True)
    try:
        call(stage)
    except (InputError, WorkError) as error:
        if not stage.optional:
            raise
        print(without(stage, error), flush=True)


def without(stage: Stage, error: Exception) -> str:
    return f"the study goes on without {stage.name}: {error}"


def failure(script: str, code: int) -> Exception | None:
    """Return what is wrong with an exit code; None: nothing."""
    if code == 0:
        return None
    kind, how = (InputError if code == 2 else WorkError), f"ended with exit code {code}, see above"
    if code == -signal.SIGKILL:
        how = "was killed, as is done where memory is short; --at-once 1 takes the least"
    return kind(f"{script} {how}; then run this again")


@dataclass
class Beside:
    """A stage that runs beside others."""

    stage: Stage
    process: subprocess.Popen
    log: Path
    started: float  # time.perf_counter()
    took: str = ""  # in words, once it has ended

    @property
    def error(self) -> Exception | None:
        return failure(self.stage.script[0], self.process.returncode)

    def far(self) -> str:
        """Return how far it is, by what it has said last."""
        with open(self.log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read().decode(errors="replace")
        if epochs := epochs_of(text):
            done, total, seconds = epochs
            left = duration((total - done) * seconds)
            return f"{self.stage.name}: epoch {done}/{total}, at most {left} left"
        said = [line for line in text.splitlines() if line.endswith(" left")]
        if said:  # of an extraction, which names itself
            return said[-1]
        return f"{self.stage.name}: {duration(time.perf_counter() - self.started)}"

    def said(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return text if not text or text.endswith("\n") else f"{text}\n"


class Running:
    """The stages that run beside each other; they are ended with the context."""

    def __init__(self, logs: Path, total: int):
        self.logs, self.total, self.n_done = logs, total, 0
        self.all: list[Beside] = []
        self.line = Line()

    @property
    def stages(self) -> list[Stage]:
        return [each.stage for each in self.all]

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.line.clear()
        if self.all:
            self.end(interrupted=isinstance(error, KeyboardInterrupt))
        with contextlib.suppress(OSError):
            self.logs.rmdir()  # what is left is of another study in this root

    def begin(self, stage: Stage) -> None:
        """Start a stage."""
        self.logs.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "-", stage.name)
        log = self.logs / f"{name}-{os.getpid()}.txt"
        with _signals_wait(), open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, *stage.script, *stage.flags],
                cwd=HERE,
                env=stage.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            self.all.append(Beside(stage, process, log, time.perf_counter()))
        self.line.say(f"-- {stage.name} begins; what it says so far is in {log}")

    def wait(self) -> list[Stage]:
        """Wait until stages have ended; show what they said and return them.

        Raises:
            InputError, WorkError: one that is not optional has failed; all others were ended.
        """
        while not (over := [each for each in self.all if self._over(each)]):
            self.line.tell(self.n_done, self.total, self.all)
            time.sleep(GLANCE)
        failed = next((e for e in over if e.error and not e.stage.optional), None)
        for each in over:
            if each is not failed:
                self._show(each)
        if failed:
            self.all.remove(failed)
            self.end()
            self.all.append(failed)
            self._show(failed, sys.stderr)
            raise failed.error
        return [each.stage for each in over]

    def _ended(self, each: Beside) -> bool:
        each.took = ended(each.process, each.started)
        return bool(each.took)

    def _show(self, each: Beside, stream=None) -> None:
        """Show what a stage said that has ended, and forget it."""
        text = f"\n== {each.stage.name}\n{each.said()}"
        if each.error and each.stage.optional:
            text += f"{without(each.stage, each.error)}\n"
        elif not each.error:
            text += f"took {each.took}\n"
        self.all.remove(each)
        self.n_done += 1
        each.log.unlink()
        self.line.say(text.removesuffix("\n"), stream)

    def end(self, *, interrupted: bool = False) -> None:
        """End all that runs; each keeps what it has done.

        Args:
            interrupted: by Ctrl-C, which a terminal sends to them as well.
        """
        patience = time.monotonic() + PATIENCE
        while interrupted and time.monotonic() < patience and not all(map(self._over, self.all)):
            time.sleep(GLANCE)
        for each in self.all:
            if not self._over(each):
                each.process.terminate()
        for each in list(self.all):
            each.took = each.took or ended(each.process, each.started, wait=True)
            if each.process.returncode in (0, 1, 2):  # by itself
                self._show(each)
                continue
            last = each.said().splitlines()[-1:]
            self.all.remove(each)
            each.log.unlink()
            self.line.say(f"-- {each.stage.name} was ended as well: {''.join(last)}")

    def _over(self, each: Beside) -> bool:
        return bool(each.took) or self._ended(each)


class Line:
    """One line at the bottom of a terminal, or in a file one where for long nothing was said."""

    def __init__(self):
        self.on_terminal = sys.stderr.isatty()
        self.speaks = not sys.stdout.isatty()
        self.shown, self.next = "", time.monotonic() + EVERY

    def tell(self, n_done: int, total: int, running: list[Beside]) -> None:
        """Say how far the stages are, if there is something new to say, or it is time to."""
        speaks = self.speaks and time.monotonic() > self.next
        if not (speaks or self.on_terminal):
            return
        text = f"{n_done} of {total} stages done; {'; '.join(each.far() for each in running)}"
        if speaks:
            self.say(text)
        if self.on_terminal and text != self.shown:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{text[:width]}")
            sys.stderr.flush()
            self.shown = text

    def clear(self) -> None:
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.shown = ""

    def say(self, text: str, stream=None) -> None:
        self.clear()
        self.next = time.monotonic() + EVERY
        print(text, file=stream or sys.stdout, flush=True)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let a signal wait for the end of the context, so that a process that starts is known."""
    arrived: list[int] = []
    before = {s: signal.signal(s, lambda number, _: arrived.append(number)) for s in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    for signum in arrived:
        signal.raise_signal(signum)
