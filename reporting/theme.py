"""How figures look, in light and dark, and how they are saved: colours, type, file variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from core.artifacts import atomic_path
from reporting.labels import one_layout, settled

WIDE, NARROW = 9.0, 3.9  # inches: of a desktop's column, and of a phone
DPI = 190  # sharp on screens of two pixels a point


@dataclass(frozen=True)
class Theme:
    """Colours of one appearance. `cycle` is Okabe and Ito's, told apart by the colour-blind."""

    name: str
    paper: str
    ink: str
    soft: str  # secondary text, controls
    rule: str
    cycle: tuple[str, ...]
    diverging: str  # colour map from less to more


LIGHT = Theme(
    "light", "#ffffff", "#1c2024", "#667078", "#e3e5e8",
    ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b88300", "#4ba3d8", "#6b4fa0", "#8a8f94"),
    "PuOr",
)  # fmt: skip
DARK = Theme(
    "dark", "#1b1f24", "#e9e7e2", "#98a2ac", "#343a41",
    ("#5cb6f0", "#f58b43", "#33c79b", "#e59cc6", "#e8b740", "#9fd3f5", "#ab94e0", "#a5abb1"),
    "PuOr",
)  # fmt: skip
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")


def settings(theme: Theme) -> dict:
    """Return matplotlib's settings under a theme."""
    return {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "text.color": theme.ink,
        "axes.labelcolor": theme.soft,
        "axes.edgecolor": theme.rule,
        "axes.facecolor": theme.paper,
        "axes.titlecolor": theme.ink,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "xtick.color": theme.soft,
        "ytick.color": theme.rule,
        "ytick.labelcolor": theme.ink,
        "grid.color": theme.rule,
        "grid.linewidth": 0.7,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "pdf.fonttype": 42,  # text stays text
        "svg.hashsalt": "report",
    }


def colormap(theme: Theme):
    """Return the theme's map for shares from 0 to 1: the paper's colour is none."""
    deep = theme.cycle[0]
    return matplotlib.colors.LinearSegmentedColormap.from_list("share", [theme.paper, deep])


def contrast(color) -> str:
    """Return black or white, whichever is read better on the colour (relative luminance)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    return "#14171a" if luminance > 0.179 else "#ffffff"


def panels(n: int, narrow: bool, height: float, *, columns: int = 3, width=None, **options):
    """Return a figure and its n axes: at most `columns` side by side, or one when narrow.

    Args:
        height, width: of a panel with its labels, in inches; by default panels fill WIDE.
        options: of Figure.subplots.
    """
    columns = 1 if narrow else min(n, columns)
    rows = -(-n // columns)
    across = NARROW if narrow else WIDE if width is None else columns * width
    figure = Figure(figsize=(across, rows * height), layout="constrained")
    FigureCanvasAgg(figure)  # measures texts for the layout
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for axis in axes[n:]:
        axis.set_visible(False)
    return figure, axes[:n]


def save(draw: Callable[[Theme, bool], Figure], name: str, folder: Path, narrow: bool) -> list:
    """Write NAME.pdf, NAME.png and NAME-dark.png, or when narrow NAME-narrow[-dark].png.

    Args:
        draw: (theme, narrow) -> the figure, WIDE inches across for paper and a desktop's column,
            NARROW for a phone.

    Returns:
        The files' paths.
    """
    files = []
    with one_layout():  # colours take no room
        for theme in (LIGHT, DARK):
            with matplotlib.rc_context(settings(theme)):
                figure = draw(theme, narrow)
                settled(figure)
                dark = "-dark" if theme is DARK else ""
                path = folder / f"{name}{'-narrow' if narrow else ''}{dark}.png"
                files.append(_write(figure, path, dpi=DPI))
                if theme is LIGHT and not narrow:
                    files.append(_write(figure, folder / f"{name}.pdf", dpi=300))
    return files


def _write(figure: Figure, path: Path, dpi: int) -> Path:
    kind = path.suffix[1:]
    # Without the date, so that the same numbers give the same bytes.
    metadata = {"pdf": {"CreationDate": None}, "png": {"Software": None}}[kind]
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata)
    return path
