"""Network by training data: planted effects are found, user by user, and nothing else is."""

import numpy as np
import pytest

from evaluation.results import Row
from reporting import pages
from reporting.factors import CELLS, effects, factor_table

METRIC = "NDCG@10"


def rows(levels, tag="", n=200, recommender="knn"):
    """Rows of the four: a level of each user's own, and what the row adds."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.6, n)
    found = {}
    for name, level in zip(CELLS, levels, strict=True):
        values = (base + level + 0.02 * rng.normal(size=n))[:, None]
        found[recommender, name, tag] = Row(
            recommender, name, tag, np.arange(n), (METRIC,), values, values.mean(0)[None], [],
            values[None],
        )  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((0.1, 0.1, 0, 0), (0.1, 0, 0)),  # musicnn, musicnn_mtt, vgg_msd, vgg_mtt
        ((0.1, 0, 0.1, 0), (0, 0.1, 0)),
        ((0.1, 0, 0, 0.1), (0, 0, 0.1)),
        ((0, 0, 0, 0), (0, 0, 0)),
    ],
)
def test_planted_effects_are_found_and_no_others(levels, expected):
    ((group, found),) = effects(rows(levels), METRIC).items()
    assert group == ("knn", "")
    for effect, planted in zip(found, expected, strict=True):
        assert effect.low <= effect.difference <= effect.high
        assert effect.difference == pytest.approx(planted, abs=0.006)
        assert (effect.p < 0.05) == (planted > 0)


def test_only_who_ran_on_all_four_is_told_and_shuffled_rows_are_not():
    four = rows((0.1, 0.1, 0, 0))
    three = {key: row for key, row in rows((0, 0, 0, 0), recommender="shallow").items()}
    three.pop(("shallow", "vgg_msd", ""))
    shuffled = rows((0, 0, 0, 0), tag="shuffled")
    trained = rows((0, 0.1, 0, 0.1), tag="trained")
    table = factor_table({**four, **three, **shuffled, **trained}, METRIC)
    assert [line[0]["text"] for line in table["rows"]] == ["KNN", "KNN (trained)"]
    assert [line[5]["strong"] for line in table["rows"]] == [True, False]
    assert [line[6]["strong"] for line in table["rows"]] == [False, True]
    assert len(table["columns"]) == len(table["rows"][0]) == 8
    assert factor_table(three, METRIC) == {} == factor_table(four, "HitRate@50")


def test_the_page_shows_the_table_of_a_study_that_has_one():
    template = pages.environment().get_template("macros.html").module
    text = str(template.sortable(factor_table(rows((0.1, 0.1, 0, 0)), METRIC), "Network by data"))
    assert 'id="table-factors"' in text and "VGG, MagnaTagATune" in text
