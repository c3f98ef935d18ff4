"""The forest of paired differences: each representation less its controls, by recommender."""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reporting.findings import HELPS, HELPS_NOT, SHUFFLED, Field, listed, number
from reporting.theme import MARKERS, Theme, panels

SPREAD = 0.36  # of a row's height, which its tests share


def forest_figure(fields: list[Field], metric: str):
    """Return the drawer of the forest; None when no representation was tested against a control.

    A filled mark is a significant difference (p < .05, Holm-corrected), a hollow one is not; the
    bar is the 95 % bootstrap interval of the paired difference.
    """
    fields = [each for each in fields if any(each.against(row) for row in each.rows)]
    if not fields:
        return None
    means: dict[str, list[float]] = {}
    for each in fields:
        for row, mean in each.rows.items():
            means.setdefault(row, []).append(mean)
    order = sorted(means, key=lambda row: (-sum(means[row]) / len(means[row]), row))
    kinds = list(dict.fromkeys(n for each in fields for r in each.rows for n in each.against(r)))
    return partial(_draw_forest, fields, metric, order, kinds)


def _draw_forest(
    fields: list[Field], metric: str, order: list[str], kinds: list[str], theme: Theme, narrow: bool
) -> Figure:
    across = 1 if narrow else 3
    legend = 0.21 * -(-(len(kinds) + 3) // across) / -(-len(fields) // across)
    height = 0.95 + (0.2 + 0.13 * len(kinds)) * len(order) + legend
    figure, axes = panels(len(fields), narrow, height)
    for axis, each in zip(axes, fields, strict=True):
        axis.axvline(0, color=theme.ink, lw=1, gid="zero")
        for y, row in enumerate(order):
            tests = each.against(row) if row in each.rows else {}
            for control, pair in tests.items():
                at = kinds.index(control)
                shift = SPREAD * (at / max(len(kinds) - 1, 1) - 0.5) if len(kinds) > 1 else 0
                color = {1: theme.cycle[0], -1: theme.cycle[1], 0: theme.soft}[pair.sign]
                axis.plot((pair.low, pair.high), (y + shift, y + shift), color=color, lw=1.6)
                axis.plot(
                    pair.difference, y + shift, MARKERS[at % len(MARKERS)], color=color,
                    ms=6, mew=1.3, mfc=color if pair.sign else theme.paper,
                    gid=f"{row}|{control}",
                )  # fmt: skip
            if not tests:
                told = "not tested" if row in each.rows else "not run"
                axis.annotate(
                    told, (0, y), (4, 0), textcoords="offset points", va="center", size=7.5,
                    color=theme.soft,
                )  # fmt: skip
        axis.set(title=each.label, ylim=(len(order) - 0.5, -0.5))
        axis.set_yticks(range(len(order)), order)
        axis.grid(axis="x")
        axis.set_xlabel(f"difference in {metric}")
        axis.margins(x=0.06)
    figure.legend(
        handles=_legend(kinds, theme), loc="outside lower center", ncols=across,
    )  # fmt: skip
    return figure


def forest_text(fields: list[Field], metric: str) -> str:
    """Return what the forest shows, verdict by verdict, for those who do not see it."""
    parts = []
    for each in fields:
        if not any(each.against(row) for row in each.rows):
            continue
        told = []
        for row in each.best_first():
            tests = [
                f"{number(pair.difference)} to {control}, "
                f"interval {number(pair.low)} to {number(pair.high)}"
                for control, pair in each.against(row).items()
            ]
            verdict = each.verdict(row)
            verdict = verdict if verdict in (HELPS, HELPS_NOT) else "cannot be said to help"
            told.append(f"{row} {verdict}: {listed(tests)}" if tests else f"{row} was not tested")
        if told:
            parts.append(f"{each.label}: {'; '.join(told)}.")
    return f"Paired differences in {metric} from the controls. " + " ".join(parts)


def _legend(kinds: list[str], theme: Theme) -> list[Line2D]:
    handles = [
        Line2D([], [], ls="", marker=MARKERS[at % len(MARKERS)], color=theme.soft,
               mfc=theme.paper, ms=6,
               label=f"less {name}" if name != SHUFFLED else "less the same vectors shuffled")
        for at, name in enumerate(kinds)
    ]  # fmt: skip
    for color, text in (
        (theme.cycle[0], "significantly above the control"),
        (theme.cycle[1], "significantly below it"),
    ):
        handles.append(Line2D([], [], color=color, marker="o", ms=6, label=text))
    handles.append(
        Line2D([], [], color=theme.soft, marker="o", mfc=theme.paper, ms=6, label="not told apart")
    )
    return handles
