"""The stages of the study: their commands, what each needs, and what is missing on the disk.

`plan` is the one list; run_study.py runs it here or submits it to Slurm. A stage that is added
there is run, submitted, waited for and reported like the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from core.names import NONE, PUBLISHED, SHUFFLED, TRAINED, WITHOUT_FILE, is_shuffled, shuffled_tag
from core.registry import CONTROLS, RECOMMENDERS
from recommenders.as_published import SETS, embedding_as_published
from study import checks
from study.config import HERE, StudyConfig, lacking
from study.on_disk import absent, metrics_files, missing_shards
from study.open_stages import OPTIONS, open_stages
from study.stage import Stage, stage_of

SHUFFLES = 5  # of each embedding, at least, under a recommender that learns nothing


def plan(config: StudyConfig) -> list[Stage]:
    """Return every stage, each after those it needs; paths in the commands are absolute."""
    root = config.root.absolute()
    stages, log, audio, options = [], config.log, config.audio, config.config
    if config.onion:
        stages = open_stages(config)
        return stages + _compared(config, stages, (), options or HERE / OPTIONS[config.onion])
    if log is None:
        stages.append(stage_of("sample", "make_sample.py", root, [root / "sample.json"], asks=True))
        log, audio = root / "userid_trackid_timestamp.tsv", root / "audio"
        options = options or HERE / "sample.yaml"
    log, audio = log.absolute(), audio.absolute()
    plays = [root / "data" / name for name in ("plays.pqt", "plays.json")]
    heard = ("--audio", str(audio), *(("--pattern", config.pattern) if config.pattern else ()))
    flags = ("--log", str(log), *heard)
    if config.track_ids:
        flags = (*flags, "--tracks", str(config.track_ids.absolute()))
    needs = tuple(stage.name for stage in stages)
    stages.append(stage_of("plays", "0_get_plays_pqt.py", root, plays, needs, flags, asks=True))
    split = [root / "data" / "split.json"]
    stages.append(stage_of("split", "1_train_test_split.py", root, split, ("plays",), asks=True))
    shards = config.shards if config.slurm else None
    for name in config.embeddings:
        if not lacking(name):
            weights = own_weights(config, name)
            stages += _extraction(name, root, heard, shards, config.as_published, weights)
    return stages + _compared(config, stages, heard, options)


def _compared(
    config: StudyConfig, before: list[Stage], heard: tuple[str, ...], options: Path | None
) -> list[Stage]:
    """Return the stages that train, compare and report, after those that make what they need."""
    root = config.root.absolute()
    stages, made = [], {stage.name for stage in before}
    taken = ("--config", str(options.absolute())) if options else ()
    seeds = ",".join(map(str, config.seeds))
    flags = ("--seeds", seeds)
    controls, results = [], []
    wanted = {
        name: each
        for name, each in CONTROLS.items()
        if each.by_default and not (each.learns and config.onion == "small")
    }
    for script in dict.fromkeys(each.script for each in wanted.values()):
        names = [name for name, each in wanted.items() if each.script == script]
        files = sum((metrics_files(root, name, NONE, config.seeds) for name in names), [])
        learns = any(CONTROLS[name].learns for name in names)
        more = (*flags, *taken) if learns else flags
        title = "controls" if script == "baselines.py" else " ".join(names)
        stage = stage_of(title, script, root, files, ("split",), more)
        if learns:
            jobs = {"batch": CONTROLS[names[0]].batch, "array": True, "training": True}
            labels = tuple(map(str, config.seeds))
            stage = dataclasses.replace(
                stage, missing=absent(files, array=True), labels=labels, **jobs
            )
        asked = {"root": root, "seeds": config.seeds, "embedding": NONE, "tag": None}
        changed = checks.of_runs(script, names, stage.flags, **asked, array=learns)
        controls.append(dataclasses.replace(stage, changed=changed))
        results += files
    stages += controls
    for recommender, name, tag, more in _runs(config):
        known = RECOMMENDERS[recommender]
        own = config.seeds
        if is_shuffled(tag) and not known.learns:  # seconds, and a dagger is not one shuffle's luck
            own = tuple(dict.fromkeys((*config.seeds, *range(1, SHUFFLES + 1))))
        files = metrics_files(root, recommender, name, own, tag)
        results = results + files
        these = ",".join(map(str, own))
        flags = ("--root", str(root), "--embedding", name, "--seeds", these, *more)
        flags += ("--missing", "mean") if config.onion else ()
        flags += taken if known.learns else ()
        asked = {"root": root, "seeds": own, "embedding": name, "tag": tag or None}
        asked |= {"array": known.learns}
        for other in (n for n, each in RECOMMENDERS.items() if each.made_by == recommender):
            results = results + metrics_files(root, other, name, config.seeds, tag)
        stages.append(
            Stage(
                name=" ".join(filter(None, (recommender, name, tag))),
                script=(known.script,),
                flags=flags,
                missing=absent(files, array=known.learns),
                changed=checks.of_runs(known.script, [recommender], flags, **asked),
                labels=tuple(map(str, config.seeds)) if known.learns else ("",),
                needs=(
                    "split",
                    *([f"embedding {name}"] if f"embedding {name}" in made else []),
                    *(name for name in known.learns_from if name in wanted),  # else made there
                ),
                batch=known.batch,
                array=known.learns,
                training=known.learns,
                long=known.wants_gpu,
            )
        )
    scripts = {each.script for each in RECOMMENDERS.values()}
    runs = tuple(s.name for s in stages if s in controls or s.script[0] in scripts)
    tables = root / "tables" / "results.csv"
    # All recommenders are those of the extended study, as this split is: its tables are filled too.
    theirs = config.published or set(config.recommenders) == set(RECOMMENDERS)
    layout = ("--layout", "journal") if theirs else ()
    stages.append(stage_of("table", "table.py", root, [tables], runs, layout, results))
    page = root / "report" / "report.json"
    shown = ("table", *(stage.name for stage in before if stage.optional))
    stages.append(stage_of("report", "report.py", root, [page], shown, heard, [tables]))
    return stages


def _runs(config: StudyConfig) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield (recommender, embedding, tag, flags) of everything that is trained and compared."""
    if config.as_published:
        yield from _runs_as_published(config)
        return
    sample = not config.log and not config.onion
    tracks = config.tracks or (("frozen", "trained") if sample else ("frozen",))
    for recommender in dict.fromkeys(RECOMMENDERS[n].made_by or n for n in config.recommenders):
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
            if known.name in (RECOMMENDERS[n].made_by or n for n in config.shuffled if n != "none"):
                yield recommender, name, SHUFFLED, ("--shuffle",)


def _runs_as_published(config: StudyConfig) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield the same where every run over vectors is as published: no row is frozen beside it.

    A recommender that the study does not have is left out.
    """
    flags = ("--as-published",)
    for recommender in dict.fromkeys(RECOMMENDERS[n].made_by or n for n in config.recommenders):
        known = RECOMMENDERS[recommender]
        for name in dict.fromkeys((*config.embeddings, "noise")):
            if recommender not in SETS or (name == "random" and not known.from_nothing):
                continue
            made = name if config.onion else embedding_as_published(name)
            yield recommender, made, PUBLISHED, flags
            wanted = (RECOMMENDERS[n].made_by or n for n in config.shuffled if n != "none")
            if name not in WITHOUT_FILE and recommender in wanted:
                yield recommender, made, shuffled_tag(PUBLISHED), (*flags, "--shuffle")


def own_weights(config: StudyConfig, backbone: str) -> tuple[str, ...]:
    """Return the flags for the weights of a backbone that --weights has a folder of."""
    folder = config.weights and config.weights.absolute() / backbone
    return ("--weights", str(folder)) if folder and folder.is_dir() else ()


def _extraction(
    backbone: str,
    root: Path,
    heard: tuple[str, ...],
    shards: int | None,
    as_published: bool,
    weights: tuple[str, ...],
) -> list[Stage]:
    """Return the stage of one embedding; or those of its shards, and of the join."""
    script = ("-m", f"extract_item_embeddings.{backbone}")
    flags = ("--root", str(root), *heard, *weights)
    name = embedding_as_published(backbone) if as_published else backbone
    if name != backbone:
        flags = (*flags, "--as-published")
    batch = f"extract_item_embeddings/{backbone}.sh"
    files = [root / "embeddings" / f"{name}.{kind}" for kind in ("npy", "json")]
    whole = absent(files, array=False)
    common = {"script": script, "batch": batch}
    # It hears the tracks of trackid_sorted.csv, which stage 0 leaves as it is where there is one.
    first = {
        "changed": checks.of_embedding(root, name, *heard[1::2]),
        "follows": not (root / "trackid_sorted.csv").exists(),
        "needs": ("plays",),
    }
    if shards is None:
        return [Stage(name=f"embedding {name}", flags=flags, missing=whole, **first, **common)]
    flags = (*flags, "--shards", str(shards))
    return [
        Stage(
            name=f"shards of {name}",
            flags=flags,
            missing=lambda: missing_shards(root, name, shards) if whole() else [],
            labels=tuple(f"{shard} of {shards}" for shard in range(shards)),
            array=True,
            **first,
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
