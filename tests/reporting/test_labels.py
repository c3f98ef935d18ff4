"""Every label of every figure lies nearest its own mark, whole and clear of the others.

Measured on the drawn figure: for a study of the sample's shape, and for one of 10 backbones (some
of one width and of almost one result) x 5 recommenders x 3 seeds with its controls.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reporting.curves import curve_figure
from reporting.figures import metric_figure, rank_figure, rank_rows
from reporting.study import Study
from reporting.theme import LIGHT, settings

BACKBONES = ("mfcc", "musicnn", "mert", "music2vec", "jukemir", "encodecmae", "musicfm", "mule",
             "muq", "muq_mulan")  # fmt: skip
WIDTHS = (104, 200, 768, 768, 1024, 1024, 1024, 512, 1728, 4800)
METRIC = "HitRate@50"


def made_up(recommenders, backbones, seeds) -> Study:
    """Return a study in memory; means and losses are so near that labels have to move."""
    rng = np.random.default_rng(3)
    rows, runs = [], []
    kinds = [*((name, "") for name in backbones), *((name, "shuffled") for name in backbones)]
    kinds += [("noise", ""), *((name, "trained") for name in backbones[:2])]
    for recommender in recommenders:
        for embedding, tag in kinds:
            width = dict(zip(BACKBONES, WIDTHS, strict=True)).get(embedding, 128)
            mean = 0.3 + 0.002 * rng.normal() - 0.2 * (tag == "shuffled")
            row = {"recommender": recommender, "embedding": embedding, "tag": tag, "width": width}
            rows.append({**row, "seeds": seeds, METRIC: mean, f"{METRIC}_ci95": 0.02})
            for seed in range(1, seeds + 1):
                losses = 0.1 + 0.3 / np.arange(1, 21) + 0.001 * rng.normal(size=20)
                log = [
                    {"epoch": epoch + 1, "val_loss": loss, "best_epoch": 18}
                    for epoch, loss in enumerate(losses)
                ]
                known = {**row, "seed": seed, "log": [] if recommender == "knn" else log}
                runs.append({**known, "test": {METRIC: {"mean": mean + 0.01 * rng.normal()}}})
    results = pd.DataFrame(rows)
    lines = {"recommender": ["popular", "ease"], METRIC: [0.11, 0.305], "tag": ""}
    lines["embedding"] = "none"
    results = pd.concat([results, pd.DataFrame({**lines, f"{METRIC}_ci95": 0.02})])
    return Study(Path(), {"results": results}, runs, {}, {}, False)


STUDIES = {
    "sample": (("knn", "shallow", "bert4rec"), BACKBONES[:2], 1),
    "made up": (("knn", "shallow", "bert4rec", "gru4rec", "als"), BACKBONES, 3),
}
SIZES = {name: 10.0 ** (6 + at % 3) for at, name in enumerate(BACKBONES)}


@pytest.fixture(scope="module", params=STUDIES, ids=list(STUDIES))
def study(request):
    return made_up(*STUDIES[request.param])


def boxes(figure, kind):
    """Return [name, extent in pixels] of the artists whose gid is KIND|NAME."""
    renderer = figure.canvas.get_renderer()
    found = []
    for artist in figure.findobj(lambda each: str(each.get_gid() or "").startswith(f"{kind}|")):
        if kind == "label":
            found.append((artist.get_gid()[6:], artist.get_window_extent(renderer)))
        else:
            xy = artist.get_transform().transform(artist.get_xydata())
            at = np.linspace(0, len(xy) - 1, 60)
            path = np.stack([np.interp(at, np.arange(len(xy)), xy[:, i]) for i in (0, 1)], axis=1)
            found.append((artist.get_gid()[5:], path))
    return found


def distance(box, path) -> float:
    across = np.maximum(0, np.maximum(box.x0 - path[:, 0], path[:, 0] - box.x1))
    up = np.maximum(0, np.maximum(box.y0 - path[:, 1], path[:, 1] - box.y1))
    return float(np.hypot(across, up).min())


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", ["metric", "ranks", "curves"])
def test_every_label_is_nearest_its_own_mark(study, name, narrow):
    draw = {
        "metric": lambda: metric_figure(study, METRIC),
        "ranks": lambda: rank_figure(rank_rows(study, METRIC, SIZES)),
        "curves": lambda: curve_figure(study),
    }[name]()
    with rc_context(settings(LIGHT)):
        figure = draw(LIGHT, narrow)
        FigureCanvasAgg(figure).draw()
        labels, marks = boxes(figure, "label"), boxes(figure, "mark")
        width, height = figure.bbox.width, figure.bbox.height
    assert len(labels) == len(marks) > 3
    for text, box in labels:
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, text
        nearest = min(marks, key=lambda mark: distance(box, mark[1]))
        assert nearest[0] == text
    for at, (one, box) in enumerate(labels):
        for other, second in labels[at + 1 :]:
            across = min(box.x1, second.x1) - max(box.x0, second.x0)
            up = min(box.y1, second.y1) - max(box.y0, second.y0)
            assert min(across, up) < 2.5, (one, other)  # a box is higher than its letters
