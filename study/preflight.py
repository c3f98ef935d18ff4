"""What is checked before the first job is submitted: a job that cannot work fails hours later."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import tempfile
from pathlib import Path

from core.options import InputError
from study import cluster
from study.config import HERE, StudyConfig
from study.graph import Node


def check_places(root: Path) -> None:
    """Raise InputError unless the root's runs/ and the logs' folder can be written."""
    for folder in (root / "runs", HERE / "logs"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror}){_whose(folder)}; jobs of "
                f"{getpass.getuser()} need that: choose another --root, a checkout of your own, or "
                "ask for the right to write"
            ) from error


def check_settings() -> None:
    """Raise InputError unless bash reads cluster.env to its end, and knows what it calls.

    A value with a space and no quotes is a command to bash: it would be left out without a word.
    """
    if not (HERE / "cluster.env").exists():
        return
    done = subprocess.run(
        ["bash", "-c", ". ./cluster.env"], cwd=HERE, capture_output=True, text=True
    )
    for line in done.stderr.splitlines():
        if re.search(r"syntax error|unexpected EOF|command not found|No such file", line) and not (
            re.search(
                r": (module|ml): command", line
            )  # a shell of this kind may lack it; jobs tell
        ):
            raise InputError(
                f"cluster.env cannot be read: {line.removeprefix('./')}; values with spaces need "
                'quotes, as GPU_FLAGS="--partition=gpu --gres=gpu:1"'
            )


def _whose(folder: Path) -> str:
    place = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        owner = place.owner()
    except KeyError:
        owner = f"user {place.stat().st_uid}"
    return "" if place.stat().st_uid == os.getuid() else f"; {place} belongs to {owner}"


def check_work(config: StudyConfig, nodes: list[Node]) -> None:
    """Raise InputError unless all that is to be submitted can be taken and can work.

    Whether nodes have the GPUs of --gpus is checked with the options that follow from it.
    """
    if config.log is not None:
        if not config.log.is_file():
            raise InputError(f"--log {config.log} is missing; expected a tab-separated file")
        if not config.audio.is_dir():
            raise InputError(f"--audio {config.audio} is not a folder; expected TRACKID.mp3 in it")
    todo = [node for node in nodes if node.todo]
    if config.gpus and (training := [node.stage for node in todo if node.stage.training]):
        cluster.node_share(config.gpus, training[0].batch)
    _check_limits(todo)


def _check_limits(todo: list[Node]) -> None:
    arrays = [node for node in todo if node.stage.array]
    if not arrays:
        return
    limits = cluster.limits()
    for node in arrays:
        largest, most = max(node.todo), limits.get("MaxArraySize")
        if most and largest >= most:
            flag = "--shards" if node.stage.name.startswith("shards") else "--seeds"
            raise InputError(
                f"{node.stage.name} is an array up to {largest}, and this Slurm takes them up to "
                f"{most - 1} (MaxArraySize); give fewer {flag}"
            )
