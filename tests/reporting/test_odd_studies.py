"""What the report says of studies of every kind, beside the tables that it says it of.

Studies are drawn: recommenders, representations, tags and controls that were run or not, ties,
metrics that a row lacks, tests over users or over seeds too, and every pattern of p.
"""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.names import is_published, is_shuffled, row_label
from evaluation.comparisons import ALPHA, BOTH, USERS
from evaluation.results import Row
from evaluation.words import leading
from reporting.against import changes, name_of
from reporting.alternatives import metric_text, rank_text, significance_text
from reporting.answer import answer
from reporting.citing import bibtex
from reporting.figures import metric_figure, rank_figure, rank_rows
from reporting.forest import forest_figure, forest_text
from reporting.in_words import for_whom, in_words
from reporting.matrices import significance_figure
from reporting.pages import trained_names, write_index
from reporting.study import Study
from reporting.tables import results_table
from reporting.theme import LIGHT, MARKERS
from reporting.users import compared

pytest_plugins = ("browsing",)
METRIC = "HitRate@50"
METRICS = ("HitRate@50", "NDCG@50", "HitRate@10", "NDCG@10")
CONTROL = ("noise", "random")


def result(recommender, embedding, tag="", mean=0.3, **more):
    values = {name: mean for name in METRICS} | {f"{name}_ci95": 0.01 for name in METRICS}
    row = {"recommender": recommender, "embedding": embedding, "tag": tag}
    return row | {"width": 8, "seeds": 1, "users": 90} | values | more


def pair(recommender, one, other, difference, p, metric=METRIC, unit=USERS):
    """Return a line of comparisons.csv; `one` and `other` are (embedding, tag)."""
    names = {f"{what}_{at}": v for at, row in (("a", one), ("b", other))
             for what, v in zip(("embedding", "tag"), row, strict=True)}  # fmt: skip
    numbers = {"difference": difference, "ci_low": difference - 0.02, "ci_high": difference + 0.02}
    more = {"mean_a": 0.3 + difference, "mean_b": 0.3, "p": p, "p_holm": p, "effect_size": 0.1}
    who = {"recommender": recommender, "metric": metric, "unit": unit, "users": 90}
    return who | names | numbers | more | {"seeds_a": 1, "seeds_b": 1, "detectable": 0.02}


def against_itself(recommender, embedding, tag, difference, p, unit=USERS):
    """Return a line of shuffled.csv."""
    line = pair(recommender, (embedding, tag), ("", ""), difference, p, unit=unit)
    line |= {"embedding": embedding, "tag": tag, "mean": 0.3, "shuffled_mean": 0.3 - difference}
    return line | {"beats_shuffled": p < ALPHA and difference > 0}


def made(tmp_path, rows, pairs=(), shuffled=(), runs=(), **tables):
    found = {"results": pd.DataFrame(rows)}
    if pairs:
        found["comparisons"] = pd.DataFrame(pairs)
    if shuffled:
        found["shuffled"] = pd.DataFrame(shuffled)
    (tmp_path / "tables").mkdir(exist_ok=True)
    (tmp_path / "tables" / "results.csv").touch()
    return Study(tmp_path, found | tables, list(runs), {}, {}, False)


def page_of(study, folder, **facts) -> str:
    told = answer(study, METRIC)
    told["words"] = in_words(study, METRIC, np.arange(4))
    more = {"metrics": ["HitRate@50", "NDCG@50"], "changed": None, "factors": {}, "gains": {}}
    more |= {"n_map": 4, "sampled": False, "tracks_what": ""}
    return write_index(folder, study, told, {}, more | facts).read_text(encoding="utf-8")


def drawn(rng, tmp_path):
    """Return a study of some recommenders, rows, controls and tests, as the draw has it."""
    rows, pairs, shuffled = [], [], []
    for recommender in rng.permutation(["knn", "shallow", "bert4rec", "hybrid", "blend", "own"])[
        : rng.integers(1, 7)
    ]:
        keys = [(name, tag) for name in ("mfcc", "mert", "musicnn", "mert_artist_mean")
                for tag in ("", "trained", "published") if rng.random() < 0.45]  # fmt: skip
        keys += [(name, "") for name in CONTROL if rng.random() < 0.6]
        shuffles = [(e, f"{t}_shuffled".strip("_")) for e, t in keys
                    if e not in CONTROL and rng.random() < 0.5]  # fmt: skip
        means = {key: round(float(rng.choice([0.1, 0.2, 0.3, rng.random()])), 3)
                 for key in (*keys, *shuffles)}  # fmt: skip
        lacking = {key for key in means if rng.random() < 0.1}
        for key, mean in means.items():
            more = {METRIC: np.nan, f"{METRIC}_ci95": np.nan} if key in lacking else {}
            rows.append(result(recommender, *key, mean, **more))
        for one, other in combinations([key for key in keys if key not in lacking], 2):
            if is_published(one[1]) == is_published(other[1]):
                difference = means[one] - means[other]
                p = 1.0 if difference == 0 else float(rng.choice([0.001, 0.2]))
                pairs.append(pair(recommender, one, other, difference, p))
        for embedding, tag in shuffles:
            plain = tag.removesuffix("shuffled").strip("_")
            if not {(embedding, plain), (embedding, tag)} & lacking:
                difference = means[embedding, plain] - means[embedding, tag]
                p = float(rng.choice([0.001, 0.2]))
                shuffled.append(against_itself(recommender, embedding, plain, difference, p))
    rows += [result(name, "none", mean=0.25) for name in ("ease", "popular") if rng.random() < 0.5]
    if not rows:
        rows = [result("popular", "none")]
    if not any(row[METRIC] == row[METRIC] for row in rows):
        rows.append(result("ease", "none"))
    return made(tmp_path, rows, pairs, shuffled)


def verdict_of(study, recommender, embedding, tag):
    """Work out what may be said of a row, from the tables themselves."""
    signs = []
    table = study.tables.get("shuffled", pd.DataFrame())
    for line in table.to_dict("records"):
        if (line["recommender"], line["embedding"], line["tag"]) == (recommender, embedding, tag):
            signs.append(np.sign(line["difference"]) * (line["p_holm"] < ALPHA))
    for line in study.tables.get("comparisons", pd.DataFrame()).to_dict("records"):
        if line["recommender"] != recommender:
            continue
        sides = {at: (line[f"embedding_{at}"], line[f"tag_{at}"]) for at in "ab"}
        for at, other, sign in (("a", "b", 1), ("b", "a", -1)):
            if sides[at] == (embedding, tag) and sides[other][0] in CONTROL:
                signs.append(sign * np.sign(line["difference"]) * (line["p_holm"] < ALPHA))
    if -1 in signs:
        return "does not help"
    return "helps" if signs and min(signs) == 1 else "cannot be said"


@pytest.mark.parametrize("seed", range(24))
def test_cards_and_sentences_say_of_any_study_what_its_tables_say(seed, tmp_path):
    study = drawn(np.random.default_rng(seed), tmp_path)
    told = answer(study, METRIC)
    texts = [told[name] for name in ("short", "helps", "leads", "adds")]
    texts += [card["text"] for card in told["cards"]]
    texts += [metric_text(study, METRIC), forest_text([c["field"] for c in told["cards"]], METRIC)]
    helped, representations, tested = set(), set(), 0
    for card in told["cards"]:
        models = study.models[study.models.recommender == card["name"]].dropna(subset=METRIC)
        own = {row_label(e, t): (e, t) for e, t in zip(models.embedding, models.tag, strict=True)}
        means = dict(zip(own, models[METRIC], strict=True))
        assert {row["label"]: row["mean"] for row in card["rows"]} == means
        rows = {n: m for n, m in means.items() if own[n][0] not in CONTROL
                and not is_shuffled(own[n][1]) and "_artist_" not in n}  # fmt: skip
        for row in card["rows"]:
            assert bool(row["control"]) == (row["label"] not in rows)
            if row["label"] in rows:
                assert row["verdict"] == verdict_of(study, card["name"], *own[row["label"]])
        if not rows:
            continue
        best = [name for name in rows if rows[name] == max(rows.values())]
        assert card["text"].startswith(sorted(best)[0]) or re.match(r"\d+ rows share", card["text"])
        assert ("share the highest mean" in card["text"]) == (len(best) > 1)
        verdicts = {name: verdict_of(study, card["name"], *own[name]) for name in rows}
        if any(card["field"].against(name) for name in rows):
            tested += 1
            representations |= {own[name][0] for name in rows}
            helped |= {own[name][0] for name in rows if verdicts[name] == "helps"}
    short = re.match(r"(?:Of )?(\d+)(?: of (\d+))? representations", told["short"])
    if short:
        counts = [int(each) for each in short.groups() if each]
        assert counts == ([len(helped)] if helped else []) + [len(representations)]
        assert "1 recommenders" not in told["short"] and (f"{tested} rec" in told["short"]) == (
            tested > 1
        )
    words = [line for _, lines in in_words(study, METRIC, np.arange(4)) for line in lines]
    page = page_of(study, tmp_path) if seed % 4 == 0 else ""
    assert not re.search(r"\bnan\b", "\n".join([*texts, *words, page]))


def test_figures_of_any_study_are_drawn_with_the_rows_that_have_the_metric(tmp_path):
    for seed in (1, 8):
        study = drawn(np.random.default_rng(seed), tmp_path)
        fields = [card["field"] for card in answer(study, METRIC)["cards"]]
        for draw in (metric_figure(study, METRIC), forest_figure(fields, METRIC)):
            if draw:
                texts = [t.get_text() for axis in draw(LIGHT, False).axes for t in axis.texts]
                assert "nan" not in texts


def test_no_recommender_that_is_compared_is_drawn_as_grey_as_controls(tmp_path):
    kinds = ("knn", "shallow", "bert4rec", "bimodal_collaborative", "bimodal_average",
             "bimodal_content", "hybrid", "blend")  # fmt: skip
    study = made(tmp_path, [result(kind, "mfcc") for kind in kinds])
    figure = metric_figure(study, METRIC)(LIGHT, False)
    for axis in figure.axes[: len(kinds)]:
        assert axis.lines[0].get_color() not in (LIGHT.cycle[7], LIGHT.soft)


def test_ties_share_the_lead_and_what_lies_above_them_is_told(tmp_path):
    rows = [result("knn", "a", mean=0.4), result("knn", "b", mean=0.4), result("knn", "noise")]
    pairs = [pair("knn", ("a", ""), ("b", ""), 0.0, 1.0)]
    pairs += [pair("knn", ("noise", ""), (name, ""), 0.1, 0.001) for name in "ab"]
    (card,) = answer(made(tmp_path, rows, pairs), METRIC)["cards"]
    assert card["text"] == (
        "a and b share the highest mean, though noise lies significantly above them."
    )


def test_words_speak_of_the_best_representation_and_never_of_a_control(tmp_path):
    """BERT4Rec over noise leads the study's table: no sentence calls noise the leader."""
    rows = [
        result("bert4rec", "mfcc", mean=0.3),
        result("bert4rec", "mert", mean=0.1, **{METRIC: np.nan}),
        result("bert4rec", "noise", mean=0.5),
        result("bert4rec", "mfcc", "shuffled", mean=0.6),
        result("ease", "none", mean=0.2),
    ]
    segments = pd.DataFrame(
        [
            result("bert4rec", name, mean=0.2) | {"by": "activity", "group": group}
            for name in ("mfcc", "mert", "noise")
            for group in ("head", "tail")
        ]
    )
    crossings = pd.DataFrame(
        [
            {"recommender": "bert4rec", "embedding": name, "tag": "", "against": "ease",
             "metric": METRIC, "plays": 3.0, "plays_low": 1.0, "plays_high": 5.0}
            for name in ("mfcc", "noise")
        ]
    )  # fmt: skip
    study = made(tmp_path, rows, segments=segments, crossings=crossings)
    assert [line.split(" has ")[0] for line in for_whom(study, METRIC)] == ["BERT4Rec over mfcc"]
    assert [row.embedding for row in leading(crossings, study.results)] == ["mfcc"]


def test_means_of_artists_and_pairs_are_set_beside_rows_of_their_own_tag(tmp_path):
    pairs = [
        pair("knn", ("mfcc", "trained"), ("mfcc_artist_mean", ""), 0.2, 0.001),
        pair("knn", ("mfcc", ""), ("mfcc_artist_mean", ""), 0.1, 0.001),
        pair("knn", ("mfcc+mert", ""), ("mfcc", ""), 0.05, 0.001),
        pair("knn", ("mfcc+mert", ""), ("mert", "trained"), 0.01, 0.001),
    ]
    study = made(tmp_path, [result("knn", "mfcc")], pairs)
    said = dict(in_words(study, METRIC, np.arange(4)))
    (line,) = said["Sound, or who plays"]
    assert line.startswith("KNN: mfcc gains .100")
    (line,) = said["Two representations together"]
    assert "gains .050" in line and line.endswith("over mfcc alone.")
    pairs.append(pair("knn", ("mert", ""), ("mfcc+mert", ""), -0.03, 0.001))
    study = made(tmp_path, [result("knn", "mfcc")], pairs)
    (line,) = dict(in_words(study, METRIC, np.arange(4)))["Two representations together"]
    assert "gains .030" in line and line.endswith("over mert alone, the better of both.")


@pytest.mark.parametrize(
    ("units", "said"),
    [
        ((USERS, USERS), "paired tests over users, Holm"),
        ((BOTH, BOTH), "paired tests over users and seeds, Holm"),
        ((USERS, BOTH), "paired tests over users, or users and seeds where each row has 3 or more"),
    ],
)
def test_the_page_says_what_its_tests_draw_at_random(units, said, tmp_path):
    rows = [result("knn", "mfcc"), result("knn", "noise")]
    pairs = [pair("knn", ("mfcc", ""), ("noise", ""), 0.1, 0.001, unit=units[0])]
    shuffled = [against_itself("knn", "mfcc", "", 0.1, 0.001, unit=units[1])]
    page = page_of(made(tmp_path, rows, pairs, shuffled), tmp_path)
    assert said in page
    assert ("permutation test, Holm" in page) == (BOTH not in units or USERS in units)


def test_listening_alone_is_compared_over_seeds_where_there_are_three():
    """Three networks that differ by more than they differ from EASE are no finding."""
    rng = np.random.default_rng(0)
    base = rng.random((200, 1))
    seeds = np.stack([base + shift for shift in (-0.2, 0.0, 0.5)])
    keys = {"net": ("shallow", "mfcc", ""), "ease": ("ease", "none", "")}
    rows = {}
    for name, values in (("net", seeds), ("ease", base[None])):
        users, mean = np.arange(200), values.mean(axis=0)
        runs = [{} for _ in values]
        rows[keys[name]] = Row(*keys[name], users, (METRIC,), mean, values.mean(1), runs, values)
    (found,) = compared(rows, [(keys["net"], keys["ease"])], METRIC)
    assert found.difference == pytest.approx(0.1) and found.p > 0.3
    assert found.low < 0 < found.high


def test_rows_as_published_have_letters_of_their_own(tmp_path):
    rows = [result("knn", "mfcc"), result("knn", "mert", "published")]
    letters = [{"recommender": "knn", "embedding": e, "tag": t, "metric": METRIC, "letters": "a"}
               for e, t in (("mfcc", ""), ("mert", "published"))]  # fmt: skip
    study = made(tmp_path, rows, groups=pd.DataFrame(letters))
    table = results_table(study)
    at = [column["label"] for column in table["columns"]].index(METRIC)
    assert [row["cells"][at]["letters"] for row in table["rows"]] == ["a", "a*"]
    assert "letters with a star, among themselves" in page_of(study, tmp_path)


def run_of(recommender, embedding, tag=None, trained=True):
    options = {"train_tracks": trained}
    named = {"recommender": recommender, "embedding": embedding, "tag": tag}
    return named | {"options": options, "seed": 1, "split": "0" * 64, "test": {}, "log": [],
                    "folder": f"{recommender}-{embedding}-{tag}"}  # fmt: skip


def test_trained_rows_are_named_whatever_their_tag(tmp_path):
    rows = [result("shallow", n, t) for n, t in
            (("mfcc", ""), ("mert", ""), ("mfcc", "trained"), ("mfcc", "published"))]  # fmt: skip
    runs = [run_of("shallow", "mert"), run_of("shallow", "mfcc", "trained")]
    runs += [run_of("shallow", "mfcc", "published"), run_of("shallow", "mfcc", trained=False)]
    study = made(tmp_path, rows, runs=runs)
    named = "Shallow Net over mert, rows marked (trained) and rows marked (published)"
    assert trained_names(study) == named
    assert f"<b>Trained</b> ({named})" in page_of(study, tmp_path)


def test_seeds_are_told_of_what_is_compared(tmp_path):
    """A control of five shuffles beside rows of one seed: nothing was trained five times."""
    rows = [result("knn", "mfcc"), result("knn", "mfcc", "shuffled", seeds=5)]
    page = page_of(made(tmp_path, rows), tmp_path)
    assert "<b>1</b> seed each" in page and "One seed each: nothing is known" in page


def test_the_forest_says_of_each_gap_why_it_is_one(tmp_path):
    rows = [result("knn", "a"), result("knn", "b"), result("shallow", "a")]
    shuffled = [against_itself(kind, "a", "", 0.1, 0.001) for kind in ("knn", "shallow")]
    study = made(tmp_path, rows, shuffled=shuffled)
    fields = [card["field"] for card in answer(study, METRIC)["cards"]]
    figure = forest_figure(fields, METRIC)(LIGHT, False)
    gaps = [[text.get_text() for text in axis.texts] for axis in figure.axes[:2]]
    assert gaps == [["not tested"], ["not run"]]


def test_controls_that_were_run_are_named_where_helping_is_explained(tmp_path):
    rows = [result("shallow", "mfcc"), result("shallow", "random"), result("shallow", "noise")]
    assert "know nothing of sound (noise, random)" in page_of(made(tmp_path, rows), tmp_path)


def test_ranks_tell_no_width_that_is_not_known(tmp_path):
    rows = [result("knn", "mfcc", width=0), result("knn", "mert", mean=0.2)]
    rows.append(result("knn", "own", **{METRIC: np.nan}))
    ranks = rank_rows(made(tmp_path, rows), METRIC, {"mert": 95e6})
    assert rank_text(ranks) == "Ranks, 1 is best. KNN: 1 mfcc, 2 mert (width 8, size 95,000,000)."


def test_an_earlier_table_of_other_columns_is_compared_on_what_both_have(tmp_path):
    new = pd.DataFrame([result("knn", "mfcc")])
    old = new.drop(columns=["HitRate@50_ci95"]).assign(**{"NDCG@50": 0.1})
    (line,) = changes(new, old, "old")["rows"]
    assert line.startswith("KNN: mfcc: NDCG@50 .100")
    other = changes(new, new.assign(embedding="mert"), "old")["told"]
    assert other == "Against old: no row is in both studies."
    assert name_of(Path("/somewhere/m4a/report")) == "m4a" and name_of(tmp_path) == tmp_path.name


def test_what_was_not_committed_is_told_wherever_the_commit_is(tmp_path):
    runs = [run_of("knn", "mfcc") | {"commit": "0123456789abcdef+"}]
    study = made(tmp_path, [result("knn", "mfcc")], runs=runs)
    assert "code 0123456789ab+" in bibtex(study, "A")
    assert "code <code>0123456789ab+</code>" in page_of(study, tmp_path)


def test_differences_that_are_told_are_those_of_the_matrix(tmp_path):
    rows = [result("knn", name) for name in "abc"]
    pairs = [pair("knn", ("a", ""), ("b", ""), 0.1, 0.001)]
    pairs.append(pair("knn", ("a", ""), ("c", ""), 0.2, 0.3))
    pairs.append(pair("knn", ("b", ""), ("c", ""), -0.1, 0.01))
    text = significance_text(made(tmp_path, rows, pairs), METRIC)
    assert text.endswith("KNN: a above b; c above b; 1 of 3 pairs are not told apart.")


def test_controls_stand_last_and_grey_in_a_matrix(tmp_path):
    rows = [result("knn", name) for name in ("a", "noise", "b")]
    pairs = [pair("knn", ("a", ""), ("noise", ""), -0.2, 0.001)]
    pairs.append(pair("knn", ("b", ""), ("noise", ""), -0.1, 0.3))
    pairs.append(pair("knn", ("b", ""), ("a", ""), 0.1, 0.3))
    study = made(tmp_path, rows, pairs)
    axis = significance_figure(study, METRIC)(LIGHT, False).axes[0]
    labels = {tick.get_text(): tick.get_color() for tick in axis.get_yticklabels()}
    assert list(labels)[-1] == "noise" and labels["noise"] == LIGHT.soft
    assert labels["a"] != LIGHT.soft


def test_marks_of_one_rank_lie_beside_each_other(tmp_path):
    """All recommenders rank ten representations alike: every mark is seen."""
    kinds = ("knn", "shallow", "bert4rec", "bimodal_collaborative", "bimodal_average", "hybrid")
    rows = [result(k, f"name{n}", mean=1 / (n + 2), width=2**n) for k in kinds for n in range(10)]
    figure = rank_figure(rank_rows(made(tmp_path, rows), METRIC, {}))(LIGHT, True)
    axis = figure.axes[0]
    heights = [
        axis.transData.transform((0, line.get_ydata()[0]))[1] * 72 / figure.dpi
        for line in axis.lines
        if line.get_marker() in MARKERS
    ]
    apart = np.diff(np.sort(heights))
    assert len(heights) == len(kinds) and apart.min() > 4.5
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def test_lists_cut_at_one_length_are_filtered_too(visit, folder):
    rows = [result(kind, "mfcc") for kind in ("knn", "shallow")]
    rows = [{k: v for k, v in row.items() if "@10" not in k} for row in rows]
    page_of(made(folder, rows), folder)
    page = visit("index.html")
    page.locator("#filters [name=recommender][value=knn] + span").click()
    assert page.locator("#table-results tbody.rows tr:visible").count() == 1
    assert page.url.endswith("#recommender=knn")
