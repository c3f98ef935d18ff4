"""Figures of the table: metrics with intervals, ranks against width and size."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from core.names import row_label
from core.registry import ALL, RECOMMENDERS, label, short_label
from evaluation.controls import is_control
from reporting.labels import apart, lead_line, settled
from reporting.study import Study
from reporting.theme import MARKERS, Theme, panels

CHANCE_DASHES = (0, (1, 1.5))
COLOURS = 7  # of a theme's cycle: the eighth is grey, as controls are


def row_order(models: pd.DataFrame, metric: str) -> list[tuple[str, str]]:
    """Return (embedding, tag) of the rows, best mean over recommenders first, controls last."""
    means = models.groupby(["embedding", "tag"])[metric].mean()
    return sorted(means.index, key=lambda row: (is_control(row), -means[row], row))


def metric_figure(study: Study, metric: str):
    """Return the drawer of a metric: rows down, controls below a rule, a panel a recommender.

    Dots are means and bars 95 % intervals over users; with several seeds a tick is a seed's mean.
    """
    models = study.models[study.models[metric].notna()]
    if not len(models):
        return None
    kept = models[["recommender", "embedding", "tag", metric, f"{metric}_ci95"]]
    return partial(_draw_metric, metric, kept, _seed_means(study, metric), study.lines(metric))


def _draw_metric(
    metric: str,
    models: pd.DataFrame,
    seeds: dict[tuple, list[float]],
    lines: dict[str, float],
    theme: Theme,
    narrow: bool,
) -> Figure:
    order = row_order(models, metric)
    own = sum(not is_control(row) for row in order)
    place = {row: at + 0.5 * is_control(row) for at, row in enumerate(order)}
    recommenders = list(dict.fromkeys(models.recommender))
    longest = (models[metric] + models[f"{metric}_ci95"]).max()
    longest = max(longest, *lines.values(), 1e-9) * 1.2
    height = 0.95 + 0.25 * (len(order) + 0.5)
    figure, axes = panels(len(recommenders), narrow, height, sharey=not narrow)
    for at, (axis, recommender) in enumerate(zip(axes, recommenders, strict=True)):
        rows = models[models.recommender == recommender].to_dict("records")
        marks = {False: ([], []), True: ([], [])}  # dots, of controls or not: drawn together
        ticks = {False: ([], []), True: ([], [])}
        for row in rows:
            key = row["embedding"], row["tag"]
            y, name, control = place[key], row_label(*key), is_control(key)
            color = theme.soft if control else theme.cycle[at % COLOURS]
            half = row[f"{metric}_ci95"]
            axis.plot(
                (max(row[metric] - half, 0), row[metric] + half), (y, y), color=color, lw=1.6,
                gid=f"mark|{name}",
            )  # fmt: skip
            _append(marks[control], [row[metric]], y)
            own_seeds = seeds.get((recommender, *key), [])
            if len(own_seeds) > 1:
                _append(ticks[control], own_seeds, y + 0.3)
            axis.annotate(
                _number(row[metric]), (row[metric] + half, y), (4, 0), va="center", size=8,
                textcoords="offset points", color=theme.soft if control else theme.ink,
                bbox={"fc": theme.paper, "ec": "none", "pad": 0.8}, gid=f"label|{name}",
            )  # fmt: skip
        for control, color in ((False, theme.cycle[at % COLOURS]), (True, theme.soft)):
            inside = theme.paper if control else color
            axis.plot(*marks[control], MARKERS[at % 8], color=color, ms=6, mfc=inside)
            axis.plot(*ticks[control], "|", color=color, ms=5, mew=1)
        for name, value in lines.items():
            if dashes := _dashes(name):
                axis.axvline(value, color=theme.soft, lw=1, ls=dashes, zorder=0)
        if own < len(order):
            axis.axhline(own - 0.25, color=theme.rule, lw=1)
        axis.set(title=label(recommender), xlim=(0, longest))
        axis.set_yticks([place[row] for row in order], [row_label(*row) for row in order])
        axis.set_ylim(len(order) + 0.1, -0.6)
        axis.grid(axis="x")
        axis.set_xlabel(metric)
        for text, row in zip(axis.get_yticklabels(), order, strict=False):  # inner ones share
            text.set_color(theme.soft if is_control(row) else theme.ink)
    handles = [
        Line2D([], [], color=theme.soft, lw=1, ls=_dashes(name), label=short_label(name))
        for name in lines
        if _dashes(name)
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2 if narrow else 5)
    return figure


def _append(points: tuple[list, list], across: list[float], y: float) -> None:
    points[0].extend(across)
    points[1].extend([y] * len(across))


def _seed_means(study: Study, metric: str) -> dict[tuple, list[float]]:
    """Return the means of every seed's run by (recommender, embedding, tag)."""
    found: dict[tuple, list[float]] = {}
    for run in study.runs:
        if metric in run["test"]:
            key = run["recommender"], run["embedding"], run["tag"] or ""
            found.setdefault(key, []).append(run["test"][metric]["mean"])
    return found


def _dashes(name: str):
    return CHANCE_DASHES if name == "chance" else ALL[name].dashes


def _number(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def rank_rows(study: Study, metric: str, sizes: dict[str, float]) -> pd.DataFrame:
    """Return the rows without a tag, controls left out, with `rank` (1 is best) and `size`.

    Ties share a rank; a row without the metric has none and is left out.

    Args:
        sizes: parameters of the audio models by embedding; those not in it have no size.
    """
    rows = study.models[(study.models.tag == "") & study.models[metric].notna()]
    rows = rows[np.array([not is_control((name, "")) for name in rows.embedding], bool)]
    ranks = rows.groupby("recommender")[metric].rank(ascending=False, method="min")
    width = rows.width.where(rows.width > 0)  # 0 where no run tells it
    return rows.assign(rank=ranks, size=rows.embedding.map(sizes), width=width)


def rank_figure(rows: pd.DataFrame):
    """Return the drawer of ranks against width and size; None when no two embeddings compare.

    Args:
        rows: of rank_rows.
    """
    shown = {
        "width": ("Rank against width", "numbers a track"),
        "size": ("Rank against model size", "parameters of the audio model"),
    }
    shown = {column: texts for column, texts in shown.items() if rows[column].nunique() > 1}
    if not shown:
        return None
    return partial(_draw_ranks, rows, shown)


def _draw_ranks(rows: pd.DataFrame, shown: dict, theme: Theme, narrow: bool) -> Figure:
    n, kinds = rows.embedding.nunique(), rows.recommender.nunique()
    longest = max(map(len, rows.embedding))
    of_rank = max(0.28, 0.08 + 0.075 * kinds)  # marks of one rank do not cover each other
    height = max(2.5, 1.3 + 0.075 * longest + of_rank * n)
    figure, axes = panels(len(shown), narrow, height, columns=2)
    drawn = []
    for axis, (column, (title, text)) in zip(axes, shown.items(), strict=True):
        drawn.append(_rank_panel(axis, rows.dropna(subset=column), column, theme))
        axis.set_title(title, pad=24 + 5.4 * longest)
        axis.set_xlabel(text)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 2 if narrow else 4)
    )
    settled(figure)
    for axis, texts in zip(axes, drawn, strict=True):
        _lead_down(axis, texts, theme)
    return figure


def _rank_panel(axis, rows: pd.DataFrame, column: str, theme: Theme) -> dict:
    """Draw the points; return {embedding: (its place, its label)}."""
    kinds = [r for r in RECOMMENDERS if r in set(rows.recommender)]
    kinds += sorted(set(rows.recommender) - set(kinds))
    shift = np.linspace(-0.34, 0.34, len(kinds)) if len(kinds) > 1 else [0.0]
    smallest = rows[column][rows[column] > 0].min()
    # A logarithm has no place for a model without parameters: it stands a decade before the others.
    values = {v: np.log10(v) if v > 0 else np.log10(smallest) - 1 for v in rows[column].unique()}
    low, high = min(values.values()), max(values.values())
    span = (high - low) or 1.0
    place = {}
    for value, own in rows.groupby(column):  # embeddings of one width stand side by side
        names = sorted(own.embedding.unique())
        for at, name in enumerate(names):
            place[name] = values[value] + 0.028 * span * (at - (len(names) - 1) / 2)
    for name in place.values():
        axis.axvline(name, color=theme.rule, lw=0.8, zorder=0)
    for at, recommender in enumerate(kinds):
        own = rows[rows.recommender == recommender]
        axis.plot(
            own.embedding.map(place), own["rank"] + shift[at], MARKERS[at % 8],
            color=theme.cycle[at % COLOURS], label=label(recommender), ms=5.5,
        )  # fmt: skip
    axis.set_xlim(low - 0.14 * span, high + 0.14 * span)
    axis.set_ylim(rows["rank"].max() + 0.5, 0.5)
    axis.set_yticks(range(1, int(rows["rank"].max()) + 1))
    axis.set_ylabel("rank, 1 is best")
    shown, last = [], -np.inf
    for value in sorted(values):
        if values[value] - last > 0.11 * span:
            shown.append((values[value], _short(value)))
            last = values[value]
    axis.set_xticks(*zip(*shown, strict=True))
    return {
        name: (x, axis.annotate(
            name, (x, 1), (0, 18), xycoords=axis.get_xaxis_transform(), ha="center", va="bottom",
            textcoords="offset points", rotation=90, size=7.5, color=theme.ink,
            annotation_clip=False, gid=f"label|{name}",
        ))
        for name, x in place.items()
    }  # fmt: skip


def _lead_down(axis, texts: dict, theme: Theme) -> None:
    """Move the labels apart, each with a line down to its own place on the axis."""
    points = 72 / axis.figure.dpi
    box = axis.get_window_extent()
    wanted = {
        name: axis.transData.transform((x, 0.5))[0] * points for name, (x, _) in texts.items()
    }
    moved = apart(wanted, 10.5, box.x0 * points, box.x1 * points)
    top = box.y1 * points
    for name, (_, text) in texts.items():
        text.set_position((moved[name] - wanted[name], 18))
        path = ((wanted[name], top), (moved[name], top + 12), (moved[name], top + 16))
        lead_line(axis.figure, path, color=theme.soft, gid=f"mark|{name}")


def _short(value: float) -> str:
    """Return 200, 1.02k, 787k, 95M, 5G."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:g}"
