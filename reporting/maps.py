"""Maps: each embedding's tracks on its first two principal axes, coloured by what is known."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reporting.theme import MARKERS, Theme, panels
from reporting.tracks import Tracks


def map_figure(maps: dict[str, tuple[np.ndarray, np.ndarray]], rows: np.ndarray, tracks: Tracks):
    """Return the drawer of the maps, a panel an embedding.

    Colours are styles or genres where they are known of some tracks, else plays.

    Args:
        maps: {embedding: (points (n, 2), shares of variance (2,))}, of reporting.similarity.
        rows: int (n,) track_idx of the points.
    """
    return partial(_draw_maps, maps, tracks.kind[rows], tracks.plays[rows], tracks.kinds)


def _draw_maps(maps: dict, kind, plays, kinds: list[str], theme: Theme, narrow: bool) -> Figure:
    figure, axes = panels(len(maps), narrow, 3.9 if narrow else 3.2, width=3.0)
    for axis, (name, (points, shares)) in zip(axes, maps.items(), strict=True):
        size = float(np.clip(6000 / len(plays), 2.0, 14.0))
        if kinds:
            shown = _by_kind(axis, points, kind, kinds, size, theme)
        else:
            shown = _by_plays(axis, points, plays, size, theme)
        axis.set_title(name)
        axis.set_xlabel(f"{shares[0]:.0%} and {shares[1]:.0%} of the variance", size=7.5)
        axis.set(xticks=[], yticks=[], box_aspect=1)
        axis.spines[:].set_visible(True)
    if kinds:
        figure.legend(
            handles=_legend(kinds, theme), loc="outside lower center",
            ncols=min(len(kinds), 3 if narrow else 4 * min(len(maps), 2)),
            handletextpad=0.2, columnspacing=1.1,
        )  # fmt: skip
    else:
        bar = figure.colorbar(
            shown, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, pad=0.03
        )
        bar.set_label("plays in train (powers of ten)")
        bar.outline.set_visible(False)
    return figure


def _by_kind(axis, points, kind, kinds: list[str], size: float, theme: Theme):
    unknown = kind < 0
    if unknown.any():
        _dots(axis, points[unknown], theme.rule, "o", size)
    for at in range(len(kinds)):
        _dots(axis, points[kind == at], theme.cycle[at], MARKERS[at], size)


def _dots(axis, points, color, marker: str, size: float):
    return axis.scatter(
        points[:, 0], points[:, 1], s=size, c=color, marker=marker, linewidths=0, alpha=0.75,
        rasterized=True,
    )  # fmt: skip


def _by_plays(axis, points, plays, size: float, theme: Theme):
    order = np.argsort(plays, kind="stable")  # the most played on top
    colors = LinearSegmentedColormap.from_list("plays", [theme.rule, *theme.cycle[:2]])
    return axis.scatter(
        points[order, 0], points[order, 1], s=size, c=np.log10(plays[order] + 1), cmap=colors,
        linewidths=0, alpha=0.8, rasterized=True,
    )  # fmt: skip


def _legend(kinds: list[str], theme: Theme) -> list[Line2D]:
    return [
        Line2D([], [], ls="", marker=MARKERS[at], color=theme.cycle[at], label=name, ms=6)
        for at, name in enumerate(kinds)
    ]
