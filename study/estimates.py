"""What a study from open data will fetch, keep and take, said before it begins.

Rates are those measured on two cores (docs/speed.md); what depends on products of matrices is
scaled by this machine's own rate, which is measured in half a second.
"""

from __future__ import annotations

import os
import time

import numpy as np
import yaml

from core.registry import ALL, CONTROLS, RECOMMENDERS
from open_data.sources import Source
from study.config import HERE, StudyConfig, has_gpu
from study.open_stages import OPTIONS, open_sources
from study.stage import Stage
from study.usage import duration

ALL_TRACKS, TRACKS, USERS, PAIRS, PLAYS = 109_269, 56_512, 21_018, 5_371_381, 252_984_396
PACKED = 4.06  # bytes a number in a packed table: id_maest's
SPLIT_BYTES = 100_000_000  # of the published train.pqt
DOWNLOAD = 2e6  # bytes a second, a good day of the public server
REFERENCE = 180e9  # products a second of the two cores that the rates below were measured on
LOG_SECONDS = 370.0  # to unpack, convert and split the log there
IMPORT = 84e6 / 75  # numbers of a table a second, unpacked with both cores
KNN_SECONDS, KNN_NUMBER = 14.0, 0.011  # and for each of the width
SHALLOW, SHALLOW_STEP = 1.6, 0.05  # a step's time: so many times its bare products, and seconds
ELSA_EPOCH = 170.0
LONG = 3600.0  # seconds: a stage that takes longer says what would be shorter
CONTROLS_SECONDS, REPORT_SECONDS = 450.0, 120.0  # EASE at four penalties is most of the first


def announce(config: StudyConfig, stages: list[Stage]) -> str:
    """Return what is going to happen: files and licences, disk, and each stage's time here."""
    todo = [stage for stage in stages if stage.missing()]
    folder = config.root / "downloads"
    sources = open_sources(config, about=True)
    fetched = [source for source in sources if not (folder / source.file).exists()]
    lines = ["Open data, Music4All-Onion v2, into " + str(config.root), "", "to fetch:"]
    for source in fetched:
        size, known = size_of(source)
        about = "" if known else "about "
        lines.append(f"  {source.file:<34} {about + f'{size:,.0f}':>19} bytes  {source.licence}")
    if not fetched:
        lines.append("  nothing, all of it is here")
    total = sum(size_of(source)[0] for source in fetched)
    lines += [
        f"  {total / 1e9:.1f} GB, {duration(total / DOWNLOAD)} at {DOWNLOAD / 1e6:.0f} MB/s",
        f"disk needed: about {disk_of(config, total) / 1e9:.1f} GB in {config.root}",
        "",
        "time on this machine, by rates measured on two cores (docs/speed.md), without other work:",
    ]
    rate = product_rate()
    for stage in todo:
        seconds, note = estimate(config, stage, rate)
        if seconds is None:
            lines.append(f"  {stage.name:<40} {'not measured':>12}")
        elif seconds:
            lines.append(f"  {stage.name:<40} {duration(max(1, seconds)):>12}{note}")
    if not todo:
        lines.append("  nothing is left to do")
    left_out = [
        each.label
        for name, each in RECOMMENDERS.items()
        if each.by_default and name not in config.recommenders
    ]
    if left_out and not has_gpu() and config.onion == "full":
        lines.append(f"left out: {', '.join(left_out)}; ask with --recommenders, best with a GPU")
    return "\n".join(lines)


def size_of(source: Source) -> tuple[float, bool]:
    """Return a file's bytes, and whether they are known; a table's are guessed by its width."""
    if source.bytes is not None:
        return source.bytes, True
    if source.width:
        return source.width * ALL_TRACKS * PACKED, False
    return (SPLIT_BYTES if "train" in source.name else 10e6), False


def disk_of(config: StudyConfig, downloads: float) -> float:
    """Return the bytes that the study keeps: downloads, plays, embeddings, runs."""
    widths = [source.width or 0 for source in open_sources(config) if source.group == "table"]
    vectors = sum(widths) * TRACKS * 4
    plays = 0 if config.published else 9 * PLAYS
    runs = 60e6 * (2 * len(config.recommenders) * len(widths) + 4) * len(config.seeds)
    return downloads + plays + vectors + runs


def estimate(config: StudyConfig, stage: Stage, rate: float) -> tuple[float | None, str]:
    """Return a stage's seconds here, 0 where they do not matter, None where nobody knows."""
    cores = len(os.sched_getaffinity(0))
    width, slower = _width(config, stage), REFERENCE / rate
    seeds = len(config.seeds)
    if stage.name == "plays":
        return LOG_SECONDS * 2 / min(cores, 8), ""
    if stage.script[0] == "import_embedding.py":
        return width * ALL_TRACKS / IMPORT * 2 / min(cores, 8), ""
    if stage.script[0] == "knn.py":
        return (KNN_SECONDS + KNN_NUMBER * width) * slower * seeds, ""
    if stage.script[0] == "train.py":
        return _shallow(config, width, rate)
    if stage.script[0] == "train_elsa.py":
        return _learning(config, ELSA, ELSA_EPOCH * slower)
    if stage.script[0] == "baselines.py":
        return CONTROLS_SECONDS * slower * seeds, ""
    if stage.name == "report":
        return REPORT_SECONDS, ""
    return (None if stage.script[0].startswith("train") else 0.0), ""


FITTED, ELSA = (
    next(name for name, each in (RECOMMENDERS | CONTROLS).items() if each.script == script)
    for script in ("train.py", "train_elsa.py")
)


def _shallow(config: StudyConfig, width: int, rate: float) -> tuple[float, str]:
    """Return the seconds that Shallow Net may take, and what an epoch takes."""
    options = _options(config, FITTED)
    width = min(width, options["project"] or width)
    hidden = options["hidden"] or width
    # A step takes nearly all users and 9,000 tracks through the layer, forth and back.
    step = 2 * width * hidden * (3 * USERS + 2 * 9_000) + 6 * 210_000 * hidden
    seconds = SHALLOW * step / rate + SHALLOW_STEP * REFERENCE / rate
    return _learning(config, FITTED, seconds * PAIRS / 10_000)


def _learning(config: StudyConfig, section: str, epoch: float) -> tuple[float, str]:
    """Return the seconds that training may take, by those of an epoch, and words on the latter."""
    options = _options(config, section)
    most = options.get("max_minutes")
    limit = float("inf") if most in (None, "none") else most * 60
    seconds = min(options["epochs"] * epoch, limit + epoch)
    note = f"  at most; {duration(epoch)} an epoch"
    if seconds > LONG and limit > LONG:
        note += "; shorter: a --config with hidden: 256 or project: 256, max_minutes, or a GPU"
    return seconds * len(config.seeds), note


def _options(config: StudyConfig, section: str) -> dict:
    """Return what a recommender that learns is given: its own options under those of the study."""
    path = config.config or HERE / OPTIONS[config.onion]
    own = HERE / ALL[section].options_file if ALL[section].options_file else None
    options = {"hidden": 0, "project": 0}
    for each in filter(None, (own, path)):
        given = yaml.safe_load(each.read_text(encoding="utf-8")) or {}
        options |= given | (given.get(section) or {})
    return options


def _width(config: StudyConfig, stage: Stage) -> int:
    """Return the width of the table that a stage is about; 128 of `noise`."""
    widths = {source.name: source.width or 0 for source in open_sources(config)}
    by_name = dict(zip(config.embeddings, config.tables, strict=True))
    words = [*stage.name.split(), *stage.flags]
    return next((widths[by_name[word]] for word in words if word in by_name), 128)


def product_rate() -> float:
    """Return this machine's float32 products a second, measured now."""
    matrix = np.ones((1024, 1024), np.float32)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best
