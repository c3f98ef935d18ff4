"""The report of 10 backbones x 6 recommenders x 3 seeds in a real browser; figures are blank here.

What figures of that size show is measured in test_labels.py; drawing them takes a minute.
"""

import io
import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from conftest import call_main
from matplotlib.image import imsave
from pages import SIZES, broken_words, unfold, violations
from studies import BACKBONES, SIX, add_styles, make_large_study

from core.registry import RECOMMENDERS
from reporting import drawing

pytest_plugins = ("browsing",)


def blank(draw, name, folder, narrow):
    """Stand in for theme.save: the files of a figure, each a few pixels."""
    part = "-narrow" if narrow else ""
    files = [folder / f"{name}{part}{kind}.png" for kind in ("", "-dark")]
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        imsave(path, np.zeros((40, 80, 3)))
    if not narrow:
        files.append(folder / f"{name}.pdf")
        files[-1].touch()
    return files


@pytest.fixture(scope="module")
def folder(tmp_path_factory, browser):
    root = make_large_study(tmp_path_factory.mktemp("large") / "root")
    add_styles(root)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(drawing, "save", blank)
        patched.setattr(drawing, "MANY", 10_000)  # in this process, where it is replaced
        call_main("report", "--root", root)
    return root / "report"


def test_the_first_screen_says_in_one_sentence_what_was_found(visit, folder):
    page = visit("index.html")
    lead = page.locator(".lead")
    box = lead.bounding_box()
    assert box["y"] + box["height"] < 400, "it stands at the top"
    said = lead.inner_text()
    told = re.match(r"(\d+) of 10 representations help at least one of 6 recommenders", said)
    assert told and len(said) < 170
    verdicts = page.eval_on_selector_all(
        ".card .row:not(.control) dt",
        "all => all.map(each => [each.firstChild.textContent.trim(), "
        "each.querySelector('small').textContent])",
    )
    assert len(verdicts) == 6 * 10 + 2 * 2
    assert len({n.split(" (")[0] for n, each in verdicts if each == "helps"}) == int(told[1])


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_screen(visit, size):
    for name in ("index.html", "listen.html", "listen.html#user=", "listen.html#map="):
        page = visit(name, size)
        if name != "index.html":
            page.locator("li.track:visible").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], name


def test_axe_finds_no_violation(visit):
    """On the page as it opens: unfolded, 261 runs take minutes; the small study's are unfolded."""
    page = visit("index.html", "phone", "dark")
    assert violations(page, "header, .cards, #filters, .key, .facts, figure") == []


def test_no_two_texts_lie_on_each_other(visit):
    """Of the cards, where names, intervals and numbers stand side by side."""
    for size in SIZES:
        page = visit("index.html", size)
        unfold(page)
        rows = page.eval_on_selector_all(
            ".card .row",
            """all => all.map(row => [row.querySelector("dt"), row.querySelector(".track"),
              row.querySelector(".value")].map(each => {
                const box = each.getBoundingClientRect();
                return [box.left, box.right, each.scrollWidth - each.clientWidth];
              }))""",
        )
        assert len(rows) == 64 + 66
        for boxes in rows:
            for (_, right, over), (left, _, _) in zip(boxes, boxes[1:], strict=False):
                assert right <= left + 1 and over <= 1


def test_controls_beyond_two_are_folded_and_lower(visit):
    page = visit("index.html")
    card = page.locator(".card.bert4rec")
    shown = card.locator(".row.control:visible")
    assert shown.count() == 2 and shown.first.inner_text().startswith("noise")
    card.locator("summary").click()
    values = card.locator(".row.control .value").all_inner_texts()
    assert len(values) == 11 and values == sorted(values, reverse=True)
    assert not page.locator("#table-runs").is_visible()


@pytest.mark.parametrize(("metric", "k"), [("HitRate", 50), ("NDCG", 10), ("Recall", 100)])
def test_letters_best_and_second_follow_the_metric_and_k_shown(visit, folder, metric, k):
    page = visit(f"index.html#recommender=hybrid&metric={metric}&k={k}")
    rows = page.locator("#table-results tbody.rows tr:visible")
    assert rows.count() == len(BACKBONES)
    name = f"{metric}@{k}"
    tables = folder.parent / "tables"
    groups = pd.read_csv(tables / "groups.csv", keep_default_na=False)
    own = groups[(groups.recommender == "hybrid") & (groups.metric == name) & (groups.tag == "")]
    letters = dict(zip(own.embedding, own.letters, strict=True))
    means = dict(zip(own.embedding, own["mean"], strict=True))
    del means["noise"]
    best, second = sorted(means, key=means.get, reverse=True)[:2]
    for at in range(rows.count()):
        cells = rows.nth(at).locator("td:visible")
        backbone, shown = cells.nth(1).inner_text(), cells.last
        assert shown.locator("sup").inner_text() == letters[backbone]
        assert shown.locator("b").count() == (means[backbone] == means[best])
        assert shown.locator("u").count() in (backbone == second, 1)
    comparisons = pd.read_csv(tables / "comparisons.csv", keep_default_na=False)
    pairs = comparisons[(comparisons.recommender == "hybrid") & (comparisons.metric == name)]
    for pair in pairs.itertuples():  # of k = 50, which comparisons.csv holds
        share = set(letters[pair.embedding_a]) & set(letters[pair.embedding_b])
        assert bool(share) == (pair.p_holm >= 0.05)
    assert len(pairs) in (0, len(list(combinations(letters, 2))))


def test_the_leaderboard_is_filtered_sorted_and_taken_away(visit, folder):
    page = visit("index.html")
    board = page.locator("#table-results")
    for recommender in SIX:
        page.locator(f"#filters [name=recommender][value={recommender}] + span").click()
        label = RECOMMENDERS[recommender].label
        first = board.locator("tbody.rows tr:visible td:first-child").all_inner_texts()
        trained = 2 * RECOMMENDERS[recommender].trains_tracks
        assert set(first) == {label} and len(first) == 10 + trained
    page.locator("#filters [name=recommender][value=''] + span").first.click()
    page.locator("#filters [name=kind][value=trained] + span").click()
    assert board.locator("tbody.rows tr:visible").count() == 4
    page.locator("#filters [name=kind][value=''] + span").click()
    head = board.locator("th:visible button", has_text="width")
    head.click()
    assert page.url.endswith("#sort=-width")
    with page.expect_download() as download:
        page.locator("#take-csv").click()
    taken = pd.read_csv(io.StringIO(download.value.path().read_text()))
    assert len(taken) == 64 + 66 + 3
    widths = taken.width[:64].tolist()
    assert widths == sorted(widths, reverse=True)
    results = pd.read_csv(folder.parent / "tables" / "results.csv", keep_default_na=False)
    knn = taken[(taken.recommender == "KNN") & (taken.representation == "mule")].iloc[0]
    row = results[(results.recommender == "knn") & (results.embedding == "mule")].iloc[0]
    assert knn["NDCG@50"] == pytest.approx(float(row["NDCG@50"]), abs=1e-6)
    board.evaluate("each => each.parentElement.scrollTo(0, 4000)")
    top = board.locator("thead").locator("th").first.bounding_box()["y"]
    box = board.evaluate("each => each.parentElement.getBoundingClientRect().top")
    assert abs(top - box) < 3, "the heading stays in sight"


def test_any_two_rows_of_all_are_compared_user_by_user(visit):
    page = visit("index.html")
    page.locator("#gains summary").click()
    page.wait_for_function("document.getElementById('gains-told').textContent.includes('better')")
    assert page.locator("#one option").count() == 64 + 66 + 3
    page.locator("#one").select_option(label="Hybrid: muq")
    page.locator("#other").select_option(label="Bimodal Content: mfcc (shuffled)")
    page.wait_for_function(
        "document.getElementById('gains-told').textContent.startsWith('Hybrid: muq is better')"
    )


def test_ten_columns_of_neighbours_lists_of_six_recommenders_and_ten_maps(visit):
    page = visit("listen.html", "phone")
    page.locator("#neighbours section").nth(10).wait_for()
    names = page.locator("#neighbours h2").all_inner_texts()
    assert sorted(names[:10]) == sorted(BACKBONES) and names[10] == "noise"
    page.locator("#mode").get_by_text("a user").click()
    groups = page.locator("#group label").all_inner_texts()
    assert groups == [RECOMMENDERS[name].label for name in SIX] + ["Controls"]
    page.locator("#group").get_by_text("Hybrid").click()
    page.wait_for_function("document.querySelectorAll('#lists section').length === 21")
    page.locator("#mode").get_by_text("a map").click()
    page.locator("#maps canvas").nth(9).wait_for()
    assert page.locator("#maps canvas").count() == 10


def test_paper_holds_the_answer_whole(visit):
    page = visit("index.html", scheme="dark")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 less its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    board = page.locator("#table-results")
    height = board.evaluate("each => each.parentElement.clientHeight - each.clientHeight")
    assert broken_words(page) == []
    assert height >= 0, "no row of the leaderboard is left behind a scroll bar"


def test_all_metrics_and_the_deviation_of_seeds_fit_a_desktop(visit):
    page = visit("index.html")
    board = page.locator(".board")
    assert "seeds" in board.locator("tbody.rows small").first.inner_text()
    assert board.evaluate("each => each.scrollWidth - each.clientWidth") <= 0
