"""Figures that are matrices: which differences are significant, and how alike embeddings are."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from core.names import row_label
from core.registry import label
from evaluation.comparisons import ALPHA
from evaluation.controls import is_control
from reporting.study import Study
from reporting.theme import Theme, colormap, contrast, panels

NUMBERS = 9  # rows up to which a cell has room for its number


def significance_figure(study: Study, metric: str):
    """Return the drawer of the matrices of pairwise tests; None when there is nothing to compare.

    A cell is the row's mean less the column's. It is coloured when the difference is significant
    and grey when the two cannot be told apart.
    """
    comparisons = study.tables.get("comparisons")
    if comparisons is None or not len(comparisons):
        return None
    pairs = comparisons[comparisons.metric == metric]
    kinds = [r for r in study.recommenders if r in set(pairs.recommender)]
    if not kinds:
        return None
    matrices = {kind: difference_matrix(pairs[pairs.recommender == kind]) for kind in kinds}
    return partial(_draw_significance, matrices, _controls(pairs))


def _draw_significance(matrices: dict, controls: set, theme: Theme, narrow: bool) -> Figure:
    size = max(len(names) for names, _, _ in matrices.values())
    height = min(3.1 if narrow else 2.3, 0.62 * size) + 1.1
    figure, axes = panels(len(matrices), narrow, height, width=3.0)
    for axis, (kind, (names, differences, p_values)) in zip(axes, matrices.items(), strict=True):
        real = p_values < ALPHA
        largest = np.nanmax(np.abs(differences)) or 1.0
        shade = np.where(real, np.sign(differences), 0) * (
            0.35 + 0.65 * np.abs(differences) / largest
        )
        text = np.vectorize(_signed)(differences)
        colors = _diverging(theme, np.nan_to_num(shade))
        colors[~real] = _rgba(theme.rule)
        colors[np.isnan(p_values)] = _rgba(theme.paper)
        _cells(axis, names, colors, text, real, theme, controls)
        axis.set_title(label(kind))
    return figure


def difference_matrix(pairs: pd.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return names, row less column (n, n), and corrected p (n, n); best mean first, controls last.

    Args:
        pairs: comparisons.csv of one recommender and metric.
    """
    means: dict[str, float] = {}
    cells = {}
    for pair in pairs.itertuples():
        a = row_label(pair.embedding_a, pair.tag_a)
        b = row_label(pair.embedding_b, pair.tag_b)
        means |= {a: pair.mean_a, b: pair.mean_b}
        cells[a, b] = pair.difference, pair.p_holm
        cells[b, a] = -pair.difference, pair.p_holm
    controls = _controls(pairs)
    names = sorted(means, key=lambda name: (name in controls, -means[name], name))
    nothing = np.nan, np.nan
    values = np.array([[cells.get((a, b), nothing) for b in names] for a in names])
    return names, values[..., 0], values[..., 1]


def _controls(pairs: pd.DataFrame) -> set[str]:
    columns = ((pairs[f"embedding_{side}"], pairs[f"tag_{side}"]) for side in "ab")
    keys = {key for column in columns for key in zip(*column, strict=True)}
    return {row_label(*key) for key in keys if is_control(key)}


def similarity_figure(names: list[str], matrices: dict[str, np.ndarray]):
    """Return the drawer of matrices of similarity from 0 to 1.

    Args:
        names: of the embeddings.
        matrices: {title: float (n, n)}.
    """
    return partial(_draw_similarity, names, matrices)


def _draw_similarity(names: list[str], matrices: dict, theme: Theme, narrow: bool) -> Figure:
    height = min(3.1 if narrow else 3.6, 0.6 * len(names)) + 1.1
    figure, axes = panels(len(matrices), narrow, height, columns=2, width=min(4.5, height + 0.3))
    for axis, (title, values) in zip(axes, matrices.items(), strict=True):
        colors = colormap(theme)(np.clip(values, 0, 1))
        text = np.vectorize(lambda v: f"{v:.2f}".removeprefix("0"))(values)
        controls = {name for name in names if is_control((name, ""))}
        _cells(axis, names, colors, text, np.eye(len(names)) == 0, theme, controls)
        axis.set_title(title)
    return figure


def _cells(axis, names: list[str], colors, text, bold, theme: Theme, controls: set) -> None:
    """Draw a matrix; names of controls are grey."""
    n = len(names)
    size = 8 if n <= 5 else max(5.0, 42 / n)
    edges = np.arange(n + 1) - 0.5
    mesh = axis.pcolormesh(edges, edges, np.zeros((n, n)), edgecolors=theme.paper, lw=1.5)
    mesh.set(array=None, facecolors=colors.reshape(-1, 4))
    for row, column in np.ndindex(n, n) if n <= NUMBERS else ():
        axis.text(
            column, row, text[row, column], ha="center", va="center", size=size,
            color=contrast(colors[row, column]), weight="bold" if bold[row, column] else "normal",
        )  # fmt: skip
    axis.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal")
    axis.set_xticks(range(n), names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(n), names)
    axis.tick_params(axis="x", labelcolor=theme.ink)
    for tick in (*axis.get_xticklabels(), *axis.get_yticklabels()):
        if tick.get_text() in controls:
            tick.set_color(theme.soft)
    axis.spines[:].set_visible(False)


def _signed(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:+.3f}".replace("0.", ".", 1).replace("-", "\N{MINUS SIGN}")


def _diverging(theme: Theme, values: np.ndarray) -> np.ndarray:
    """Return colours (n, n, 4) for values from -1 (orange, worse) over 0 to 1 (blue, better)."""
    better, worse, none = (_rgba(c) for c in (theme.cycle[0], theme.cycle[1], theme.rule))
    weight = np.abs(values)[..., None]
    return none + weight * (np.where(values[..., None] > 0, better, worse) - none)


def _rgba(color: str) -> np.ndarray:
    from matplotlib.colors import to_rgba

    return np.array(to_rgba(color))
