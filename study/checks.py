"""Whether what is on the disk was made from what is asked for now: the stages' own say.

A stage that is run on something made from another log, another split or other options refuses it.
These functions ask the same functions of the same scripts, in this process and without the work,
so that it can be told before anything is submitted. Scripts are loaded when there is something to
ask about: a new study loads none.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from pathlib import Path

from core.artifacts import read_json, sha256
from core.names import NONE, WITHOUT_FILE, run_name
from core.options import InputError, parse_config
from core.splits import split_hash
from core.trackids import read_trackids
from extract_item_embeddings.engine.audio_files import find_audio, fingerprint
from extract_item_embeddings.engine.finished import audio_hash
from extract_item_embeddings.engine.jobs import available_cores
from recommenders.runs import Run
from recommenders.vectors import embedding_hash

Changed = Callable[[], dict[int, str]]  # {task: what a stage would refuse}


def of_data(script: str, flags: tuple[str, ...], made: Path) -> Changed:
    """Return the function that asks a script's `is_finished(options)`, where `made` is there."""

    def changed() -> dict[int, str]:
        if not made.exists():
            return {}
        module, config = options_of(script, flags)
        return _refusal(0, lambda: module.is_finished(config))

    return changed


def of_runs(
    script: str,
    names: list[str],
    flags: tuple[str, ...],
    *,
    root: Path,
    seeds: tuple[int, ...],
    embedding: str,
    tag: str | None,
    array: bool,
) -> Changed:
    """Return the function that compares the config.yaml of a script's runs with its options.

    Args:
        names: of the recommenders whose runs it makes.
        array: each seed is a task; else all are task 0.
    """

    def changed() -> dict[int, str]:
        runs = (run_name(name, embedding, seed, tag) for name in names for seed in seeds)
        if not any((root / "runs" / run / "config.yaml").exists() for run in runs):
            return {}
        _, config = options_of(script, flags)
        hashes = {
            "split_hash": _split(root, _stamp(root / "data" / "split.json")),
            "embedding_hash": embedding_fingerprint(root, embedding, getattr(config, "width", 0)),
        }
        told: dict[int, str] = {}
        for place, seed in enumerate(seeds):
            for name in names:
                run = Run(name, dataclasses.replace(config, seed=seed, seeds=None), **hashes)
                told = _refusal(place if array else 0, run.check) | told
        return told

    return changed


def of_embedding(root: Path, name: str, audio: str, pattern: str | None = None) -> Changed:
    """Return the function that compares an embedding's json with the track ids and the audio.

    The audio files are looked at when runs/study.json does not say that they were, in that folder.
    """

    def changed() -> dict[int, str]:
        matrix = root / "embeddings" / f"{name}.npy"
        record, ids = matrix.with_suffix(".json"), root / "trackid_sorted.csv"
        if not (matrix.exists() and record.exists() and ids.exists()):
            return {}

        def check():
            made = read_json(record, "its extraction with --overwrite")
            if made.get("trackids_sha256") not in (None, sha256(ids)):
                raise InputError(f"{matrix} was extracted for another trackid_sorted.csv")
            study = root / "runs" / "study.json"
            known = read_json(study, "--slurm").get("audio") if study.exists() else None
            if known != str(audio) and "audio_sha256" in made:
                names = read_trackids(root)
                marks = fingerprint(find_audio(Path(audio), names, pattern), available_cores())
                if made["audio_sha256"] != audio_hash(marks, names, made.get("failed", {})):
                    raise InputError(
                        f"{matrix} was extracted from other audio than --audio {audio}"
                    )

        return _refusal(0, check)

    return changed


def options_of(script: str, flags: tuple[str, ...]) -> tuple:
    """Return a script as a module, and its options as its command line would set them.

    Raises:
        InputError: a flag, or a yaml file that it reads, is wrong.
    """
    module = importlib.import_module(script.removesuffix(".py"))
    (config_class,) = (
        value
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and value.__module__ == module.__name__
        if "root" in {field.name for field in dataclasses.fields(value)}
    )
    return module, parse_config(config_class, "", list(flags))


def embedding_fingerprint(root: Path, name: str, width: int) -> str:
    """Return what a run records of its embedding; of a file its json's word, if that is newer."""
    matrix = root / "embeddings" / f"{name}.npy"
    record = matrix.with_suffix(".json")
    if name == NONE:
        return NONE
    if name not in WITHOUT_FILE and matrix.exists() and record.exists():
        told = read_json(record, "its extraction").get("sha256")
        if told and record.stat().st_mtime_ns >= matrix.stat().st_mtime_ns:
            return told
    return embedding_hash(root, name, width)


@functools.cache
def _split(root: Path, stamp: int) -> str:
    return split_hash(root)


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _refusal(task: int, check: Callable) -> dict[int, str]:
    try:
        check()
    except InputError as error:
        return {task: str(error)}
    return {}
