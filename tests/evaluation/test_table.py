"""The table: a row for each recommender and embedding, seeds averaged per user, nothing mixed."""

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from core.artifacts import write_json, write_table
from core.options import InputError
from evaluation.measures import METRICS, summarize

NAMES = [f"{name}@50" for name in METRICS]


def write_run(root, recommender, embedding, seed, values, *, tag=None, **known):
    """Write a finished run whose test users 1, 2, ... have the values in every metric."""
    suffix = f"-{tag}" if tag else ""
    run = root / "runs" / f"{recommender}-{embedding}{suffix}-s{seed}"
    run.mkdir(parents=True)
    per_user = pd.DataFrame({"user_id": np.arange(1, len(values) + 1)})
    for name in NAMES:
        per_user[name] = np.array(values, dtype=float)
    per_user = per_user.sample(frac=1, random_state=seed)  # users need not come in one order
    about = {"recommender": recommender, "embedding": embedding, "seed": seed, "tag": tag}
    content = {
        **about,
        "options": {"seed": seed, "embedding": embedding},
        "split": "a",
        "embedding_hash": embedding,
        "changed": {},
        "options_file": None,
        "width": 8,
        **known,
    }
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    write_table(run / "per_user_test.pqt", per_user)
    numbers = summarize(per_user)
    write_json(run / "metrics.json", {**about, "seconds": 1, "val": numbers, "test": numbers})
    return run


def results(root, name="results"):
    return pd.read_csv(root / "tables" / f"{name}.csv", keep_default_na=False)


def test_there_is_a_row_for_each_recommender_and_embedding(toy_root, call, capsys):
    root = toy_root()
    fit = ("--epochs", 1, "--device", "cpu")
    call("baselines", "--root", root)
    for embedding in ("toy", "noise"):
        call("knn", "--root", root, "--embedding", embedding)
        call("train", "--root", root, "--embedding", embedding, *fit)
    call("train_bert", "--root", root, "--embedding", "toy", *fit)
    call("table", "--root", root)
    table = results(root)
    rows = list(zip(table.recommender, table.embedding, strict=True))
    assert rows == [
        ("knn", "toy"),
        ("knn", "noise"),
        ("shallow", "toy"),
        ("shallow", "noise"),
        ("bert4rec", "toy"),
        ("ease", "none"),
        ("popular", "none"),
        ("random_lists", "none"),
    ]
    assert table.width.tolist() == [8, 128, 8, 128, 8, 0, 0, 0]
    for _, row in table.iterrows():
        run = f"{row.recommender}-{row.embedding}-s1"
        own = pd.read_parquet(root / "runs" / run / "per_user_test.pqt")
        for name in NAMES:
            assert row[name] == pytest.approx(own[name].mean(), abs=1e-6)
            half = stats.sem(own[name]) * stats.t.ppf(0.975, len(own) - 1)
            assert row[f"{name}_ci95"] == pytest.approx(half, abs=1e-6)
    for recommender in ("knn", "shallow", "bert4rec"):
        part = table[table.recommender == recommender].reset_index(drop=True)
        assert results(root, recommender).equals(part)
    page, said = (root / "tables" / "results.md").read_text(), capsys.readouterr().out
    for text in (page, said):
        assert "| noise |   128 |" in text and "BERT4Rec" in text
        assert "- Shallow Net: epochs=1, options from model.yaml" in text


def test_seeds_are_averaged_for_each_user_before_the_interval(tmp_path, call):
    first, second = [0, 1, 0.5, 0.25], [1, 1, 0, 0.75]
    write_run(tmp_path, "shallow", "toy", 1, first)
    write_run(tmp_path, "shallow", "toy", 2, second)
    call("table", "--root", tmp_path)
    (row,) = [row for _, row in results(tmp_path).iterrows()]
    mean = (np.array(first) + second) / 2
    low, high = stats.t.interval(0.95, 3, loc=mean.mean(), scale=stats.sem(mean))
    assert (row.seeds, row.users) == (2, 4)
    for name in NAMES:
        assert row[name] == pytest.approx(mean.mean(), abs=1e-6)
        assert row[f"{name}_ci95"] == pytest.approx((high - low) / 2, abs=1e-6)


def test_the_captions_tell_the_seeds_of_a_row_and_which_rows_have_fewer(tmp_path, call):
    for seed in (1, 2):
        write_run(tmp_path, "shallow", "toy", seed, [0, 1])
    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    call("table", "--root", tmp_path)
    for name in ("results.md", "results.tex"):
        assert "Seeds a row: 2, but KNN toy: 1." in (tmp_path / "tables" / name).read_text()
    write_run(tmp_path, "knn", "toy", 2, [0, 1])
    call("table", "--root", tmp_path)
    assert "Seeds a row: 2.\n" in (tmp_path / "tables" / "results.md").read_text()


def test_a_tag_is_a_row_of_its_own(tmp_path, call):
    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    write_run(tmp_path, "knn", "toy", 1, [1, 1], tag="centred")
    call("table", "--root", tmp_path)
    table = results(tmp_path)
    assert table.tag.tolist() == ["", "centred"]
    assert table["MRR@50"].tolist() == [0.5, 1]
    assert "toy (centred)" in (tmp_path / "tables" / "results.md").read_text()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"split": "b"}, "knn-toy-s1 and knn-toy-s2 were made from different splits"),
        ({"embedding_hash": "b"}, "were made from different embeddings"),
        ({"options": {"seed": 2, "embedding": "toy", "scale": "none"}}, "from different options"),
    ],
)
def test_runs_that_must_not_be_averaged_are_refused(tmp_path, call, other, message):
    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    write_run(tmp_path, "knn", "toy", 2, [0, 1], **other)
    with pytest.raises(InputError, match=f"{message}; choose with --runs"):
        call("table", "--root", tmp_path)
    call("table", "--root", tmp_path, "--runs", "knn-toy-s1")
    assert len(results(tmp_path)) == 1


def test_different_recommenders_of_different_splits_are_refused_too(tmp_path, call):
    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    write_run(tmp_path, "shallow", "other", 1, [0, 1], split="b")
    with pytest.raises(InputError, match="knn-toy-s1 and shallow-other-s1 .* different splits"):
        call("table", "--root", tmp_path)


def test_a_run_that_is_not_finished_is_left_out(tmp_path, call):
    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    (write_run(tmp_path, "knn", "other", 1, [0, 1]) / "metrics.json").unlink()
    call("table", "--root", tmp_path)
    assert results(tmp_path).embedding.tolist() == ["toy"]


@pytest.mark.parametrize("pattern", ["*", "knn-*", "runs/knn-*", "/"])
def test_runs_are_chosen_by_a_pattern(tmp_path, call, pattern):
    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    call("table", "--root", tmp_path, "--runs", pattern)
    assert len(results(tmp_path)) == 1
    for wrong in ("a**", "**a"):
        with pytest.raises(InputError, match="--runs takes a pattern such as .*, got .*a"):
            call("table", "--root", tmp_path, "--runs", wrong)
    with pytest.raises(InputError, match="no finished run matches .*bert"):
        call("table", "--root", tmp_path, "--runs", "bert4rec-*")


def test_every_line_of_a_grid_has_the_same_columns_and_controls_stand_apart(tmp_path, call):
    write_run(tmp_path, "knn", "toy", 1, [0, 1])
    write_run(tmp_path, "bert4rec", "a_long_name", 1, [0, 1])
    write_run(tmp_path, "popular", "none", 1, [0, 1], width=0)
    write_run(tmp_path, "random_lists", "none", 1, [0, 1], width=0)
    call("table", "--root", tmp_path)
    lines = (tmp_path / "tables" / "results.md").read_text().splitlines()
    grids = [line for line in lines if line.startswith("|")]
    first = grids[: grids.index(next(x for x in grids if x.startswith("| toy"))) + 1]
    assert len({line.count("|") for line in first}) == len({len(line) for line in first}) == 1
    assert "-" in [cell.strip() for cell in first[-1].split("|")]
    for place, line in enumerate(lines):
        if line.startswith(("most popular tracks", "random lists")):
            assert lines[place - 1] == "", "markdown would take it for a row of the grid"
