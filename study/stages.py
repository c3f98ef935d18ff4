"""The stages of the study: their commands, what each needs, and what is missing on the disk.

`plan` is the one list; run_study.py runs it here or submits it to Slurm. A stage that is added
there is run, submitted, waited for and reported like the others.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.names import SHUFFLED
from core.options import InputError, option
from recommenders.vectors import WITHOUT_FILE
from study.on_disk import absent, metrics_files, missing_shards

HERE = Path(__file__).resolve().parents[1]
RECOMMENDERS = {  # script, batch file, whether it takes the yaml of options
    "knn": ("knn.py", "knn.sh", False),
    "shallow": ("train.py", "train.sh", True),
    "bert4rec": ("train_bert.py", "train_bert.sh", True),
}
WITHOUT_EMBEDDING = ("popular", "random_lists", "ease")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    root: Path = option(Path("sample"), "folder of all that is read and written")
    log: Path | None = option(None, "the listening log; auto: of a sample that is made")
    audio: Path | None = option(None, "folder of TRACKID.mp3 ...; auto: of that sample")
    embeddings: tuple[str, ...] = option(("mfcc", "musicnn"), "to extract and compare")
    recommenders: tuple[str, ...] = option(("knn", "shallow", "bert4rec"), "to compare them in")
    seeds: tuple[int, ...] = option((1,), "one run for each")
    tracks: tuple[str, ...] | None = option(
        None,
        "vectors of tracks in the networks: frozen, trained (tag trained), or both; auto: both of "
        "the sample, else frozen",
    )
    shuffled: tuple[str, ...] = option(
        ("knn", "shallow"), "recommenders with a shuffled control of each embedding, or none"
    )
    config: Path | None = option(
        None, "yaml of options for train.py and train_bert.py; auto: sample.yaml for it", read=False
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

    def __post_init__(self):
        for flag, names, known in (
            ("recommenders", self.recommenders, RECOMMENDERS),
            ("shuffled", self.shuffled, (*RECOMMENDERS, "none")),
            ("tracks", self.tracks or (), ("frozen", "trained")),
        ):
            for name in names:
                if name not in known:
                    raise InputError(f"--{flag} knows {', '.join(known)}, got '{name}'")
        for name in self.embeddings:
            there = has_backbone(name) or (self.root / "embeddings" / f"{name}.npy").exists()
            if name not in WITHOUT_FILE and not there:
                raise InputError(
                    f"--embeddings: '{name}' is unknown: there is no extract_item_embeddings/"
                    f"{name}.py and no {self.root}/embeddings/{name}.npy"
                )
        if (self.log is None) != (self.audio is None):
            raise InputError("--log and --audio go together; without both a sample is made")
        if min(self.shards, self.at_once) < 1 or (self.gpus or 0) < 0:
            raise InputError("--shards and --at-once must be at least 1, --gpus at least 0")


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

    @property
    def python(self) -> str:
        """The command line that does it by hand."""
        return shlex.join([self.interpreter or "python", *self.script, *self.flags])


def flags_of(config: StudyConfig) -> list[str]:
    """Return the flags that give these options again, from any folder."""
    flags = []
    for option_field in dataclasses.fields(config):
        value = getattr(config, option_field.name)
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


def plan(config: StudyConfig) -> list[Stage]:
    """Return every stage, each after those it needs; paths in the commands are absolute."""
    root = config.root.absolute()
    stages, log, audio, options = [], config.log, config.audio, config.config
    if log is None:
        stages.append(_stage("sample", "make_sample.py", root, [root / "sample.json"]))
        log, audio = root / "userid_trackid_timestamp.tsv", root / "audio"
        options = options or HERE / "sample.yaml"
    log, audio = log.absolute(), audio.absolute()
    taken = ("--config", str(options.absolute())) if options else ()

    plays = [root / "data" / name for name in ("plays.pqt", "plays.json")]
    flags = ("--log", str(log), "--audio", str(audio))
    needs = tuple(stage.name for stage in stages)
    stages.append(_stage("plays", "0_get_plays_pqt.py", root, plays, needs, flags))
    split = [root / "data" / "split.json"]
    stages.append(_stage("split", "1_train_test_split.py", root, split, ("plays",)))
    extracted = [name for name in config.embeddings if has_backbone(name)]
    for name in extracted:
        stages += _extraction(name, root, audio, config.shards if config.slurm else None)

    seeds = ",".join(map(str, config.seeds))
    without = [metrics_files(root, name, "none", config.seeds) for name in WITHOUT_EMBEDDING]
    results = sum(without, [])
    flags = ("--seeds", seeds)
    stages.append(_stage("controls", "baselines.py", root, results, ("split",), flags))
    for recommender, name, tag, more in _runs(config):
        script, batch, takes_options = RECOMMENDERS[recommender]
        files = metrics_files(root, recommender, name, config.seeds, tag)
        results = results + files
        stages.append(
            Stage(
                name=" ".join(filter(None, (recommender, name, tag))),
                script=(script,),
                flags=("--root", str(root), "--embedding", name, "--seeds", seeds, *more)
                + (taken if takes_options else ()),
                missing=absent(files, array=takes_options),
                needs=("split", *([f"embedding {name}"] if name in extracted else [])),
                batch=batch,
                array=takes_options,
                training=takes_options,
            )
        )
    runs = tuple(s.name for s in stages if s.name == "controls" or s.script[0] in _SCRIPTS)
    tables = root / "tables" / "results.csv"
    stages.append(_stage("table", "table.py", root, [tables], runs, newer_than=results))
    page, flags = root / "report" / "report.json", ("--audio", str(audio))
    stages.append(_stage("report", "report.py", root, [page], ("table",), flags, [tables]))
    return stages


def _runs(config: StudyConfig) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield (recommender, embedding, tag, flags) of everything that is trained and compared."""
    tracks = config.tracks or (("frozen",) if config.log else ("frozen", "trained"))
    for recommender in config.recommenders:
        learns = RECOMMENDERS[recommender][2]
        for name in dict.fromkeys((*config.embeddings, "noise")):
            if (recommender, name) == ("knn", "random"):
                continue  # KNN learns nothing
            control = name in WITHOUT_FILE  # `random` is always trained, and `noise` never
            if control or not learns or "frozen" in tracks:
                yield recommender, name, "", ()
            if control:
                continue
            if learns and "trained" in tracks:
                yield recommender, name, "trained", ("--train-tracks", "true", "--tag", "trained")
            if recommender in config.shuffled:
                yield recommender, name, SHUFFLED, ("--shuffle",)


def has_backbone(name: str) -> bool:
    """Say whether an embedding is one that is extracted here."""
    folder = HERE / "extract_item_embeddings"
    return all((folder / f"{name}.{kind}").exists() for kind in ("py", "sh"))


_SCRIPTS = {script for script, _, _ in RECOMMENDERS.values()}


def _stage(name, script, root, files, needs=(), flags=(), newer_than=()) -> Stage:
    flags = ("--root", str(root), *flags)
    missing = absent(files, array=False, newer_than=newer_than)
    return Stage(name=name, script=(script,), flags=flags, missing=missing, needs=needs)


def _extraction(name: str, root: Path, audio: Path, shards: int | None) -> list[Stage]:
    """Return the stage of one embedding; or those of its shards, and of the join."""
    script = ("-m", f"extract_item_embeddings.{name}")
    flags = ("--root", str(root), "--audio", str(audio))
    batch = f"extract_item_embeddings/{name}.sh"
    files = [root / "embeddings" / f"{name}.{kind}" for kind in ("npy", "json")]
    whole = absent(files, array=False)
    own = (HERE / f"requirements-{name}.txt").exists()
    interpreter = f".venv-{name}/bin/python" if own else None
    common = {"script": script, "batch": batch, "interpreter": interpreter}
    if shards is None:
        return [
            Stage(name=f"embedding {name}", flags=flags, missing=whole, needs=("plays",), **common)
        ]
    flags = (*flags, "--shards", str(shards))
    return [
        Stage(
            name=f"shards of {name}",
            flags=flags,
            missing=lambda: missing_shards(root, name, shards) if whole() else [],
            needs=("plays",),
            array=True,
            **common,
        ),
        Stage(
            name=f"embedding {name}",
            flags=(*flags, "--join"),
            missing=whole,
            needs=(f"shards of {name}",),
            without_gpu=True,
            **common,
        ),
    ]
