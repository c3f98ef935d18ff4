"""What the report says in words: each sentence from made-up tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from core.artifacts import write_json
from reporting.in_words import in_words
from reporting.study import Study

METRIC = "NDCG@50"


class Made(Study):
    """A study whose vectors are made up: toy and other are rotations of each other."""

    def vectors(self, name, rows):
        vectors = np.random.default_rng(0).normal(size=(40, 3))
        turned = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
        return (vectors @ turned if name == "other" else vectors)[rows]


def row(recommender, embedding, tag="", mean=0.1):
    return {"recommender": recommender, "embedding": embedding, "tag": tag, METRIC: mean}


def pair(a, b, difference, p, recommender="knn"):
    return {
        **{"recommender": recommender, "metric": METRIC, "embedding_a": a, "embedding_b": b},
        **{"tag_a": "", "tag_b": "", "difference": difference, "p_holm": p, "unit": "users"},
        **{"ci_low": difference - 0.02, "ci_high": difference + 0.02, "detectable": 0.015},
        **{"seeds_a": 1, "seeds_b": 1},
    }


def run(tag=None, scale="standardize"):
    return {"options": {"scale": scale}, "tag": tag}


@pytest.fixture
def study(tmp_path):
    results = pd.DataFrame(
        [row("knn", "toy", mean=0.3), row("knn", "other"), row("knn", "toy", "published", 0.5)]
        + [row("ease", "none", mean=0.2)]
    )
    segments = pd.DataFrame(
        [
            row("knn", "toy", mean=value) | {"by": by, "group": group}
            for by, group, value in (
                *(("activity", "head", 0.4), ("activity", "tail", 0.2)),
                *(("artist", "user", 0.5), ("artist", "new", 0.1)),
            )
        ]
    )
    crossing = {"against": "ease", "metric": METRIC, "plays": 12.0, "plays_low": 5.0}
    tables = {
        "results": results,
        "segments": segments,
        "crossings": pd.DataFrame([row("knn", "toy") | crossing | {"plays_high": np.inf}]),
        "comparisons": pd.DataFrame(
            [
                pair("toy", "toy_artist_mean", 0.05, 0.001),
                pair("other_artist_mean", "other", 0.01, 0.5),
                pair("toy+other", "toy", 0.03, 0.01),
                pair("other", "toy+other", -0.10, 0.01),
            ]
        ),
        "shuffled": pd.DataFrame(
            [
                row("blend", "toy", "knn_ease")
                | {"metric": METRIC, "difference": 0.02, "ci_low": 0.01, "ci_high": 0.03}
                | {"beats_shuffled": True}
            ]
        ),
    }
    write_json(
        tmp_path / "robustness.json",
        {
            "k": 50,
            "metric": METRIC,
            "rows": [
                {"embedding": "toy", "perturb": "noise20", "neighbours": 0.42, "lists": 0.8}
                | {"loss": 0.012, "low": 0.002, "high": 0.022}
            ],
        },
    )
    embeddings = {
        "toy": {"seconds": 50.0, "n_tracks": 500, "device": "cpu", "width": 3},
        "other": {"width": 3},
    }
    return Made(tmp_path, tables, [run(), run("published", "none")], embeddings, {}, False)


def test_every_question_is_answered_from_the_tables(study):
    said = dict(in_words(study, METRIC, np.arange(40)))
    assert said["In which unit"][0].endswith("(standardize), so that no row's place is its unit's.")
    assert "tested against each other only" in said["In which unit"][1]
    assert said["For whom"] == [
        "KNN over toy has NDCG@50 .400 for the most active users and .200 for the least active.",
        (
            "KNN over toy has NDCG@50 .500 for held-out tracks of artists that the user knows and "
            ".100 for those of artists that train does not know."
        ),
    ]
    (plays,) = said["Up to how many plays of a track"]
    assert "up to 12 plays (95 % interval 5 to any)" in plays
    artist = said["Sound, or who plays"]
    assert artist[0].startswith("KNN: toy gains .050 (95 % interval .030 to .070) over the means")
    assert artist[0].endswith("it says more than who plays.")
    assert "other gains -.010 (95 % interval -.030 to .010)" in artist[1]
    assert artist[1].endswith("no more than who plays is shown.")
    assert said["What sound adds to listening"] == [
        (
            "KNN and EASE blended, over toy: gains .020 (95 % interval .010 to .030) over the same "
            "blend of shuffled vectors; sound adds."
        )
    ]
    (both,) = said["Two representations together"]
    assert "toy+other gains .030" in both and "over toy alone" in both
    assert "alike by 1.00" in both
    assert (
        "noise 20 dB below: 42 % of neighbours and 80 % of lists stay, NDCG@50 loses .012"
        in (said["The same music in another state"][0])
    )
    assert said["At what cost"] == ["A thousand tracks took: toy 100 s on cpu, 3 numbers a track."]
    assert any("found 8 times in 10" in line for line in said["How sure"])


def test_what_was_not_run_is_not_spoken_of(study, tmp_path):
    (tmp_path / "robustness.json").unlink()
    few = Made(tmp_path, {"results": study.results}, [], {}, {}, False)
    assert in_words(few, METRIC, np.arange(4)) == []


def test_of_many_pairs_gain_and_likeness_are_ranked(study):
    names = ["toy", "other", "third"]
    study.tables["comparisons"] = pd.DataFrame(
        [pair(f"toy+{name}", "toy", 0.01 * i, 0.5) for i, name in enumerate(names)]
    )
    study.embeddings["third"] = {"width": 3}
    vectors = np.random.default_rng(5).normal(size=(40, 3))
    study.__class__ = type("More", (Made,), {"vectors": lambda self, name, rows: (
        vectors[rows] if name == "third" else Made.vectors(self, name, rows)
    )})  # fmt: skip
    (*pairs, last) = dict(in_words(study, METRIC, np.arange(40)))["Two representations together"]
    assert len(pairs) == 3 and "3 lines the rank correlation of gain and likeness is" in last
