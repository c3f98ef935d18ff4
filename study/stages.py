"""The stages of the study: their commands, what each needs, and what is missing on the disk.

`plan` is the one list; run_study.py runs it here or submits it to Slurm. A stage that is added
there is run, submitted, waited for and reported like the others.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.names import NONE, SHUFFLED, TRAINED, WITHOUT_FILE
from core.registry import CONTROLS, RECOMMENDERS
from study.config import HERE, StudyConfig, lacking
from study.on_disk import absent, metrics_files, missing_shards


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
    if config.track_ids:
        flags = (*flags, "--tracks", str(config.track_ids.absolute()))
    needs = tuple(stage.name for stage in stages)
    stages.append(_stage("plays", "0_get_plays_pqt.py", root, plays, needs, flags))
    split = [root / "data" / "split.json"]
    stages.append(_stage("split", "1_train_test_split.py", root, split, ("plays",)))
    extracted = [name for name in config.embeddings if not lacking(name)]
    for name in extracted:
        stages += _extraction(name, root, audio, config.shards if config.slurm else None)

    seeds = ",".join(map(str, config.seeds))
    flags = ("--seeds", seeds)
    controls, results = [], []
    for script in dict.fromkeys(each.script for each in CONTROLS.values() if each.by_default):
        names = [n for n, each in CONTROLS.items() if each.script == script and each.by_default]
        files = sum((metrics_files(root, name, NONE, config.seeds) for name in names), [])
        learns = any(CONTROLS[name].learns for name in names)
        more = (*flags, *taken) if learns else flags
        title = "controls" if script == "baselines.py" else " ".join(names)
        controls.append(_stage(title, script, root, files, ("split",), more))
        results += files
    stages += controls
    for recommender, name, tag, more in _runs(config):
        known = RECOMMENDERS[recommender]
        files = metrics_files(root, recommender, name, config.seeds, tag)
        results = results + files
        stages.append(
            Stage(
                name=" ".join(filter(None, (recommender, name, tag))),
                script=(known.script,),
                flags=("--root", str(root), "--embedding", name, "--seeds", seeds, *more)
                + (taken if known.learns else ()),
                missing=absent(files, array=known.learns),
                needs=("split", *([f"embedding {name}"] if name in extracted else [])),
                batch=known.batch,
                array=known.learns,
                training=known.learns,
            )
        )
    scripts = {each.script for each in RECOMMENDERS.values()}
    runs = tuple(s.name for s in stages if s in controls or s.script[0] in scripts)
    tables = root / "tables" / "results.csv"
    stages.append(_stage("table", "table.py", root, [tables], runs, newer_than=results))
    page, flags = root / "report" / "report.json", ("--audio", str(audio))
    stages.append(_stage("report", "report.py", root, [page], ("table",), flags, [tables]))
    return stages


def _runs(config: StudyConfig) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield (recommender, embedding, tag, flags) of everything that is trained and compared."""
    tracks = config.tracks or (("frozen",) if config.log else ("frozen", "trained"))
    for recommender in config.recommenders:
        known = RECOMMENDERS[recommender]
        for name in dict.fromkeys((*config.embeddings, "noise")):
            if name == "random" and not known.from_nothing:
                continue
            control = name in WITHOUT_FILE  # `random` is always trained, and `noise` never
            if control or not known.trains_tracks or "frozen" in tracks:
                yield recommender, name, "", ()
            if control:
                continue
            if known.trains_tracks and "trained" in tracks:
                yield recommender, name, TRAINED, ("--train-tracks", "true", "--tag", TRAINED)
            if recommender in config.shuffled:
                yield recommender, name, SHUFFLED, ("--shuffle",)


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
