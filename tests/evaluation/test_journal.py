"""The extended study's tables: their order, change against shuffled rows, theirs beside ours."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import call_main
from test_table import write_run

from core.artifacts import write_table
from core.registry import ALL
from evaluation.journal import read_journal
from evaluation.paired import bootstrap_interval

JOURNAL = ("--layout", "journal", "--resamples", 1000)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Runs of five recommenders over two embeddings, hot and cold, and the journal's layout."""
    tmp_path, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    values = {"plain": rng.random(40) * 0.2 + 0.5, "shuffled": rng.random(40) * 0.2 + 0.2}
    for name in ("hybrid", "bimodal_content", "knn", "bert4rec"):
        for embedding in ("musicnn", "mfcc"):
            for tag, own in ((None, "plain"), ("shuffled", "shuffled")):
                run = write_run(tmp_path, name, embedding, 1, values[own], tag=tag)
                table = pd.read_parquet(run / "per_user_test.pqt")
                write_table(run / "per_user_cold.pqt", table)
    write_run(tmp_path, "bimodal_content", "mfcc", 1, values["plain"], tag="100")
    write_run(tmp_path, "knn", "my_own", 1, values["plain"], tag="tuned")
    for name in ("elsa", "ease", "popular"):
        write_run(tmp_path, name, "none", 1, values["plain"], width=0)
    call_main("table", "--root", tmp_path, *JOURNAL)
    return tmp_path, values


def test_every_published_number_is_there_and_plausible():
    known = read_journal()
    assert [len(known[part]) for part in ("hot", "cold")] == [17, 10]
    for part in ("hot", "cold"):
        for section in known[part]:
            assert section["recommender"] in ALL
            names = set(section["numbers"])
            assert names == (set(known["backbones"]) if names != {"none"} else {"none"})
            for numbers in section["numbers"].values():
                assert len(numbers) == len(known["metrics"]) == 3
                hit, recall, ndcg = (pair[0] for pair in numbers)
                assert 10_000 > hit >= recall > 0 and hit >= ndcg > 0
    mule = next(s for s in known["hot"] if s["label"] == "Shallow")["numbers"]["mule"]
    assert mule == [[3741, 111], [388, 1], [283, 11]]
    muq = next(s for s in known["cold"] if s["label"] == "Bimodal Content 100")["numbers"]
    assert muq["muq_mulan"][2] == [1648, 159]


def test_sections_and_backbones_stand_in_their_order(study):
    root, _ = study
    for part in ("hot", "cold"):
        table = pd.read_csv(root / "tables" / f"journal_{part}.csv", dtype={"tag": str})
        found = list(dict.fromkeys(table.section))
        theirs = [section["label"] for section in read_journal()[part]]
        assert [name for name in theirs if name in found] == [n for n in found if n in theirs]
        own = table[table.section == "Hybrid"]
        assert own.embedding.tolist() == ["mfcc", "musicnn"]
    hot = pd.read_csv(root / "tables" / "journal_hot.csv", dtype={"tag": str})
    by_section = dict(list(hot.assign(tag=hot.tag.fillna("")).groupby("section")))
    assert by_section["Bimodal Content 100"].tag.tolist() == ["100"]
    assert by_section["Cosine"].embedding.tolist() == ["mfcc", "musicnn", "my_own"]
    assert by_section["ELSA"].recommender.tolist() == ["elsa"]
    assert set(by_section["Hears nothing"].recommender) == {"ease", "popular"}
    assert hot.section.iloc[-1] == "Hears nothing"


def test_the_change_is_in_percent_of_the_shuffled_rows_with_its_paired_interval(study):
    root, values = study
    a, b = values["plain"], values["shuffled"]
    # Users of a run stand in an order of its own, so pairs are by user_id: 1, 2, ...
    rng, ratios = np.random.default_rng(1), []
    for _ in range(4000):
        rows = rng.integers(0, len(a), len(a))
        ratios.append(100 * (a[rows].mean() / b[rows].mean() - 1))
    for part in ("hot", "cold"):
        table = pd.read_csv(root / "tables" / f"journal_{part}.csv").set_index(
            ["section", "embedding"]
        )
        row = table.loc[("Hybrid", "mfcc")]
        assert row["NDCG@50_change"] == pytest.approx(100 * (a.mean() / b.mean() - 1), abs=1e-3)
        interval = np.percentile(ratios, [2.5, 97.5])
        assert row[["NDCG@50_change_low", "NDCG@50_change_high"]].tolist() == pytest.approx(
            interval.tolist(), abs=3
        )
        assert row["NDCG@50_beats_shuffled"] == 1
        assert np.isnan(table.loc[("Hybrid Shuffle", "mfcc"), "NDCG@50_change"])
    hot = pd.read_csv(root / "tables" / "journal_hot.csv").set_index(["section", "embedding"])
    assert np.isnan(hot.loc[("Bimodal Content 100", "mfcc"), "NDCG@50_change"]), "not its own"


def test_pages_say_change_and_mark_and_every_line_has_the_same_columns(study):
    root, _ = study
    page = (root / "tables" / "journal_hot.md").read_text()
    assert re.search(r"\| mfcc +\| +0\.\d{4} ± 0\.\d{4} \(\+\d+ % \[\+\d+, \+\d+\]\) \|", page)
    assert "**Hybrid Shuffle**" in page and "| EASE, which hears nothing" in page
    assert len({line.count("|") for line in page.splitlines() if line.startswith("|")}) == 1
    tex = (root / "tables" / "journal_cold.tex").read_text()
    assert r"\emph{Bimodal Content Shuffle}" in tex and r"\%" in tex and "±" not in tex
    assert tex.count(r"\begin{") == tex.count(r"\end{") == 1


def test_one_that_does_not_beat_its_shuffled_rows_is_marked(tmp_path, call):
    values = np.random.default_rng(0).random(30)
    write_run(tmp_path, "hybrid", "mfcc", 1, values)
    write_run(tmp_path, "hybrid", "mfcc", 1, values, tag="shuffled")
    call("table", "--root", tmp_path, *JOURNAL)
    page = (tmp_path / "tables" / "journal_hot.md").read_text()
    assert "(+0 % [+0, +0]) †" in page
    assert not (tmp_path / "tables" / "journal_cold.md").exists(), "there are no cold lists"


def test_theirs_stand_beside_ours_with_what_is_known_of_them(study):
    root, values = study
    page = (root / "tables" / "compare_published.md").read_text()
    assert "**Different data: the two cannot be compared.**" in page
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("| Hybrid [")
    ]
    mfcc = next(line for line in cells if line[1] == "mfcc")
    assert mfcc[2] == "0.3044 ± 0.0327" and mfcc[3].startswith(f"{values['plain'].mean():.4f}")
    mert = next(line for line in cells if line[1] == "mert")
    assert mert[3] == mert[-1] == "-"
    assert "labelled @20 and hold @50" in page and "HitRate@50, theirs" in page
    elsa = next(line for line in page.splitlines() if line.startswith("| ELSA ["))
    assert "0.5580" in elsa
    letters = set(re.search(r"\| Hybrid \[(\w+)\]", page)[1])
    notes = dict(re.findall(r"^- (\w): (.*)", page, flags=re.M))
    assert letters <= set(notes) and any("from held-out tracks" in notes[x] for x in letters)


def test_a_relative_interval_is_of_the_ratio_and_not_of_nothing():
    values = np.random.default_rng(0).random((50, 2)) + 1
    pairs = np.array([(0, 1)])
    low, high = bootstrap_interval(values, pairs, resamples=500, relative=True)
    ratio = 100 * (values[:, 0].mean() / values[:, 1].mean() - 1)
    assert low[0] < ratio < high[0]
    values[:, 1] = 0
    low, high = bootstrap_interval(values, pairs, resamples=500, relative=True)
    assert np.isnan([low[0], high[0]]).all()
