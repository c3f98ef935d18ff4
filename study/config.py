"""What is asked of a study: its data, embeddings, recommenders and seeds, and how it is run."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from core.names import WITHOUT_FILE
from core.options import InputError, option
from core.registry import RECOMMENDERS

HERE = Path(__file__).resolve().parents[1]


ONCE = ("wave", "dry_run", "cancel")  # what one command does, and not what a study is


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    root: Path = option(Path("sample"), "folder of all that is read and written")
    log: Path | None = option(None, "the listening log; auto: of a sample that is made")
    audio: Path | None = option(None, "folder of TRACKID.mp3 ...; auto: of that sample")
    track_ids: Path | None = option(
        None, "csv of idx,trackid that a new root starts from; auto: from the audio"
    )
    embeddings: tuple[str, ...] = option(("mfcc", "musicnn"), "to extract and compare")
    recommenders: tuple[str, ...] = option(
        tuple(n for n, each in RECOMMENDERS.items() if each.by_default),
        f"to compare them in: {', '.join(RECOMMENDERS)}, or all",
    )
    seeds: tuple[int, ...] = option((1,), "one run for each")
    tracks: tuple[str, ...] | None = option(
        None,
        "vectors of tracks in the networks: frozen, trained (tag trained), or both; auto: both of "
        "the sample, else frozen",
    )
    shuffled: tuple[str, ...] = option(
        tuple(n for n, each in RECOMMENDERS.items() if each.shuffled),
        "recommenders with a shuffled control of each embedding, or none",
    )
    config: Path | None = option(
        None, "yaml of options for what learns; auto: sample.yaml for the sample", read=False
    )
    overwrite: bool = option(
        False, "make again what was made from other things than asked for, and what follows from it"
    )
    slurm: bool = option(False, "submit the study as a graph of Slurm jobs", outcome=False)
    shards: int = option(32, "with --slurm: tasks an extraction is split into", outcome=False)
    at_once: int = option(8, "with --slurm: tasks of an array that run at a time", outcome=False)
    gpus: int | None = option(
        None,
        "with --slurm: trainings that share a node, each with one GPU and an Nth of its processors "
        "and memory; 0: without GPUs; auto: as the batch files say",
        outcome=False,
    )
    at_most: int | None = option(
        None,
        "with --slurm: jobs of this study in the queue at a time, for sites with limits; a task of "
        "an array counts as one, and the last of them submits the next",
        outcome=False,
    )
    wave: bool = option(False, "with --slurm: go on after --at-most; jobs use it", outcome=False)
    dry_run: bool = option(False, "with --slurm: say what it would submit", outcome=False)
    cancel: bool = option(False, "with --slurm: cancel this study's jobs alone", outcome=False)

    def __post_init__(self):
        if self.recommenders == ("all",):
            object.__setattr__(self, "recommenders", tuple(RECOMMENDERS))
        for flag, names, known in (
            ("recommenders", self.recommenders, RECOMMENDERS),
            ("shuffled", self.shuffled, (*RECOMMENDERS, "none")),
            ("tracks", self.tracks or (), ("frozen", "trained")),
        ):
            for name in names:
                if name not in known:
                    raise InputError(f"--{flag} knows {', '.join(known)}, got '{name}'")
        for name in self.embeddings:
            there = (self.root / "embeddings" / f"{name}.npy").exists()
            absent = lacking(name)
            if name not in WITHOUT_FILE and absent and not there:
                raise InputError(
                    f"--embeddings: '{name}' is unknown: there is no {' and no '.join(absent)}, "
                    f"and no {self.root}/embeddings/{name}.npy"
                )
        if (self.log is None) != (self.audio is None):
            raise InputError("--log and --audio go together; without both a sample is made")
        if min(self.shards, self.at_once) < 1 or (self.gpus or 0) < 0:
            raise InputError("--shards and --at-once must be at least 1, --gpus at least 0")

        if self.at_most is not None and self.at_most < 2:
            raise InputError(f"--at-most must be at least 2, got {self.at_most}: one submits")
        if (self.cancel or self.dry_run or self.wave) and not self.slurm:
            raise InputError("--cancel, --dry-run and --wave go with --slurm")


def flags_of(config: StudyConfig) -> list[str]:
    """Return the flags that give these options again, from any folder."""
    flags = []
    for option_field in dataclasses.fields(config):
        value = getattr(config, option_field.name)
        if option_field.name in ONCE:
            continue
        if isinstance(value, Path):
            value = value.absolute()
        elif value == option_field.default:
            continue
        name = "--" + option_field.name.replace("_", "-")
        if value is True:
            flags.append(name)
        else:
            items = value if isinstance(value, tuple) else [value]
            flags += [name, ",".join(map(str, items))]
    return flags


def command_line(*words, script: str = "run_all.sh") -> str:
    """Return a command of the project that can be pasted, in any folder."""
    starter = "bash" if script.endswith(".sh") else "python"
    return shlex.join([starter, str(HERE / script), *map(str, words)])


def lacking(name: str) -> list[str]:
    """Return which files of a backbone are not there; none are lacking of one that can be run."""
    files = [f"extract_item_embeddings/{name}.{kind}" for kind in ("py", "sh")]
    return [file for file in files if not (HERE / file).exists()]
