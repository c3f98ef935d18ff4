"""The figure of the logs: validation losses of every run that learned, by epoch."""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.names import row_label
from core.registry import label
from evaluation.controls import is_control
from reporting.figures import COLOURS
from reporting.labels import apart, lead_line, settled
from reporting.study import Study
from reporting.theme import Theme, panels

LINES = ("-", "--", ":", "-.")
GAP = 9.5  # points between the middles of two labels


def curve_figure(study: Study):
    """Return the drawer of training curves; None when no run has learned anything.

    Lines are validation losses, a run each; the dot is the epoch whose weights were used. A row has
    one label, at the end of its longest run; controls are grey.
    """
    needed = ("embedding", "tag", "log")
    runs_of = {
        kind: [{key: run[key] for key in needed} for run in study.runs if _curve(run, kind)]
        for kind in study.recommenders
    }
    runs_of = {kind: runs for kind, runs in runs_of.items() if runs}
    return partial(_draw_curves, runs_of) if runs_of else None


def _draw_curves(runs_of: dict[str, list[dict]], theme: Theme, narrow: bool) -> Figure:
    rows = sorted({_row(run) for runs in runs_of.values() for run in runs})
    compared = [row for row in rows if not is_control(row)]
    controls = [row for row in rows if is_control(row)]
    most = max(len({_row(run) for run in runs}) for runs in runs_of.values())
    height = max(2.9, 0.9 + most * (GAP + 0.5) / 72)
    figure, axes = panels(len(runs_of), narrow, height, columns=2)
    ends = []
    for axis, (kind, runs) in zip(axes, runs_of.items(), strict=True):
        found: dict[tuple, tuple[float, float]] = {}
        for run in runs:
            row = _row(run)
            color, style = _style(row, compared, controls, theme)
            epochs = [record["epoch"] for record in run["log"]]
            losses = [record["val_loss"] for record in run["log"]]
            axis.plot(epochs, losses, color=color, lw=1.4, ls=style)
            best = run["log"][-1]["best_epoch"]
            if best in epochs:
                axis.plot(best, losses[epochs.index(best)], "o", color=color, ms=4)
            if row not in found or epochs[-1] > found[row][0]:
                found[row] = epochs[-1], losses[-1]
        last = max(x for x, _ in found.values())
        losses = [record["val_loss"] for run in runs for record in run["log"]]
        if max(losses) > 20 * min(losses) > 0:
            axis.set_yscale("log")
        ticks = [t for t in MaxNLocator(6, integer=True).tick_values(1, last) if 1 <= t <= last]
        axis.set_xticks(ticks)
        axis.set_xlim(0.5, last + 0.5)
        axis.set(title=label(kind), xlabel="epoch", ylabel="validation loss")
        axis.grid(axis="y")
        texts = {}
        for row, end in found.items():
            color, _ = _style(row, compared, controls, theme)
            texts[row] = end, axis.annotate(
                f"{row_label(*row)} ", (1, 0.5), (20, 0), xycoords="axes fraction", va="center",
                textcoords="offset points", size=7.5, color=color, annotation_clip=False,
                gid=f"label|{row_label(*row)}",
            )  # fmt: skip
        ends.append(texts)
    settled(figure)
    for axis, texts in zip(axes, ends, strict=True):
        _lead_right(axis, texts)
    return figure


def _lead_right(axis, texts: dict) -> None:
    """Put each label beside the axis as near to its curve's end as others leave room, and lead."""
    points = 72 / axis.figure.dpi
    box = axis.get_window_extent()
    ends = {row: axis.transData.transform(end) * points for row, (end, _) in texts.items()}
    names = {row: f"{at:04}" for at, row in enumerate(texts)}
    wanted = {names[row]: end[1] for row, end in ends.items()}
    moved = apart(wanted, GAP, box.y0 * points, box.y1 * points)
    right, middle = box.x1 * points, (box.y0 + box.y1) / 2 * points
    for row, (_, text) in texts.items():
        height = moved[names[row]]
        text.set_position((20, height - middle))
        path = ends[row], (right + 10, height), (right + 18, height)
        lead_line(axis.figure, path, color=text.get_color(), gid=f"mark|{row_label(*row)}")


def _style(row: tuple, compared: list, controls: list, theme: Theme) -> tuple[str, str]:
    if row in controls:
        return theme.soft, LINES[controls.index(row) % len(LINES)]
    at = compared.index(row)
    return theme.cycle[at % COLOURS], LINES[at // COLOURS % len(LINES)]


def _curve(run: dict, recommender: str) -> bool:
    return run["recommender"] == recommender and has_losses(run)


def has_losses(run: dict) -> bool:
    """Say whether a run has a validation loss of each epoch; some are chosen without one."""
    return len(run["log"]) > 0 and all("val_loss" in record for record in run["log"])


def _row(run: dict) -> tuple[str, str]:
    return run["embedding"], run["tag"] or ""
