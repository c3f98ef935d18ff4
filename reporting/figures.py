"""Figures of the table and the logs: metrics with intervals, ranks, training curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.names import WITHOUT_FILE, is_shuffled, row_label, unshuffled
from core.registry import ALL, RECOMMENDERS, label, short_label
from reporting.study import Study
from reporting.theme import MARKERS, Theme, panels

CHANCE_DASHES = (0, (1, 1.5))

LINES = ("-", "--", ":")


def embedding_order(study: Study, metric: str) -> list[tuple[str, str]]:
    """Return (embedding, tag) of the rows, best mean over recommenders first, controls last."""
    models = study.models[~study.models.tag.map(is_shuffled)]
    means = models.groupby(["embedding", "tag"])[metric].mean()
    return sorted(means.index, key=lambda row: (row[0] in WITHOUT_FILE, -means[row], row))


def metric_figure(study: Study, metric: str):
    """Return the drawer of a metric: embeddings down, a panel a recommender, 95 % intervals."""
    order = embedding_order(study, metric)
    place = {row: at for at, row in enumerate(order)}
    names = [row_label(*row) for row in order]
    lines = study.lines(metric)
    longest = (study.models[metric] + study.models[f"{metric}_ci95"]).max()
    longest = max(longest, *lines.values(), 1e-9) * 1.18

    def draw(theme: Theme, narrow: bool) -> Figure:
        height = 0.9 + 0.3 * len(order)
        figure, axes = panels(len(study.recommenders), narrow, height, sharey=not narrow)
        for at, (axis, recommender) in enumerate(zip(axes, study.recommenders, strict=True)):
            rows = study.models[study.models.recommender == recommender]
            for row in rows.to_dict("records"):
                shuffled = is_shuffled(row["tag"])
                y = place.get((row["embedding"], unshuffled(row["tag"])))
                if y is None:
                    continue
                control = shuffled or row["embedding"] in WITHOUT_FILE
                color = theme.soft if control else theme.cycle[at % 8]
                axis.errorbar(
                    row[metric], y + 0.28 * shuffled, xerr=row[f"{metric}_ci95"], color=color,
                    fmt="x" if shuffled else MARKERS[at % 8], ms=5 if shuffled else 6,
                    mfc=theme.paper if control else color, elinewidth=1.6 - 0.7 * shuffled,
                )  # fmt: skip
                if not shuffled:
                    end = row[metric] + row[f"{metric}_ci95"]
                    axis.annotate(
                        _number(row[metric]), (end, y), (4, 0), textcoords="offset points",
                        va="center", size=8, color=theme.soft if control else theme.ink,
                        bbox={"fc": theme.paper, "ec": "none", "pad": 0.8},  # over a control's line
                    )  # fmt: skip
            _control_lines(axis, lines, theme)
            axis.set(title=label(recommender), xlim=(0, longest))
            axis.set_yticks(range(len(order)), names)
            axis.set_ylim(len(order) - 0.4, -0.75)
            axis.grid(axis="x")
            axis.set_xlabel(metric)
        return figure

    return draw


def _control_lines(axis, lines: dict[str, float], theme: Theme) -> None:
    drawn = {n: v for n, v in lines.items() if n == "chance" or ALL[n].dashes}
    for at, (name, value) in enumerate(sorted(drawn.items(), key=lambda item: item[1])):
        dashes = CHANCE_DASHES if name == "chance" else ALL[name].dashes
        axis.axvline(value, color=theme.soft, lw=1, ls=dashes, zorder=0)
        side = "right" if at == 0 and len(drawn) > 1 else "left"
        text = f" {short_label(name)} "
        axis.text(value, -0.5, text, ha=side, va="center", size=7, color=theme.soft)


def _number(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def rank_figure(study: Study, metric: str, sizes: dict[str, float]):
    """Return the drawer of ranks against width and size; None when no two embeddings compare.

    Args:
        sizes: parameters of the audio models by embedding; those not in it have no point.
    """
    rows = study.models[(study.models.tag == "") & ~study.models.embedding.isin(WITHOUT_FILE)]
    rows = rows.assign(rank=rows.groupby("recommender")[metric].rank(ascending=False))
    rows = rows.assign(size=rows.embedding.map(sizes))
    shown = {
        "width": ("Rank against width", "numbers a track"),
        "size": ("Rank against model size", "parameters of the audio model"),
    }
    shown = {column: texts for column, texts in shown.items() if rows[column].nunique() > 1}
    if not shown:
        return None

    def draw(theme: Theme, narrow: bool) -> Figure:
        height = 1.75 + 0.28 * rows.embedding.nunique()
        figure, axes = panels(len(shown), narrow, max(2.5, height), columns=2)
        for axis, (column, (title, text)) in zip(axes, shown.items(), strict=True):
            _rank_panel(axis, rows.dropna(subset=column), column, theme)
            axis.set_title(title, pad=46)
            axis.set_xlabel(text)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return figure

    return draw


def _rank_panel(axis, rows: pd.DataFrame, column: str, theme: Theme) -> None:
    kinds = [r for r in RECOMMENDERS if r in set(rows.recommender)]
    kinds += sorted(set(rows.recommender) - set(kinds))
    shift = np.linspace(-0.13, 0.13, len(kinds)) if len(kinds) > 1 else [0.0]
    smallest = rows[column][rows[column] > 0].min()
    # A logarithm has no place for a model without parameters: it stands a decade before the others.
    place = {v: np.log10(v) if v > 0 else np.log10(smallest) - 1 for v in rows[column].unique()}
    for at, recommender in enumerate(kinds):
        own = rows[rows.recommender == recommender]
        axis.plot(
            own[column].map(place), own["rank"] + shift[at], MARKERS[at], color=theme.cycle[at],
            label=label(recommender), ms=6.5,
        )  # fmt: skip
    low, high = min(place.values()), max(place.values())
    span = (high - low) or 1.0
    axis.set_xlim(low - 0.1 * span, high + 0.28 * span)
    axis.set_ylim(rows["rank"].max() + 0.45, 0.55)
    axis.set_yticks(range(1, int(rows["rank"].max()) + 1))
    axis.set_ylabel("rank, 1 is best")
    names = {value: ", ".join(own.unique()) for value, own in rows.groupby(column).embedding}
    labels = apart({name: place[value] for value, name in names.items()}, 0.07 * span)
    for value, name in names.items():
        axis.axvline(place[value], color=theme.rule, lw=0.8, zorder=0)
        axis.annotate(
            name, (place[value], 0.55), xytext=(labels[name], 1.04),
            textcoords=axis.get_xaxis_transform(), rotation=35, size=7.5, color=theme.ink,
            rotation_mode="anchor", annotation_clip=False,
        )  # fmt: skip
    at_values = apart({_short(value): place[value] for value in names}, 0)
    shown, last = [], -np.inf
    for text, value in at_values.items():
        if value - last > 0.09 * span:
            shown.append((value, text))
            last = value
    axis.set_xticks(*zip(*shown, strict=True))


def _short(value: float) -> str:
    """Return 200, 1.02k, 787k, 95M, 5G."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:g}"


def curve_figure(study: Study):
    """Return the drawer of training curves; None when no run has learned anything.

    Lines are validation losses, a run each; the dot is the epoch whose weights were used.
    """
    kinds = [r for r in study.recommenders if any(_curve(run, r) for run in study.runs)]
    if not kinds:
        return None
    names = sorted({_name(run) for run in study.runs for r in kinds if _curve(run, r)})
    style = {name: at for at, name in enumerate(names)}

    def draw(theme: Theme, narrow: bool) -> Figure:
        figure, axes = panels(len(kinds), narrow, 2.9, columns=2)
        for axis, kind in zip(axes, kinds, strict=True):
            runs = [run for run in study.runs if _curve(run, kind)]
            ends: dict[str, tuple[float, float]] = {}
            for run in runs:
                at = style[_name(run)]
                epochs = [record["epoch"] for record in run["log"]]
                losses = [record["val_loss"] for record in run["log"]]
                color = theme.cycle[at % len(theme.cycle)]
                axis.plot(epochs, losses, color=color, lw=1.5, ls=LINES[at // len(theme.cycle) % 3])
                best = run["log"][-1]["best_epoch"]
                if best in epochs:
                    axis.plot(best, losses[epochs.index(best)], "o", color=color, ms=5)
                ends[_name(run)] = epochs[-1], losses[-1]
            last = max(x for x, _ in ends.values())
            losses = [record["val_loss"] for run in runs for record in run["log"]]
            if max(losses) > 20 * min(losses) > 0:
                axis.set_yscale("log")
            place = axis.transData.transform  # labels keep apart on paper, whatever the scale
            heights = {n: place((x, y))[1] / figure.dpi * 72 for n, (x, y) in ends.items()}
            moved = apart(heights, 10)
            for name, (x, y) in ends.items():
                axis.annotate(
                    name, (x, y), (6, moved[name] - heights[name]), textcoords="offset points",
                    va="center", size=8, color=theme.cycle[style[name] % len(theme.cycle)],
                )  # fmt: skip
            ticks = [t for t in MaxNLocator(6, integer=True).tick_values(1, last) if 1 <= t <= last]
            axis.set_xticks(ticks)
            axis.set_xlim(0.5, last * 1.32)
            axis.set(title=label(kind), xlabel="epoch", ylabel="validation loss")
            axis.grid(axis="y")
        return figure

    return draw


def _curve(run: dict, recommender: str) -> bool:
    return run["recommender"] == recommender and len(run["log"]) > 0


def _name(run: dict) -> str:
    return row_label(run["embedding"], run["tag"] or "")


def apart(places: dict[str, float], gap: float) -> dict[str, float]:
    """Return the places of labels, moved up so that no two are nearer than the gap."""
    moved: dict[str, float] = {}
    previous = -np.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        previous = moved[name] = max(place, previous + gap)
    return moved
