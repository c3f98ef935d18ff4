"""What is asked of a study: its data, embeddings, recommenders and seeds, and how it is run."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.names import WITHOUT_FILE
from core.options import InputError, option
from core.registry import RECOMMENDERS

HERE = Path(__file__).resolve().parents[1]
OPEN_TABLES = {"full": ("mfcc_stats", "musicnn", "maest"), "small": ("mfcc_stats", "maest")}
ONCE = ("wave", "dry_run", "cancel")  # what one command does, and not what a study is


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    root: Path = option(Path("sample"), "folder of all that is read and written")
    onion: Literal["full", "small"] | None = option(
        None,
        "open data, Music4All-Onion, from nothing; small: its published split and two tables",
        bare="full",
    )
    published: bool = option(
        False, "with --onion: the extended study's split (100 MB) in place of the log (2.2 GB)"
    )
    tables: tuple[str, ...] | None = option(
        None,
        "with --onion: tables of vectors, see get_data.py --list; auto: mfcc_stats,musicnn,maest, "
        "small: mfcc_stats,maest",
    )
    sources: Path = option(HERE / "data_sources.yaml", "with --onion: the list of files")
    mirror: str | None = option(
        None, "with --onion: server or folder that has the files", outcome=False
    )
    limit_rate: str | None = option(
        None, "with --onion: most bytes a second, as 2MB", outcome=False
    )
    log: Path | None = option(None, "the listening log; auto: of a sample that is made")
    audio: Path | None = option(None, "folder of TRACKID.mp3 ...; auto: of that sample")
    pattern: str | None = option(
        None, "the files in --audio that are meant, such as '**/*.mp3'", before=None
    )
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
    as_published: bool = option(
        False,
        "all that the study's code did, mistakes included, in every run over vectors and in the "
        "extractions that can (recommenders/differences.yaml); tag published",
    )
    config: Path | None = option(
        None, "yaml of options for what learns; auto: sample.yaml for the sample", read=False
    )
    weights: Path | None = option(
        None,
        "folder of folders NAME with the weights of backbones, as mule needs them; auto: of all "
        "others from the hub",
        outcome=False,
    )
    overwrite: bool = option(
        False, "make again what was made from other things than asked for, and what follows from it"
    )
    slurm: bool = option(False, "submit the study as a graph of Slurm jobs", outcome=False)
    shards: int = option(32, "with --slurm: tasks an extraction is split into", outcome=False)
    at_once: int | None = option(
        None,
        "stages that run at a time here, 1: one after the other; with --slurm: tasks of an array; "
        "auto: as many as cores and memory allow, 8 at most; with --slurm 8",
        outcome=False,
    )
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
    fetch: bool = option(
        False,
        "bring the weights of the embeddings here first; with --slurm jobs then ask no hub, else "
        "nothing more is done",
        outcome=False,
    )
    wave: bool = option(False, "with --slurm: go on after --at-most; jobs use it", outcome=False)
    dry_run: bool = option(False, "with --slurm: say what it would submit", outcome=False)
    cancel: bool = option(False, "with --slurm: cancel this study's jobs alone", outcome=False)

    def __post_init__(self):
        self._settle_open_data()
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
            if name not in WITHOUT_FILE and absent and not there and not self.onion:
                raise InputError(
                    f"--embeddings: '{name}' is unknown: there is no {' and no '.join(absent)}, "
                    f"and no {self.root}/embeddings/{name}.npy"
                )
        if self.as_published and self.tracks:
            raise InputError("--as-published says which vectors are trained; leave --tracks away")
        if (self.log is None) != (self.audio is None):
            raise InputError("--log and --audio go together; without both a sample is made")
        if self.pattern and not self.audio:
            raise InputError("--pattern needs --audio DIR, the folder it is about")
        if self.weights is not None and not self.weights.is_dir():
            raise InputError(f"--weights {self.weights} is not a folder; expected NAME/ in it")
        if min(self.shards, self.tasks_at_once) < 1 or (self.gpus or 0) < 0:
            raise InputError("--shards and --at-once must be at least 1, --gpus at least 0")
        if self.at_most is not None and self.at_most < 3:
            raise InputError(
                f"--at-most must be at least 3, got {self.at_most}: one submits another, and what "
                "submits the next"
            )
        if (self.cancel or self.dry_run or self.wave) and not self.slurm:
            raise InputError("--cancel, --dry-run and --wave go with --slurm")

    @property
    def tasks_at_once(self) -> int:
        """Return how many tasks of an array Slurm runs at a time."""
        return 8 if self.at_once is None else self.at_once

    def _settle_open_data(self) -> None:
        """Fill in what --onion leaves open: root, tables, their embeddings, recommenders."""
        if not self.onion:
            if self.published or self.tables or self.mirror or self.limit_rate:
                raise InputError("--published, --tables, --mirror, --limit-rate go with --onion")
            return
        if self.log or self.audio or self.slurm:
            raise InputError(
                "--onion brings its own data and runs here: no --log, --audio, --slurm"
            )
        tables = self.tables or OPEN_TABLES[self.onion]
        settled = {"tables": tables, "embeddings": tuple(open_name(name) for name in tables)}
        if self.onion == "small":
            settled["published"] = True
        if self.root == Path("sample"):
            settled["root"] = Path("onion")
        default = next(f for f in dataclasses.fields(self) if f.name == "recommenders").default
        if self.recommenders is default:  # not merely equal: a user may ask for just these
            fits = (n for n in default if has_gpu() or not RECOMMENDERS[n].wants_gpu)
            settled["recommenders"] = tuple(fits)
        for name, value in settled.items():
            object.__setattr__(self, name, value)


def open_name(table: str) -> str:
    """Return the name of the embedding that a table of open data becomes."""
    return f"{table}_onion".replace("-", "_")


def has_gpu() -> bool:
    """Say whether there is an NVIDIA GPU, without loading torch."""
    return Path("/dev/nvidia0").exists()


def flags_of(config: StudyConfig) -> list[str]:
    """Return the flags that give these options again, from any folder."""
    flags = []
    for option_field in dataclasses.fields(config):
        value = getattr(config, option_field.name)
        usual = value == option_field.default and option_field.name != "root"
        if usual or option_field.name in ONCE:
            continue
        if isinstance(value, Path):
            value = value.absolute()
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
