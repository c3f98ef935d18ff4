"""Every figure of the report, drawn and saved, and what the page needs to know of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml
from matplotlib.image import imread
from tqdm import tqdm

from core.cores import cores
from core.options import InputError
from core.workers import in_processes
from evaluation.measures import HEADLINE
from reporting.alternatives import (
    curve_text,
    map_text,
    metric_text,
    rank_text,
    significance_text,
    similarity_text,
)
from reporting.compared import Compared
from reporting.curves import curve_figure
from reporting.figures import metric_figure, rank_figure, rank_rows
from reporting.findings import Field
from reporting.forest import forest_figure, forest_text
from reporting.maps import map_figure
from reporting.matrices import significance_figure, similarity_figure
from reporting.study import Study
from reporting.theme import DPI, save
from reporting.tracks import Tracks

SIZES = Path(__file__).resolve().parent / "model_sizes.yaml"
MANY = 60  # rows whose figures take longer than processes of their own to begin
POINTS = 110  # pixels of the page for an inch of a figure


def draw_all(
    study: Study, first: str, fields: list[Field], tracks: Tracks, compared: Compared, folder: Path
) -> dict[str, dict]:
    """Draw what the study has the data for.

    Args:
        first: the metric of the answer, of the forest and of ranks.
        fields: of the answer: the tests of that metric.
        compared: the embeddings, for maps and similarities.
        folder: where the files go.

    Returns:
        {name: {name, width, height, alt, files}} of the figures drawn; width and height in pixels
        of the page, for the wide image.
    """
    drawers = {"forest": (forest_figure(fields, first), partial(forest_text, fields, first))}
    for metric in figure_metrics(study):
        name = metric.split("@")[0].lower()
        drawers[f"metric-{name}"] = (
            metric_figure(study, metric),
            partial(metric_text, study, metric),
        )
        drawers[f"significance-{name}"] = (
            significance_figure(study, metric),
            partial(significance_text, study, metric),
        )
    ranks = rank_rows(study, first, model_sizes(list(study.embeddings)))
    drawers["ranks"] = rank_figure(ranks), partial(rank_text, ranks)
    drawers["curves"] = curve_figure(study), partial(curve_text, study)
    drawers |= _of_embeddings(list(study.embeddings), compared, tracks)
    drawers = {name: (draw, text) for name, (draw, text) in drawers.items() if draw is not None}
    processes = cores() if len(study.results) >= MANY else 1
    files = draw_images({name: draw for name, (draw, _) in drawers.items()}, folder, processes)
    drawn = {}
    for name, (_, text) in drawers.items():
        height, width = imread(folder / f"{name}.png").shape[:2]
        drawn[name] = {
            "name": name,
            "width": round(width / DPI * POINTS),
            "height": round(height / DPI * POINTS),
            "alt": text(),
            "files": files[name],
        }
    return drawn


def draw_images(
    drawers: dict[str, Callable], folder: Path, processes: int
) -> dict[str, list[Path]]:
    """Save every figure, by processes of their own if more than one; return its files, by name."""
    tasks = [
        (draw, name, folder, narrow) for name, draw in drawers.items() for narrow in (False, True)
    ]
    if processes > 1:
        saved = in_processes(save, tasks, processes)
    else:
        saved = enumerate(save(*task) for task in tasks)
    files: dict[str, dict] = {name: {} for name in drawers}
    bar = tqdm(saved, "figures", len(tasks), unit=" images", disable=None, leave=False)
    for place, paths in bar:
        _, name, _, narrow = tasks[place]
        files[name][narrow] = paths
    return {name: [*of[False], *of[True]] for name, of in files.items()}


def figure_metrics(study: Study) -> list[str]:
    """Return the metrics that are drawn, the headline's first."""
    wanted = [f"{name}@{study.k}" for name in HEADLINE]
    return [name for name in wanted if name in study.results]


def _of_embeddings(names: list[str], compared: Compared, tracks: Tracks) -> dict:
    """Return the drawers of maps and similarities."""
    drawers = {}
    if maps := compared.maps:
        drawers["maps"] = map_figure(maps, compared.rows, tracks), partial(map_text, maps)
    if matrices := compared.matrices:
        drawers["similarity"] = (
            similarity_figure(names, matrices),
            partial(similarity_text, names, matrices),
        )
    return drawers


def model_sizes(embeddings: list[str], path: Path = SIZES) -> dict[str, float]:
    """Return the parameters of the audio models by embedding, for those that the file knows.

    Raises:
        InputError: the file does not hold `name: number` lines.
    """
    known = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for name, size in known.items():
        if not isinstance(size, int | float) or size < 0:
            raise InputError(f"{path}: {name} must be a number of parameters, got {size!r}")
    sizes = {}
    for embedding in embeddings:
        fits = [name for name in known if f"{embedding}_".startswith(f"{name}_")]
        if fits:
            sizes[embedding] = float(known[max(fits, key=len)])
    return sizes
