"""--scale: what each unit is, and that no recommender's result follows the one it was given in."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import HERE

from core.options import InputError
from core.registry import RECOMMENDERS
from core.splits import read_split
from recommenders.run_options import SCALES, EmbeddingOptions
from recommenders.scaling import Scaling
from study.search import read_space

MEASURED = [scale for scale in SCALES if scale != "none"]
CENTRED = ["standardize", "whiten"]
FIT = ("--device", "cpu", "--epochs", 2)
TRAINED = [name for name, each in RECOMMENDERS.items() if not each.made_by]
SMALL = {"bimodal_average": ("--hidden", 32), "hybrid": ("--hidden", 32)}


def raw(seed=0, n=9000):
    """Vectors ruled by one direction, with one dimension that never varies."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, 6)) @ rng.normal(size=(6, 6)) * [1, 2, 3, 0.1, 5, 0] + 100
    return mixed.astype(np.float32)


def test_rms_is_one_number():
    found = Scaling.of(raw(), "rms").apply(raw())
    assert found.dtype == np.float32 and np.square(found).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(found / raw(), (found / raw())[0, 0], rtol=1e-5)


def test_standardize_is_mean_and_deviation_of_train_for_other_tracks_too():
    train, others = raw(), raw(1, 50)
    scaling = Scaling.of(train, "standardize")
    exact, varies = train.astype(float), [0, 1, 2, 3, 4]
    for vectors in (train, others):
        expected = ((vectors - exact.mean(axis=0)) / exact.std(axis=0).clip(1e-9))[:, varies]
        np.testing.assert_allclose(scaling.apply(vectors), expected, atol=1e-4)


def test_whitened_dimensions_say_nothing_of_each_other_and_stay_near_to_themselves():
    found = Scaling.of(raw(), "whiten").apply(raw())
    np.testing.assert_allclose(found.T @ found / len(found), np.eye(5), atol=0.05)
    plain = Scaling.of(raw(), "standardize").apply(raw())
    nearness = [np.corrcoef(found[:, i], plain[:, i])[0, 1] for i in range(5)]
    assert min(nearness) > 0.5


def test_few_tracks_of_a_wide_embedding_keep_their_likeness_when_whitened():
    rng = np.random.default_rng(0)
    taste = np.repeat([0, 1], 20)
    vectors = rng.normal(size=(2, 300))[taste] + 2 * rng.normal(size=(40, 300))
    found = Scaling.of(vectors.astype(np.float32), "whiten").apply(vectors.astype(np.float32))
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines, same = unit @ unit.T, taste[:, None] == taste
    np.fill_diagonal(cosines, np.nan)
    assert np.nanmean(cosines[same]) > np.nanmean(cosines[~same]) + 0.01, "not all equally far"


def test_a_projection_has_the_principal_components_of_train_in_the_scales_unit():
    train, others = raw(), raw(1, 50)
    scaling = Scaling.of(train, "standardize")
    plain, theirs = scaling.apply(train).astype(float), scaling.apply(others).astype(float)
    _, values, axes = np.linalg.svd(plain, full_matrices=False)
    unit = np.sqrt(2 / (np.square(values[:2]) / len(plain)).sum())
    own = scaling.projected(train, 2)
    for found, expected in ((own.apply(train), plain), (own.apply(others), theirs)):
        expected = expected @ axes[:2].T * unit
        np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    assert np.square(own.apply(train)).mean() == pytest.approx(1, rel=1e-4)
    white = Scaling.of(train, "whiten").projected(train, 2)
    expected = plain @ axes[:2].T / (values[:2] / np.sqrt(len(plain)))  # the same axes, all alike
    np.testing.assert_allclose(np.abs(white.apply(train)), np.abs(expected), atol=0.05)
    again = Scaling.of(train * 1000, "standardize").projected(train * 1000, 2)
    np.testing.assert_allclose(again.apply(train * 1000), own.apply(train), atol=1e-3)
    assert scaling.projected(train, 5) is scaling and scaling.projected(train, 6) is scaling


@pytest.mark.parametrize("script", ["knn", "train"])
def test_recommenders_hear_projected_vectors(toy_root, call, script, capsys):
    root = toy_root()
    flags = FIT if script == "train" else ()
    heard = ("--root", root, "--embedding", "toy", *flags)
    call(script, *heard)
    call(script, *heard, "--project", 3, "--tag", "narrow")
    lists = [pd.read_parquet(path) for path in sorted((root / "runs").glob("*/recs.pqt"))]
    widths = [yaml.safe_load(path.read_text())["width"] for path in root.glob("runs/*/config.yaml")]
    assert sorted(widths) == [3, 8]  # what is heard, as the table tells it
    assert len(lists) == 2 and not lists[0].track_idx.equals(lists[1].track_idx)
    call(script, *heard, "--project", 9, "--tag", "within")  # as a yaml for several embeddings has
    assert "toy: its 8 dimensions are within --project" in capsys.readouterr().out
    (run,) = (root / "runs").glob("*-within-s1")
    whole = pd.read_parquet(root / "runs" / run.name.replace("-within", "") / "recs.pqt")
    pd.testing.assert_frame_equal(pd.read_parquet(run / "recs.pqt"), whole)
    assert yaml.safe_load((run / "config.yaml").read_text())["width"] == 8
    beside = ("--root", root, "--embedding", "toy+noise", "--width", 16, *flags)
    for most, width in ((3, 6), (9, 17), (20, 24)):  # of each part, where it has more
        call(script, *beside, "--project", most, "--tag", f"of{most}")
        (run,) = (root / "runs").glob(f"*-of{most}-s1")
        assert yaml.safe_load((run / "config.yaml").read_text())["width"] == width
    with pytest.raises(InputError, match="--project 3 --scale none: expected at least 1 number"):
        call(script, "--root", root, "--embedding", "toy", "--project", 3, "--scale", "none")


@pytest.mark.parametrize("scale", MEASURED)
@pytest.mark.parametrize("unit", [1e-10, 1e-3, 2.0**-7, 10, 1e3, 1e20])
def test_the_unit_is_gone(scale, unit):
    expected = Scaling.of(raw(), scale).apply(raw())
    scaled = raw() * np.float32(unit)
    found = Scaling.of(scaled, scale).apply(scaled)
    np.testing.assert_allclose(found, expected, atol=1e-9 if unit == 2.0**-7 else 2e-3)


@pytest.mark.parametrize("scale", CENTRED)
def test_a_dimension_that_does_not_vary_is_left_out_and_named(scale, capsys):
    vectors = np.insert(raw()[:, :5], 2, 0.1, axis=1)
    options = EmbeddingOptions(embedding="mine", scale=scale)
    found = options.arranged(vectors)
    assert "mine: 1 of 6 dimensions left out, the same for every track of train: 2" in (
        capsys.readouterr().out
    )
    assert np.array_equal(found, options.arranged(raw()[:, :5].copy()))
    assert options.arranged(vectors, vectors[:3]).shape == (3, 5)
    with pytest.raises(InputError, match=f"all 5 dimensions .* --scale {scale} leaves nothing"):
        options.arranged(np.ones((10, 5), np.float32))


def test_none_leaves_all_as_it_was_and_overwriting_gives_the_same():
    vectors = raw()
    assert EmbeddingOptions(embedding="mine", scale="none").arranged(vectors) is vectors
    assert EmbeddingOptions(embedding="random").arranged(None) is None
    scaling = Scaling.of(raw()[:, :5], "whiten")
    assert np.array_equal(
        scaling.apply(raw()[:, :5].copy(), overwrite=True), scaling.apply(raw()[:, :5])
    )


def lists_of(root, call, name, embedding, *flags):
    known = RECOMMENDERS[name]
    more = (*FIT, *SMALL.get(name, ())) if known.learns else ()
    call(known.script[:-3], "--root", root, "--embedding", embedding, *more, *flags)
    made = [name, *(n for n, each in RECOMMENDERS.items() if each.made_by == name)]
    runs = [pd.read_parquet(root / "runs" / f"{n}-{embedding}-s1" / "recs.pqt") for n in made]
    return pd.concat(
        [run.assign(by=n) for n, run in zip(made, runs, strict=True)], ignore_index=True
    ).sort_values(["by", "user_id", "rank"])


def assert_same_but_for_ties(expected, found):
    """The same tracks for 99 of 100 places, whose scores differ by a hundredth of their spread."""
    both = expected.merge(found, on=["by", "user_id", "track_idx"])
    assert len(both) > 0.99 * len(expected)
    for by, own in both.groupby("by"):
        spread = expected.score[expected.by == by].std()
        np.testing.assert_allclose(own.score_x, own.score_y, atol=0.01 * spread)


def save(root, name, edit):
    matrix = np.load(root / "embeddings" / "toy.npy")
    np.save(root / "embeddings" / f"{name}.npy", edit(matrix).astype(np.float32))


@pytest.mark.parametrize("name", [name for name in TRAINED if not RECOMMENDERS[name].space])
def test_the_space_of_a_sweep_holds_every_scale(name):
    assert read_space(HERE / "search.yaml", name)["scale"].values == SCALES


@pytest.mark.parametrize("scale", MEASURED)
@pytest.mark.parametrize("name", ["shallow", "hybrid"])
def test_a_network_does_not_see_the_unit_under_any_scale(toy_root, call, name, scale):
    root = toy_root()
    save(root, "larger", lambda m: m * 1e3)
    save(root, "smaller", lambda m: m * 1e-3)
    expected = lists_of(root, call, name, "toy", "--scale", scale)
    for other in ("larger", "smaller"):
        assert_same_but_for_ties(expected, lists_of(root, call, name, other, "--scale", scale))


def real_root(shared, root, users=50):
    """Write a split of the busiest users of Music4All's own log, and vectors that know nothing."""
    log = shared / "music4all" / "userid_trackid_timestamp.tsv"
    plays = pd.read_csv(log, sep="\t", parse_dates=["timestamp"])
    busy = plays.user_id.value_counts().index[:users]
    plays = plays[plays.user_id.isin(busy)].sort_values(["user_id", "timestamp", "track_id"])
    plays["timestamp"] = plays.timestamp.astype("datetime64[us]")
    ids = sorted(plays.track_id.unique())
    plays["track_idx"] = np.searchsorted(ids, plays.track_id).astype("int32")
    place = plays.groupby("user_id").cumcount()
    size = plays.groupby("user_id").track_id.transform("size")
    train, held = plays[place < 0.8 * size], plays[place >= 0.8 * size]
    held = held[held.track_idx.isin(train.track_idx)]
    (root / "data").mkdir(parents=True)
    validates = held.user_id.isin(busy[::2])
    for part, table in (("train", train), ("val", held[validates]), ("test", held[~validates])):
        table = table.assign(count=1).sort_values(["user_id", "track_idx"])
        columns = ["user_id", "track_idx", "timestamp", "count"]
        table[columns].to_parquet(root / "data" / f"{part}.pqt", index=False)
    lines = ["idx,trackid", *(f"{idx},{track}" for idx, track in enumerate(ids))]
    (root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n")
    (root / "embeddings").mkdir()
    vectors = np.random.default_rng(0).normal(3, 1, size=(len(ids), 32))
    np.save(root / "embeddings" / "toy.npy", vectors.astype(np.float32))
    return root


def test_on_music4alls_own_listening_the_unit_is_gone(shared, tmp_path, call):
    root = real_root(shared, tmp_path / "real")
    save(root, "larger", lambda m: m * 1e3)
    save(root, "smaller", lambda m: m * 1e-3)
    for name in ("knn", "shallow"):  # the others on toys, for time
        fit = ("--epochs", 1, "--k", 50) if RECOMMENDERS[name].learns else ("--k", 50)
        expected = lists_of(root, call, name, "toy", *fit)
        assert len(expected) > 2000
        for other in ("larger", "smaller"):
            assert_same_but_for_ties(expected, lists_of(root, call, name, other, *fit))


@pytest.mark.parametrize("name", TRAINED)
def test_whatever_number_an_embedding_is_multiplied_by_the_lists_are_the_same(toy_root, call, name):
    root = toy_root()
    save(root, "larger", lambda m: m * 2.0**10)
    save(root, "smaller", lambda m: m * 1e-3)
    save(root, "thousandfold", lambda m: m * 1e3)
    save(root, "wider", lambda m: np.insert(m, 3, 7, axis=1))
    expected = lists_of(root, call, name, "toy")
    for other in ("larger", "wider"):  # without rounding
        found = lists_of(root, call, name, other)
        assert found.track_idx.tolist() == expected.track_idx.tolist(), other
    for other in ("smaller", "thousandfold"):
        assert_same_but_for_ties(expected, lists_of(root, call, name, other))


@pytest.mark.parametrize("scale", SCALES)
def test_knn_does_not_see_the_order_of_the_dimensions(toy_root, call, scale):
    root = toy_root()
    save(root, "turned", lambda m: m[:, ::-1])
    expected = lists_of(root, call, "knn", "toy", "--scale", scale)
    found = lists_of(root, call, "knn", "turned", "--scale", scale)
    both = expected.merge(found, on=["user_id", "track_idx"])
    assert len(both) == len(expected)
    np.testing.assert_allclose(both.score_x, both.score_y, atol=1e-4)


@pytest.mark.parametrize("unit", [1e-10, 1e20])
def test_raw_vectors_of_any_size_rank_as_their_multiples_do(toy_root, call, unit):
    root = toy_root()
    save(root, "other", lambda m: m * unit)
    expected = lists_of(root, call, "knn", "toy", "--scale", "none")
    found = lists_of(root, call, "knn", "other", "--scale", "none")
    both = expected.merge(found, on=["user_id", "track_idx"])
    assert len(both) == len(expected)
    np.testing.assert_allclose(both.score_x, both.score_y, atol=1e-5)


def test_bert4rec_starts_with_the_same_spread_of_logits_at_any_width(toy_root):
    from recommenders.interactions import load_split
    from train_bert import BertConfig, build, scorer

    root = toy_root()
    split = load_split(root)
    assert len(read_split(root)["train"])
    spread = {}
    for width in (104, 1600):
        vectors = 50 * np.random.default_rng(width).normal(size=(split.n_items, width)) + 9
        config = BertConfig(root=root, embedding="toy", layers=1, ffn=16, dropout=0)
        network = build(config, split, config.arranged(vectors.astype(np.float32))).eval()
        scores = scorer(config, network, split, "cpu")(None)(np.arange(split.n_users))
        spread[width] = float(torch.std(scores))
    assert spread[104] == pytest.approx(1, rel=0.25)
    assert spread[1600] == pytest.approx(spread[104], rel=0.2), spread
