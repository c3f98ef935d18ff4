"""Labels beside marks: placed after the layout is settled, apart, and in the order of the marks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import isotonic_regression

_places: ContextVar[list | None] = ContextVar("places", default=None)  # of one_layout's axes


def apart(
    places: dict[str, float], gap: float, low: float = -np.inf, high: float = np.inf
) -> dict[str, float]:
    """Return the places of labels, moved as little as can be so that no two are nearer than gap.

    The squares of the moves are least, the order is kept, and all stand between low and high where
    there is room for them.
    """
    names = sorted(places, key=lambda name: (places[name], name))
    steps = gap * np.arange(len(names))
    wanted = np.array([places[name] for name in names], dtype=float)
    moved = isotonic_regression(wanted - steps).x if names else wanted
    last = steps[-1] if names else 0.0
    if np.isfinite(low):
        moved = np.clip(moved, low, max(low, high - last))
    return dict(zip(names, (moved + steps).tolist(), strict=True))


@contextmanager
def one_layout() -> Iterator[None]:
    """Within it every figure is laid out as the first that is settled: of the same parts, in other
    colours. Texts are measured once for all of them."""
    before = _places.set([])
    try:
        yield
    finally:
        _places.reset(before)


def settled(figure: Figure) -> None:
    """Lay the figure out and keep it so: what is placed by pixels afterwards stays where it is.

    Of a figure that is settled nothing is done. One that is not is laid out whenever it is saved,
    and drawn twice for it.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        return
    known = _places.get()
    if known:
        for axis, place in zip(figure.axes, known, strict=True):
            axis.set_position(place, which="original")
            axis.apply_aspect()
            axis.autoscale_view()  # which measuring texts would have done
    else:
        engine.execute(figure)
        if known is not None:
            known += [axis.get_position(original=True) for axis in figure.axes]
    figure.set_layout_engine(None)  # "none" leaves a stand-in, for which it is drawn twice


def lead_line(figure: Figure, path, **style) -> None:
    """Draw the line from a mark to its label on a settled figure.

    Args:
        path: (x, y) of its corners, in points from the figure's lower left.
    """
    across, up = np.array(path).T / 72
    place = figure.dpi_scale_trans  # inches, so that a print of another resolution is the same
    figure.add_artist(Line2D(across, up, transform=place, lw=0.7, **style))
