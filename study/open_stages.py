"""The stages that turn open data into a split and embeddings, for a study from nothing."""

from __future__ import annotations

from pathlib import Path

from core.options import InputError
from open_data.sources import URL, Source, choose, read_sources
from study.config import StudyConfig, open_name
from study.stage import Stage, stage_of

OPTIONS = {"full": "onion.yaml", "small": "onion_small.yaml"}  # of what learns, unless --config


def open_sources(config: StudyConfig, about: bool = False) -> list[Source]:
    """Return the files that the study fetches; of genres and artists only with `about`."""
    split = "journal" if config.published else None
    return choose(
        read_sources(config.sources),
        log=not config.published,
        tables=config.tables,
        split=split,
        about=about,
    )


def open_stages(config: StudyConfig) -> list[Stage]:
    """Return the stages before the first recommender, each after those it needs."""
    root, folder = config.root.absolute(), config.root.absolute() / "downloads"
    sources = open_sources(config)
    where = ["--sources", str(config.sources.absolute())]
    mirror = config.mirror
    if mirror and not URL.match(mirror):
        mirror = str(Path(mirror).absolute())  # stages run in the project's folder
    for flag, value in (("--mirror", mirror), ("--limit-rate", config.limit_rate)):
        where += [flag, value] if value else []
    asked = ["--tables", ",".join(config.tables)]
    asked += ["--split", "journal"] if config.published else ["--log"]
    files = [folder / source.file for source in sources]
    files += [path.with_name(f"{path.name}.json") for path in files]
    stages = [stage_of("data", "get_data.py", root, files, flags=(*asked, *where))]
    split = [root / "data" / "split.json"]
    if config.published:
        flags = ("--published", str(folder / "journal"))
        stages.append(stage_of("split", "1_train_test_split.py", root, split, ("data",), flags))
    else:
        log = next((s.file for s in sources if s.group == "log"), None)
        if log is None:
            raise InputError(f"--sources {config.sources} has no entry of group 'log'")
        plays = [root / "data" / name for name in ("plays.pqt", "plays.json")]
        flags = ("--log", str(folder / log))
        stages.append(stage_of("plays", "0_get_plays_pqt.py", root, plays, ("data",), flags))
        stages.append(stage_of("split", "1_train_test_split.py", root, split, ("plays",)))
    flags = ("--about", *where)
    about = [root / "about.tsv"]
    stages.append(stage_of("about", "get_data.py", root, about, ("split",), flags, optional=True))
    by_name = {source.name: source for source in sources if source.group == "table"}
    for table in config.tables:
        name = open_name(table)
        flags = ("--table", str(folder / by_name[table].file), "--name", name, "--missing", "nan")
        made = [root / "embeddings" / f"{name}.{kind}" for kind in ("npy", "json")]
        needs = ("data", "split")  # the split tells how many of its plays have a vector
        title = f"embedding {name}"
        stages.append(stage_of(title, "import_embedding.py", root, made, needs, flags))
    return stages
