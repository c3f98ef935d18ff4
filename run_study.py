"""Every stage of the study, here as many at a time as there is room for, or as Slurm jobs.

    python run_study.py                                    # the sample, what run_all.sh runs
    python run_study.py --root m4a --log FILE --audio DIR --embeddings mfcc,mert --seeds 1,2,3
    python run_study.py --onion small --root onion         # open data, from nothing
    python run_study.py --at-once 1 ...                    # one stage after the other
    python run_study.py --slurm --root m4a --log FILE --audio DIR ...   # submits what is missing

Reads   --log, --audio
Writes  all that the stages write (study/stages.py lists them); with --slurm runs/study.json,
        which job does what

What is finished is not done again, so after anything the same command goes on.
`python study_status.py --root R` tells how far the jobs are.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import core.start  # noqa: F401  before what is heavy

from core.late import options_are_read
from core.options import InputError, WorkError, run
from study import cluster
from study.config import HERE, StudyConfig, command_line, has_gpu
from study.record import Record

if options_are_read(__name__):
    from study.estimates import announce
    from study.forecast import foretell
    from study.graph import decide, look
    from study.room import settings_of, stages_at_once
    from study.side_by_side import failure, run_stages
    from study.stages import Stage, plan
    from study.submission import cancel_study, foresee_study, submit_study
    from study.tree import tree
    from study.usage import wait_for


def main(config: StudyConfig) -> None:
    if config.cancel:
        print(f"{cancel_study(config)} jobs of the study of {config.root} cancelled")
        return
    if config.dry_run:
        print("\n".join(foretell(config, foresee_study(config))))
        return
    if config.fetch or (config.slurm and hub_is_offline()):
        for stage in plan(config):
            if words := fetching(stage):
                try:
                    call(dataclasses.replace(stage, script=words, flags=()), as_jobs=config.slurm)
                except (InputError, WorkError) as error:
                    raise InputError(without_weights(words)) from error
        if not config.slurm:
            return
    if config.slurm:
        nodes = submit_study(config)
        print("\n".join(tree(nodes)))
        new = sum(node.submitted is not None for node in nodes)
        far = command_line("--root", config.root.absolute(), script="study_status.py")
        print(f"{new} jobs submitted; how far they are: {far}")
        return
    stages = plan(config)
    if config.onion:
        print(announce(config, stages), flush=True)
    if not config.overwrite:
        decide(look(config, Record.read(config.root), []), overwrite=False)
    at_once, why = stages_at_once(config)
    print(f"stages that run at a time: {at_once} ({why}); --at-once N for others", flush=True)
    settings = settings_of(config)
    run_stages(
        [dataclasses.replace(stage, settings=settings) for stage in stages],
        lambda stage: call(stage),
        at_once,
        config.root.absolute() / "logs",
        overwrite=config.overwrite,
        one_gpu=has_gpu(),
    )


def hub_is_offline() -> bool:
    """Say whether jobs are told to ask no hub, so that weights must be here before the first."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def fetching(stage: Stage) -> tuple[str, ...]:
    """Return what python runs to bring the weights of a stage here; nothing if it needs none."""
    module = stage.script[-1].rpartition(".")
    if module[0] != "extract_item_embeddings" or "--join" in stage.flags or not stage.missing():
        return ()
    flags = stage.flags
    own = flags[flags.index("--weights") :][:2] if "--weights" in flags else ()
    return ("-m", "study.weights", "--backbone", module[2], *own)


def without_weights(words: tuple[str, ...]) -> str:
    """Return what to do when the weights of a backbone cannot be brought here."""
    name = words[words.index("--backbone") + 1]
    return (
        f"the weights of {name} are not here, see above; nothing was submitted. Put them into "
        f"DIR/{name}/ and give --weights DIR, or run this with --fetch on a machine that reaches "
        "the hub and shares HF_HOME with this one"
    )


def call(stage: Stage, *, as_jobs: bool = False) -> None:
    """Run a stage's python; what stops this process stops it too.

    Args:
        as_jobs: with the settings of cluster.env, as HF_HOME where jobs look for weights.

    Raises:
        InputError, WorkError: it ended so and has said why.
    """
    words = [*stage.script, *stage.flags]
    command = [sys.executable, *words]
    if as_jobs:
        command = cluster.with_settings(command)
    with subprocess.Popen(command, cwd=HERE, env=stage.environment) as process:
        try:
            took = wait_for(process)
        except KeyboardInterrupt:
            process.wait()  # the terminal has interrupted it as well
            raise
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if error := failure(words[0], process.returncode):
        raise error
    print(f"took {took}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    run(main, StudyConfig, __doc__)
