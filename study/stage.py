"""One command of the study: what it is called with, what it needs, what it has still to do."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from study.on_disk import absent


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the study, or in Slurm an array of it.

    Attributes:
        script: what python runs, as ("-m", "extract_item_embeddings.mfcc").
        flags: its options.
        missing: returns the tasks of which something is not on the disk yet; a stage that is no
            array has one task, 0.
        batch: file that is submitted with the flags; stage.sh takes the script as well.
        array: each task is a job of its own, told its number by Slurm.
        training: shares a node's GPUs with others.
        without_gpu: needs none, whatever the batch file says.
        interpreter: of an environment of its own, from the project's folder; None: this one's.
        optional: what the study can do without, when it fails.
    """

    name: str
    script: tuple[str, ...]
    flags: tuple[str, ...]
    missing: Callable[[], list[int]]
    needs: tuple[str, ...] = ()
    batch: str = "stage.sh"
    array: bool = False
    training: bool = False
    without_gpu: bool = False
    interpreter: str | None = None
    optional: bool = False

    @property
    def python(self) -> str:
        """The command line that does it by hand."""
        return shlex.join([self.interpreter or "python", *self.script, *self.flags])


def stage_of(name, script, root, files, needs=(), flags=(), newer_than=(), **more) -> Stage:
    """Return the stage of a script that makes these files under the root."""
    flags = ("--root", str(root), *flags)
    missing = absent(files, array=False, newer_than=newer_than)
    return Stage(name=name, script=(script,), flags=flags, missing=missing, needs=needs, **more)
