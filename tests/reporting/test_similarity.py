"""CKA, shared neighbours and principal axes against their plain definitions and scipy."""

import numpy as np
import pytest
from scipy import linalg, stats

from reporting.neighbours import all_nearest
from reporting.similarity import (
    cka_matrix,
    linear_cka,
    on_axes,
    overlap_matrix,
    principal_axes,
)


def normal(n, width, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def plain_cka(one, other):
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the centred Gram matrices, as defined."""
    n = len(one)
    centre = np.eye(n) - np.ones((n, n)) / n
    kernels = [x.astype(float) @ x.T.astype(float) for x in (one, other)]

    def hsic(a, b):
        return np.trace(a @ centre @ b @ centre) / (n - 1) ** 2

    return hsic(*kernels) / np.sqrt(np.prod([hsic(kernel, kernel) for kernel in kernels]))


@pytest.mark.parametrize("widths", [(5, 7), (40, 3), (90, 120)])
def test_linear_cka_is_the_normalised_hsic_of_linear_kernels(widths):
    one = normal(60, widths[0]) + 3
    other = normal(60, widths[1], seed=1) + one[:, :1] * 2 - 50
    assert linear_cka(one, other) == pytest.approx(plain_cka(one, other), abs=2e-6)


def test_of_one_dimension_each_linear_cka_is_the_squared_correlation():
    one, other = normal(200, 1), normal(200, 1, seed=1)
    other += one
    expected = stats.pearsonr(one[:, 0], other[:, 0]).statistic ** 2
    assert linear_cka(one, other) == pytest.approx(expected, abs=1e-6)


def test_linear_cka_does_not_see_rotation_shift_and_scale_but_sees_a_stretched_axis():
    one = normal(100, 6)
    rotation = linalg.qr(normal(6, 6, seed=2))[0]
    assert linear_cka(one, 1e6 * one @ rotation + 7) == pytest.approx(1, abs=1e-5)
    assert linear_cka(one, one * [30, 1, 1, 1, 1, 1]) < 0.7


def test_an_embedding_that_is_the_same_for_every_track_is_like_none():
    assert linear_cka(np.ones((20, 3)), normal(20, 3)) == 0


def test_the_matrix_of_cka_is_symmetric_with_ones():
    matrix = cka_matrix([normal(50, 4), normal(50, 9, 1), normal(50, 2, 2)])
    assert np.array_equal(matrix, matrix.T) and np.array_equal(np.diag(matrix), np.ones(3))
    assert ((matrix >= 0) & (matrix <= 1)).all()


def plain_neighbours(vectors, row, k):
    """Every cosine, one at a time; the track itself left out; equal ones in order of row."""
    cosine = [
        v @ vectors[row] / (np.linalg.norm(v) * np.linalg.norm(vectors[row])) for v in vectors
    ]
    order = sorted((-value, other) for other, value in enumerate(cosine) if other != row)
    return [other for _, other in order[:k]]


def nearest(vectors, k):
    return np.concatenate([places for places, _ in all_nearest(vectors, k)])


@pytest.mark.parametrize("pieces", [512, 7], ids=["rows against all", "pairs of blocks"])
def test_neighbours_are_those_of_the_largest_cosines(monkeypatch, pieces):
    monkeypatch.setattr("reporting.neighbours.TRACKS", pieces)
    vectors = normal(40, 5) * np.linspace(0.1, 9, 40, dtype=np.float32)[:, None]
    expected = [plain_neighbours(vectors.astype(float), row, 6) for row in range(40)]
    assert nearest(vectors, 6).tolist() == expected


@pytest.mark.parametrize("pieces", [512, 2], ids=["rows against all", "pairs of blocks"])
def test_equal_tracks_are_each_others_neighbours_in_order_of_row(monkeypatch, pieces):
    monkeypatch.setattr("reporting.neighbours.TRACKS", pieces)
    vectors = np.tile(normal(1, 4), (5, 1))
    assert nearest(vectors, 3)[2].tolist() == [0, 1, 3]


@pytest.mark.parametrize("pieces", [512, 2], ids=["rows against all", "pairs of blocks"])
def test_a_track_without_a_vector_is_nobodys_neighbour_and_has_none(monkeypatch, pieces):
    monkeypatch.setattr("reporting.neighbours.TRACKS", pieces)
    vectors = normal(6, 3)
    vectors[2] = 0
    found = nearest(vectors, 5)
    assert 2 not in found
    assert found[2].tolist() == [-1] * 5
    assert (found[0] >= 0).sum() == 4


def test_overlap_is_the_mean_share_of_common_neighbours():
    one = np.array([[1, 2, 3], [4, 5, 6]])
    other = np.array([[3, 2, 9], [7, 8, 9]])
    sets = [len(set(a) & set(b)) / 3 for a, b in zip(one, other, strict=True)]
    matrix = overlap_matrix([one, other])
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(np.mean(sets)) == pytest.approx(1 / 3)
    assert matrix[0, 0] == 1


def test_the_overlap_of_unrelated_embeddings_is_that_of_chance():
    n, k = 400, 10
    found = [nearest(normal(n, 16, seed), k) for seed in range(2)]
    # Of k draws without replacement among n - 1, as the docstring says; deviation over n tracks.
    expected = k / (n - 1)
    deviation = stats.hypergeom(n - 1, k, k).std() / k / np.sqrt(n)
    assert abs(overlap_matrix(found)[0, 1] - expected) < 4 * deviation


def test_missing_neighbours_are_not_shared():
    nothing = np.array([[1, -1]])
    assert overlap_matrix([nothing, nothing])[0, 1] == 0.5


@pytest.mark.parametrize("shape", [(80, 6), (9, 30), (80, 40), (30, 90)])
def test_principal_axes_are_those_of_the_singular_value_decomposition(shape):
    vectors = normal(*shape) * np.arange(1, shape[1] + 1) + 2
    units = vectors / linalg.norm(vectors, axis=1, keepdims=True)
    left, values, axes = linalg.svd(units - units.mean(axis=0), full_matrices=False)
    found, shares = principal_axes(units)
    points = on_axes(units, found)
    assert shares == pytest.approx(values[:2] ** 2 / (values**2).sum(), abs=1e-6)
    for axis in range(2):
        weights = axes[axis]
        sign = np.sign(weights[np.abs(weights).argmax()])
        assert points[:, axis] == pytest.approx(sign * left[:, axis] * values[axis], abs=1e-6)


def test_a_map_of_one_dimension_is_a_line():
    units = np.array([[1.0], [-1.0], [1.0]])
    axes, shares = principal_axes(units)
    points = on_axes(units, axes)
    assert points[:, 1].tolist() == [0, 0, 0] and shares.tolist() == [1, 0]
