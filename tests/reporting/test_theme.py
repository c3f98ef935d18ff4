"""How often a figure is drawn and laid out, which is what saving it costs."""

import matplotlib.figure
import numpy as np
from matplotlib import rc_context
from matplotlib.image import imread
from matplotlib.layout_engine import ConstrainedLayoutEngine
from test_labels import BACKBONES, METRIC, made_up

from reporting import drawing
from reporting.curves import curve_figure
from reporting.figures import metric_figure
from reporting.labels import settled
from reporting.theme import DARK, DPI, panels, save, settings


def test_a_figure_is_laid_out_once_and_drawn_once_for_each_of_its_files(tmp_path, monkeypatch):
    counts = {}

    def counted(kind, name):
        plain = getattr(kind, name)

        def call(*args, **more):
            counts[name] = counts.get(name, 0) + 1
            return plain(*args, **more)

        monkeypatch.setattr(kind, name, call)

    counted(matplotlib.figure.Figure, "draw")
    counted(ConstrainedLayoutEngine, "execute")
    files = []
    for narrow in (False, True):
        files += save(lambda theme, narrow: panels(2, narrow, 2.0)[0], "two", tmp_path, narrow)
    assert len(files) == 5 and all(path.stat().st_size for path in files)
    assert counts == {"execute": 2, "draw": 5}, "wide and narrow, light and dark; and a pdf of one"


def test_a_figure_in_dark_lies_as_if_it_were_drawn_alone(tmp_path):
    study = made_up(("knn", "shallow", "bert4rec"), BACKBONES, 1)
    draw = curve_figure(study)
    save(draw, "curves", tmp_path, narrow=False)
    with rc_context(settings(DARK)):
        figure = draw(DARK, False)
        figure.savefig(tmp_path / "alone.png", dpi=DPI, metadata={"Software": None})
    both, alone = (imread(tmp_path / f"{name}.png") for name in ("curves-dark", "alone"))
    assert both.std() > 0 and np.array_equal(both, alone)


def test_what_is_placed_after_the_layout_finds_the_same_limits_in_light_and_dark(tmp_path):
    seen = []

    def draw(theme, narrow):
        figure, (axis,) = panels(1, narrow, 2.0)
        axis.plot([0, 50], [0, 700])
        settled(figure)
        seen.append(axis.transData.transform((50, 700)).tolist())
        return figure

    save(draw, "line", tmp_path, narrow=False)
    assert len(seen) == 2 and seen[0] == seen[1]


def test_figures_drawn_by_other_processes_are_the_same_files(tmp_path):
    study = made_up(("knn", "bert4rec"), BACKBONES[:3], 2)
    drawers = {"metric": metric_figure(study, METRIC), "curves": curve_figure(study)}
    one = drawing.draw_images(drawers, tmp_path / "one", processes=1)
    two = drawing.draw_images(drawers, tmp_path / "two", processes=2)
    for name, files in one.items():
        assert [path.name for path in files] == [path.name for path in two[name]]
        assert len(files) == 5
        for path, other in zip(files, two[name], strict=True):
            assert path.read_bytes() == other.read_bytes()
