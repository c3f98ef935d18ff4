"""How often a figure is drawn and laid out, which is what saving it costs."""

import matplotlib.figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reporting.theme import panels, save


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
    files = save(lambda theme, narrow: panels(2, narrow, 2.0)[0], "two", tmp_path)
    assert len(files) == 5 and all(path.stat().st_size for path in files)
    assert counts == {"execute": 4, "draw": 5}, "wide and narrow, light and dark; and a pdf of one"
