"""Which differences are called real: seeds averaged, families, groups, controls and their marks."""

import numpy as np
import pandas as pd
import pytest
import test_table
from scipy import stats
from test_table import results, write_run

from evaluation.comparisons import against_shuffled, compare, groups
from evaluation.paired import holm
from evaluation.results import average_seeds, read_runs
from evaluation.tables import metric_names, read_tables

METRIC = "HitRate@50"


def study(root, n=300, seeds=(1, 2, 3)):
    """Write runs in which b is above a and c, which are alike, and shuffled b is like a."""
    rng = np.random.default_rng(0)
    user = rng.normal(size=n)
    for recommender in ("knn", "shallow"):
        for name, tag, level in (
            *(("a", None, 0), ("b", None, 0.5), ("c", None, 0)),
            *(("b", "shuffled", 0), ("c", "shuffled", 0)),
        ):
            own = user + 0.5 * rng.normal(size=n) + level
            for seed in seeds:
                values = own + rng.normal(size=n)
                write_run(root, recommender, name, seed, values, tag=tag)
    write_run(root, "popular", "none", 1, user)
    return average_seeds(read_runs(root))


def test_pairs_are_of_one_recommender_and_seeds_are_averaged_for_each_user_first(tmp_path):
    rows = study(tmp_path)
    table = compare(rows, [METRIC])
    pairs = list(zip(table.recommender, table.embedding_a, table.embedding_b, strict=True))
    names = [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs == [(r, *pair) for r in ("knn", "shallow") for pair in names]
    assert table.tag_a.eq("").all() and table.tag_b.eq("").all()
    for line in table.itertuples():
        own = {}
        for name in (line.embedding_a, line.embedding_b):
            runs = sorted((tmp_path / "runs").glob(f"{line.recommender}-{name}-s?"))
            tables = [pd.read_parquet(run / "per_user_test.pqt") for run in runs]
            assert len(tables) == 3
            own[name] = pd.concat(tables).groupby("user_id")[METRIC].mean()
        difference = own[line.embedding_a] - own[line.embedding_b]
        assert line.difference == pytest.approx(difference.mean())
        assert line.effect_size == pytest.approx(difference.mean() / difference.std())
        # With 300 users, the t-test is what permutation and bootstrap come close to. What learns
        # is tested over its seeds too, and surer it cannot be.
        t = stats.ttest_1samp(difference, 0)
        low, high = t.confidence_interval()
        if line.recommender == "knn":
            assert line.p == pytest.approx(t.pvalue, abs=0.02)
            assert (line.ci_low, line.ci_high) == pytest.approx((low, high), abs=0.02)
        else:
            assert line.p >= t.pvalue - 1e-9 and line.ci_high - line.ci_low >= high - low - 1e-9
        assert line.better_a == (difference > 0).mean() and line.users == 300
    for _, family in table.groupby("recommender"):
        assert family.p_holm.tolist() == holm(family.p.to_numpy()).tolist()


def test_groups_hold_what_cannot_be_told_apart_and_the_best_has_the_letter_a(tmp_path):
    found = groups(compare(study(tmp_path), [METRIC, "NDCG@50"]))
    for _, own in found.groupby(["recommender", "metric"]):
        assert own.embedding.iloc[0] == "b" and own.letters.tolist() == ["a", "b", "b"]
        assert (own["mean"].diff().dropna() <= 0).all()


def test_a_control_is_compared_with_its_own_embedding_and_marks_what_does_not_beat_it(tmp_path):
    table = against_shuffled(study(tmp_path), [METRIC]).set_index(["recommender", "embedding"])
    assert table.index.tolist() == [(r, e) for r in ("knn", "shallow") for e in "bc"]
    for recommender in ("knn", "shallow"):
        assert table.beats_shuffled[recommender, "b"] and not table.beats_shuffled[recommender, "c"]
        assert table.difference[recommender, "b"] == pytest.approx(0.5, abs=0.2)


def test_worse_than_the_shuffled_control_is_not_beaten_however_sure(tmp_path):
    values = np.random.default_rng(0).normal(size=200)
    write_run(tmp_path, "knn", "toy", 1, values)
    write_run(tmp_path, "knn", "toy", 1, values + 1, tag="shuffled")
    (row,) = against_shuffled(average_seeds(read_runs(tmp_path)), [METRIC]).itertuples()
    assert row.p_holm < 0.01 and not row.beats_shuffled


def test_tables_show_marks_best_second_and_the_spread_of_seeds_apart(tmp_path, call, capsys):
    study(tmp_path)
    call("table", "--root", tmp_path)
    lines = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in (tmp_path / "tables" / "results.md").read_text().split("\n\n")[1].splitlines()
    }
    for cell in lines["b"][1:]:
        assert cell.startswith("**") and cell.endswith(")** a")
    assert all(cell.endswith("b †") for cell in lines["c"][1:])
    assert sum("<u>" in cell for name in "ac" for cell in lines[name]) == 2
    assert not any(mark in c for c in lines["b (shuffled)"] for mark in ("*", "<u>", "†"))
    assert list(lines)[-2:] == ["b (shuffled)", "c (shuffled)"]
    table = results(tmp_path)
    row = table[(table.recommender == "knn") & (table.embedding == "b") & (table.tag == "")].iloc[0]
    runs = [tmp_path / "runs" / f"knn-b-s{seed}" / "per_user_test.pqt" for seed in (1, 2, 3)]
    means = [pd.read_parquet(run)[METRIC].mean() for run in runs]
    assert float(row[f"{METRIC}_seed_sd"]) == pytest.approx(np.std(means, ddof=1), abs=1e-6)
    assert f"± {row[f'{METRIC}_ci95']:.3f} (seeds {np.std(means, ddof=1):.3f})" in lines["b"][1]

    read = read_tables(tmp_path)
    assert {"results", "comparisons", "groups", "shuffled", "published"} <= set(read)
    assert read["groups"].tag.eq("").all() and read["shuffled"].beats_shuffled.dtype == bool
    assert set(read["results"].tag) == {"", "shuffled"}


def test_the_tex_table_is_whole_and_escapes_what_latex_would_take_for_commands(tmp_path, call):
    write_run(tmp_path, "knn", "a_b", 1, [0, 1, 1])
    write_run(tmp_path, "knn", "noise", 1, [0, 1, 0])
    write_run(tmp_path, "popular", "none", 1, [0, 1, 0], width=0)
    call("table", "--root", tmp_path)
    page = (tmp_path / "tables" / "results.tex").read_text()
    assert r"a\_b & 8 & 0.667\,$\pm$\,1.434" in page and "HitRate@50" in page
    assert page.count(r"\begin{table}") == page.count(r"\end{table}") == 2
    assert r"\toprule" in page and r"\bottomrule" in page
    assert r"95 \% interval" in page and "most popular tracks: 0.333" in page
    assert page.index("a\\_b &") < page.index("\\midrule\nnoise")
    for line in page.splitlines():
        if "&" in line:
            assert line.count("&") == 2 and line.endswith(r"\\")


def test_one_row_alone_has_nothing_to_be_compared_with(tmp_path, call):
    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    call("table", "--root", tmp_path)
    tables = read_tables(tmp_path)
    for name in ("comparisons", "groups", "shuffled"):
        assert len(tables[name]) == 0 and "metric" in tables[name]


def test_runs_of_other_users_than_the_rest_are_refused(tmp_path, call):
    from core.options import InputError

    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    write_run(tmp_path, "knn", "other", 1, [0, 1, 1])
    with pytest.raises(InputError, match="is of other users than the other runs of this split"):
        call("table", "--root", tmp_path)


def test_letters_stand_at_every_length_of_the_lists_and_are_those_of_the_whole_comparison(
    tmp_path, call, monkeypatch
):
    monkeypatch.setattr(test_table, "NAMES", ["HitRate@10", "NDCG@10", "HitRate@50", "NDCG@50"])
    study(tmp_path, seeds=(1, 2))
    call("table", "--root", tmp_path)
    read, rows = read_tables(tmp_path), average_seeds(read_runs(tmp_path))
    metrics = metric_names(read["results"])
    assert len(metrics) == 4
    assert set(read["comparisons"].metric) == {name for name in metrics if name.endswith("@50")}
    whole = groups(compare(rows, metrics))
    columns = ["recommender", "embedding", "tag", "metric", "letters", "unit"]
    assert sorted(map(tuple, read["groups"][columns].to_numpy())) == sorted(
        map(tuple, whole[columns].to_numpy())
    )
