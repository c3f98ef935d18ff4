"""Embeddings: what is refused, what missing rows become, and means against a loop."""

import dataclasses
import json

import numpy as np
import pytest

from core.artifacts import sha256
from core.options import InputError
from recommenders.embedding_files import matrix_shape
from recommenders.interactions import load_split
from recommenders.vectors import (
    embedding_hash,
    knn_scorer,
    load_item_vectors,
    mean_vectors,
    unit_rows,
)


@pytest.fixture
def root(toy_root):
    return toy_root()


@pytest.fixture
def split(root):
    return load_split(root)


def change(root, edit, name="toy"):
    """Apply edit to the matrix of embeddings/toy.npy and save it under the name."""
    matrix = np.load(root / "embeddings" / "toy.npy")
    edited = edit(matrix)
    np.save(root / "embeddings" / f"{name}.npy", matrix if edited is None else edited)


def fill(row, value):
    def edit(matrix):
        matrix[row] = value

    return edit


def test_rows_are_those_of_the_train_tracks_in_order_of_item_idx(root, split):
    vectors = load_item_vectors(root, "toy", split)
    matrix = np.load(root / "embeddings" / "toy.npy")
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, matrix[split.track_idx])


def test_a_users_own_matrix_needs_no_json_and_may_hold_other_floats(root, split):
    change(root, lambda matrix: np.asfortranarray(matrix.astype(np.float64)), "my_own2")
    vectors = load_item_vectors(root, "my_own2", split)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, load_item_vectors(root, "toy", split))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m[:-1], r"toy\.npy has 159 rows, trackid_sorted\.csv has 160; make it again"),
        (lambda m: np.vstack([m, m]), "has 320 rows"),
        (lambda m: m[:, 0], r"holds float32 \(160,\), expected float32 \(n, width\)"),
        (lambda m: m.astype(int), r"holds int64 \(160, 8\), expected float32"),
        (fill(77, np.nan), "no vector for 1 of .* tracks .row 77 holds NaN.*--missing mean"),
        (fill(77, 0), "no vector for 1 .* .row 77 holds only zeros.*--missing mean"),
        (fill((77, 3), np.inf), "row 77 holds an infinite value"),
        (fill((77, 3), -np.inf), "row 77 holds an infinite value"),
        (lambda m: m.astype(object), "cannot be read as a numpy array"),
    ],
)
def test_a_wrong_matrix_is_an_error_that_names_file_and_row(root, split, edit, message):
    assert 77 in split.track_idx
    change(root, edit)
    with pytest.raises(InputError, match=message):
        load_item_vectors(root, "toy", split)


def test_a_file_of_another_kind_is_an_error(root, split):
    path = root / "embeddings" / "toy.npy"
    for content in (b"", b"no array", path.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="toy.npy cannot be read as a numpy array"):
            load_item_vectors(root, "toy", split)
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros((160, 8)))
    with pytest.raises(InputError, match="toy.npy is an archive of arrays, expected one array"):
        load_item_vectors(root, "toy", split)


@pytest.mark.filterwarnings("ignore:Reading:UserWarning")  # numpy, of what it mends itself
def test_a_header_with_any_bit_turned_is_an_error_or_still_a_header(tmp_path):
    path = tmp_path / "embeddings" / "toy.npy"
    path.parent.mkdir()
    np.save(path, np.zeros((3, 2), np.float32))
    content, errors = path.read_bytes(), []
    for bit in range(8 * 128):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert matrix_shape(tmp_path, "toy")[0] <= 3
        except InputError as error:
            errors.append(str(error))
    assert len(errors) > 900 and all(str(path) in error for error in errors)


def test_rows_of_tracks_that_nobody_played_in_train_may_be_missing(root, split):
    unplayed = np.setdiff1d(np.arange(split.n_tracks), split.track_idx)
    change(root, fill(unplayed, np.nan))
    assert np.isfinite(load_item_vectors(root, "toy", split)).all()


@pytest.mark.parametrize("hole", [np.nan, 0])
def test_missing_rows_become_the_mean_of_the_other_train_tracks(root, split, hole):
    gone = split.track_idx[[3, 5]]
    change(root, fill(gone, hole))
    vectors = load_item_vectors(root, "toy", split, missing="mean")
    matrix = np.load(root / "embeddings" / "toy.npy")
    others = [matrix[i] for i in split.track_idx if i not in gone]
    expected = np.sum(others, axis=0, dtype=np.float64) / len(others)
    np.testing.assert_allclose(vectors[[3, 5]], [expected, expected], rtol=1e-6)
    assert np.array_equal(vectors[6:], matrix[split.track_idx][6:])


def test_a_missing_cold_row_becomes_the_mean_of_the_train_tracks_and_is_counted_as_cold(
    root, split
):
    train = load_item_vectors(root, "toy", split)
    cold = dataclasses.replace(split, track_idx=np.setdiff1d(np.arange(160), split.track_idx))
    change(root, fill(cold.track_idx[0], np.nan))
    with pytest.raises(InputError, match=rf"no vector for 1 of {cold.n_items} cold tracks .row"):
        load_item_vectors(root, "toy", cold, known=train)
    found = load_item_vectors(root, "toy", cold, known=train, missing="mean")
    np.testing.assert_allclose(found[0], train.mean(axis=0, dtype=np.float64), rtol=1e-6)
    change(root, fill(cold.track_idx, np.nan))
    found = load_item_vectors(root, "toy", cold, known=train, missing="mean")
    assert np.isfinite(found).all(), "train has a mean though no cold track has a vector"


def test_a_matrix_without_any_row_has_no_mean(root, split):
    change(root, lambda matrix: np.full_like(matrix, np.nan))
    with pytest.raises(InputError, match=r"no vector for (\d+) of \1 train tracks"):
        load_item_vectors(root, "toy", split, missing="mean")


def test_an_unknown_embedding_is_an_error_that_names_the_nearest_and_the_command(root, split):
    with pytest.raises(InputError) as error:
        load_item_vectors(root, "shufled", split)
    assert "did you mean 'shuffled'? there are noise, random, shuffled, toy" in str(error.value)
    assert "python import_embedding.py" in str(error.value)
    for name in ("../toy", "Toy", "toy.npy", ""):
        with pytest.raises(InputError, match="must be lower-case letters, digits and '_' only"):
            load_item_vectors(root, name, split)


def test_the_json_of_another_matrix_or_of_other_tracks_is_refused(root, split):
    matrix, facts = root / "embeddings" / "toy.npy", root / "embeddings" / "toy.json"
    right = {"sha256": sha256(matrix), "trackids_sha256": sha256(root / "trackid_sorted.csv")}
    facts.write_text(json.dumps(right))
    assert load_item_vectors(root, "toy", split) is not None
    facts.write_text(json.dumps({**right, "trackids_sha256": "0" * 64}))
    with pytest.raises(InputError, match="made for another trackid_sorted.csv; run .*toy"):
        load_item_vectors(root, "toy", split)
    facts.write_text(json.dumps({**right, "sha256": "0" * 64}))
    with pytest.raises(InputError, match="is not the file toy.json describes"):
        load_item_vectors(root, "toy", split)
    facts.write_text("{")
    with pytest.raises(InputError, match="toy.json cannot be read"):
        load_item_vectors(root, "toy", split)


def test_random_has_no_vectors_to_load_and_noise_is_the_same_for_everybody(root, split):
    assert load_item_vectors(root, "random", split) is None
    noise = load_item_vectors(root, "noise", split, width=5)
    assert noise.shape == (split.n_items, 5) and noise.dtype == np.float32
    assert np.array_equal(noise, load_item_vectors(root, "noise", split, width=5))
    wide = load_item_vectors(root, "noise", split, width=2000)
    assert abs(wide.mean()) < 0.01 and abs(wide.std() - 1) < 0.01


def test_the_fingerprint_of_an_embedding_follows_its_content_or_recipe(root):
    before = embedding_hash(root, "toy", 128)
    assert embedding_hash(root, "toy", 64) == before, "width is of random and noise only"
    change(root, fill((0, 0), 9))
    assert embedding_hash(root, "toy", 128) != before
    assert embedding_hash(root, "noise", 64) != embedding_hash(root, "noise", 128)
    assert embedding_hash(root, "noise", 64) != embedding_hash(root, "random", 64)


def test_a_users_vector_is_the_mean_of_its_tracks_each_once(root, split):
    vectors = load_item_vectors(root, "toy", split)
    assert split.train.counts.max() > 1, "plays are not to weigh"
    means = mean_vectors(split.train, vectors)
    assert means.dtype == np.float32
    for user in range(split.n_users):
        total = np.zeros(vectors.shape[1])
        for item in split.train.of(user):
            total += vectors[item]
        np.testing.assert_allclose(means[user], total / len(split.train.of(user)), rtol=1e-5)


def test_knn_scores_are_cosines_of_mean_and_track_in_any_order_and_number_of_users(root, split):
    vectors = load_item_vectors(root, "toy", split)
    score = knn_scorer(split.train, vectors)
    for users in ([3], [7, 0, 7], np.arange(split.n_users), [2]):
        found = score(np.asarray(users))
        for row, user in enumerate(users):
            mean = vectors[split.train.of(user)].mean(axis=0)
            lengths = np.linalg.norm(mean) * np.linalg.norm(vectors, axis=1)
            np.testing.assert_allclose(found[row], vectors @ mean / lengths, atol=1e-6)


def test_a_row_of_zeros_has_cosine_0_with_everything():
    assert unit_rows(np.zeros((2, 3), np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]
