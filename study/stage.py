"""One command of the study: what it is called with, what it needs, what it has still to do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from study import checks
from study.config import HERE
from study.on_disk import absent


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the study, or in Slurm an array of it.

    Attributes:
        script: what python runs, as ("-m", "extract_item_embeddings.mfcc").
        flags: its options.
        missing: returns the tasks of which something is not on the disk yet; a stage that is no
            array has one task, 0.
        changed: returns {task: what it would refuse}: it is there, and made from other things.
        labels: what each task is for, whatever its number: its seed, or its shard.
        follows: it is done again when what it needs is.
        batch: file that is submitted with the flags; stage.sh takes the script as well.
        array: each task is a job of its own, told its number by Slurm.
        training: shares a node's GPUs with others.
        without_gpu: needs none, whatever the batch file says.
        optional: what the study can do without, when it fails.
        long: takes longer than the others, so that beside them it begins first.
        settings: of its process, environment variables that nobody has set; not of a job.
    """

    name: str
    script: tuple[str, ...]
    flags: tuple[str, ...]
    missing: Callable[[], list[int]]
    changed: Callable[[], dict[int, str]] = dict
    labels: tuple[str, ...] = ("",)
    follows: bool = True
    needs: tuple[str, ...] = ()
    batch: str = "stage.sh"
    array: bool = False
    training: bool = False
    without_gpu: bool = False
    optional: bool = False
    long: bool = False
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**self.settings, **os.environ}

    @property
    def tasks(self) -> list[int]:
        return list(range(len(self.labels)))

    @property
    def asks(self) -> bool:
        """Say whether it refuses what was made from other things, so that it takes --overwrite."""
        return self.changed is not dict

    @property
    def needs_gpu(self) -> bool:
        """Say whether its batch file asks for a GPU."""
        text = (HERE / self.batch).read_text(encoding="utf-8")
        return "#SBATCH --gres=gpu" in text and not self.without_gpu

    @property
    def python(self) -> str:
        """The command line that does it, in the project's folder."""
        return shlex.join(["python", *self.script, *self.flags])


def stage_of(
    name, script, root, files, needs=(), flags=(), newer_than=(), *, asks=False, **more
) -> Stage:
    """Return the stage of a script that makes these files under the root.

    Args:
        asks: the script has a function is_finished(options), which refuses what has changed.
    """
    flags = ("--root", str(root), *flags)
    missing = absent(files, array=False, newer_than=newer_than)
    if asks:
        more["changed"] = checks.of_data(script, flags, files[-1])
    return Stage(name=name, script=(script,), flags=flags, missing=missing, needs=needs, **more)
