"""results.tex stands on its own: the caption says what its marks mean, and there is a label."""

import pandas as pd

from evaluation.grids import tex

KEYS = {"recommender": "knn", "embedding": "toy", "tag": ""}


def test_a_caption_explains_the_marks_that_stand_in_the_table_and_carries_a_label():
    numbers = {"width": 8, "seeds": 1, "users": 9, "HitRate@50": 0.5, "HitRate@50_ci95": 0.1}
    known = {**KEYS, "metric": "HitRate@50"}
    tables = {
        "results": pd.DataFrame([{**KEYS, **numbers}]),
        "groups": pd.DataFrame([{**known, "letters": "ab"}]),
        "shuffled": pd.DataFrame([{**known, "beats_shuffled": False}]),
        "chance": pd.DataFrame({"metric": [], "chance": []}),
    }
    text = tex(tables, ["HitRate@50"], "on nothing.")
    for part in (r"\textbf{Bold}", r"\underline{underlined}", "raised letter", r"$\dagger$"):
        assert part in text
    assert r"\label{tab:hitrate-50}" in text
    plain = tex({**tables, "shuffled": tables["shuffled"][:0]}, ["HitRate@50"], "on nothing.")
    assert r"$\dagger$" not in plain
