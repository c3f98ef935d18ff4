"""Users and seeds: rates under the null, intervals, and differences that can be found."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_table import write_run

from evaluation.comparisons import BOTH, USERS, against_shuffled, compare, groups
from evaluation.crossed import detectable, difference, differences, seeds_part
from evaluation.paired import mean_and_spread
from evaluation.results import average_seeds, read_runs

METRIC = "HitRate@50"


def row(rng, seeds, user, of_seed, rest):
    """The values of one embedding's networks: what users, seeds and chance bring."""
    return user + of_seed * rng.normal(size=(seeds, 1)) + rest * rng.normal(size=(seeds, len(user)))


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("of_seed", "rest", "own"), [(0.01, 0.05, 0), (0, 0.1, 0), (0.01, 0.1, 0.1), (0, 0, 0.1)]
)
def test_networks_of_one_embedding_are_called_different_at_the_rate_that_is_asked_for(
    seeds, of_seed, rest, own
):
    rng = np.random.default_rng(0)
    n, wrong, trials = 171, 0, 400
    for _ in range(trials):
        user = 0.2 * rng.normal(size=n)
        one, other = (
            row(rng, seeds, user + own * rng.normal(size=n), of_seed, rest) for _ in range(2)
        )
        wrong += difference(one, other).p < 0.05
    assert 0.01 < wrong / trials < 0.085


def test_without_seeds_it_is_the_paired_t_test_and_equal_rows_are_equal():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(1, 50)) + 0.3, rng.normal(size=(1, 50))
    found, t = difference(one, other), stats.ttest_rel(one[0], other[0])
    assert found.p == pytest.approx(t.pvalue)
    assert found.interval == pytest.approx(tuple(t.confidence_interval()))
    assert difference(one, one).p == 1
    assert difference(one, one - 1).p == 0, "the same for every user"


def test_many_pairs_of_rows_at_once_are_the_same_as_each_alone():
    rng = np.random.default_rng(0)
    seeds, pairs = (3, 1, 5, 3), np.array([(0, 1), (0, 2), (2, 3), (3, 0), (1, 1)])
    rows = [row(rng, n, rng.normal(size=40), 0.5 * (n > 1), 0.2) for n in seeds]
    values = np.stack([each.mean(axis=0) for each in rows], axis=1)
    parts = np.stack([seeds_part(each) for each in rows])
    found = differences(*mean_and_spread(values, pairs), 40, parts, pairs)
    for place, (a, b) in enumerate(pairs):
        alone = difference(rows[a], rows[b])
        assert found.p[place] == pytest.approx(alone.p)
        assert [each[place] for each in found.interval] == pytest.approx(alone.interval)


@pytest.mark.parametrize("spread", [(0.4, 0.5, 0.3), (1, 0.3, 0.2), (0.2, 1, 0.5)])
def test_the_error_is_that_of_a_mixed_model_of_statsmodels(spread):
    """Random user, network and user x row; of balanced rows REML's error is that of the moments."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    own, of_seed, rest = spread
    rng, n, seeds = np.random.default_rng(3), 24, 4
    user = rng.normal(size=n)
    rows = [row(rng, seeds, user + own * rng.normal(size=n), of_seed, rest) for _ in range(2)]
    at = [(r, s, u) for r in range(2) for s in range(seeds) for u in range(n)]
    table = pd.DataFrame(
        [(rows[r][s, u], r, u, f"{r} {s}", f"{r} {u}") for r, s, u in at],
        columns=["value", "row", "user", "network", "pair"],
    )
    random = {each: f"0 + C({each})" for each in ("user", "network", "pair")}
    model = MixedLM.from_formula(
        "value ~ row", table, groups=np.ones(len(table)), re_formula="0", vc_formula=random
    )
    theirs, ours = model.fit(reml=True), difference(rows[1], rows[0])
    assert theirs.converged and (theirs.vcomp > 1e-3).all()
    assert ours.mean == pytest.approx(theirs.params["row"], abs=1e-6)
    assert ours.error == pytest.approx(theirs.bse["row"], rel=1e-3)
    assert ours.p > theirs.pvalues["row"], "theirs is of a normal distribution, for many networks"


def test_what_is_said_to_be_detectable_is_found_eight_times_in_ten():
    rng = np.random.default_rng(1)
    n, trials, found = 200, 300, 0
    population = rng.gamma(1, 0.2, size=20_000)
    sample = population[rng.integers(0, len(population), n)] - population.mean()
    smallest = detectable(sample[:, None], np.zeros(1), np.full(1, n - 1.0), np.full(1, 0.05))[0]
    for _ in range(trials):
        drawn = rng.choice(population, n) - population.mean() + smallest
        found += stats.ttest_1samp(drawn, 0).pvalue < 0.05
    assert 0.7 < found / trials < 0.9


def test_three_seeds_speak_of_embeddings_fewer_of_the_networks_and_knn_needs_none(tmp_path, call):
    rng = np.random.default_rng(0)
    user = rng.normal(size=200)
    for name in "ab":
        write_run(tmp_path, "knn", name, 1, user + rng.normal(size=200))
        for seed in (1, 2, 3):
            lucky = rng.normal()
            write_run(tmp_path, "shallow", name, seed, user + lucky + 0.1 * rng.normal(size=200))
            write_run(tmp_path, "knn", name, seed, rng.normal(size=200), tag="shuffled")
        for seed in (1, 2):
            write_run(tmp_path, "bert4rec", name, seed, user + rng.normal(size=200))
    rows = average_seeds(read_runs(tmp_path))
    table = compare(rows, [METRIC]).set_index("recommender")
    assert table.unit.to_dict() == {"knn": USERS, "shallow": BOTH, "bert4rec": USERS}
    assert table.seeds_a["shallow"] == table.seeds_b["shallow"] == 3
    assert table.p["shallow"] > 0.01, "the networks differ by luck"
    assert table.detectable["shallow"] > 3 * table.detectable["knn"]
    assert set(groups(table.reset_index()).unit) == {USERS, BOTH}
    shuffled = against_shuffled(rows, [METRIC])
    assert shuffled.unit.eq(BOTH).all() and shuffled.shuffles.eq(3).all()
    call("table", "--root", tmp_path)
    page = (tmp_path / "tables" / "results.md").read_text()
    assert "Shallow Net: tested over users and seeds." in page
    assert "KNN: tested over users; it learns nothing" in page
    assert "BERT4Rec: tested over users alone, with fewer than 3 seeds: letters hold" in page
    assert "would be found 8 times in 10" in page


def test_rows_as_published_have_letters_among_themselves(tmp_path, call):
    rng = np.random.default_rng(0)
    for tag in (None, "published"):
        for name in "ab":
            write_run(tmp_path, "knn", name, 1, rng.normal(size=50), tag=tag)
    table = compare(average_seeds(read_runs(tmp_path)), [METRIC])
    assert table[["tag_a", "tag_b"]].to_numpy().tolist() == [["", ""], ["published"] * 2]
    assert groups(table).groupby("tag").letters.min().tolist() == ["a", "a"]
    call("table", "--root", tmp_path)
    page = (tmp_path / "tables" / "results.md").read_text()
    assert "KNN: rows as published have letters with a star, among themselves." in page
    starred = [line.endswith("a* |") for line in page.splitlines() if line.startswith("| a")]
    assert set(starred) == {False, True} and starred.count(True) == page.count("a* |") / 2
    tex = (tmp_path / "tables" / "results.tex").read_text()
    assert r"a\ast " in tex and "tested among themselves" in tex
