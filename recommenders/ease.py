"""EASE: what lists without content can reach, the strong baseline that hears nothing.

A track's score for a user is the user's history times weights between tracks, and the weights are
those that rebuild train best, exactly, with an L2 penalty and none from a track to itself:

    B = I - P / diag(P),   P = (X^T X + l2 I)^-1        X: users x tracks, 1 where played in train

Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019 (arXiv 1905.03375).

P is tracks x tracks: 25 GB at the study's 56,193. But by the matrix inversion lemma, with the
users' own K = (X X^T + l2 I)^-1, a quarter of the size squared,

    P = (I - X^T K X) / l2,    so that X P = K X,   and   diag(P) = (1 - diag(X^T K X)) / l2

which gives the same scores from a users x users inverse. Whichever side is smaller is inverted; of
more than SMALL rows in float32, in half the time and memory (1.2 GB for 17,053 users), where that
is near enough: drawn columns of the inverse times the matrix give those of I but for NEAR, or it
is done again in float64. benchmarks/bench_ease.py measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
from scipy.sparse import csr_matrix

from core.cores import by_parts
from core.options import InputError, WorkError
from recommenders.compiled import compiled
from recommenders.interactions import Interactions

MOST = 40_000  # rows of the matrix that is inverted: 6.4 GB in float32
SMALL = 8_000  # rows that are inverted in float64 in any case: 0.5 GB
NEAR = 1e-3  # of 1, the most that a column of the matrix times its inverse may be off
BLOCK = 1024  # rows, or columns, at a time
TOGETHER = 64  # users whose scores are summed together: what a core adds at once


def ease_scorer(
    train: Interactions, n_items: int, l2: float, *, seen_again: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function user_idx (b,) -> scores (b, n_items), those of x B of each user's x.

    For tracks the user has heard the score is x B less 1, unless they may be recommended.

    Args:
        seen_again: they may be.

    Raises:
        InputError: l2 is not above 0, or users and tracks are both more than MOST.
        WorkError: the matrix cannot be inverted in float64: l2 is too small beside its entries.
    """
    if l2 <= 0:
        raise InputError(f"--l2 must be above 0, got {l2:g}")
    x = csr_matrix(
        (np.ones(len(train.items)), train.items, train.offsets), (len(train.users), n_items)
    )
    by_users = x.shape[0] <= n_items
    side = min(x.shape)
    if side > MOST:
        raise InputError(
            f"EASE inverts a matrix of the users or of the tracks, of {side:,} rows here, which "
            f"takes {4e-9 * side**2:.0f} GB; it is made for at most {MOST:,}: leave ease out of "
            "--only"
        )
    inverse = _inverted(x if by_users else x.T.tocsr(), l2)
    if by_users:
        tracks = x.T.tocsr()
        rows = (x.indptr, x.indices, tracks.indptr, tracks.indices)
        own = (1 - sum(by_parts(partial(_own_weights, rows, inverse), _n_pairs(x)))) / l2
        score = partial(_scores, tracks, inverse, (-1 / own).astype(inverse.dtype))
        return _less_heard(score, x, seen_again)
    own, x = inverse.diagonal().copy(), x.astype(inverse.dtype)
    return _less_heard(lambda users: (x[users] @ inverse) / -own, x, seen_again)


def _less_heard(score: Callable, x: csr_matrix, seen_again: bool) -> Callable:
    """Return x B of x B - x, where it is asked for."""
    return (lambda users: score(users) + x[users].toarray()) if seen_again else score


def _inverted(x: csr_matrix, l2: float) -> np.ndarray:
    """Return inverse_gram in the precision that is needed."""
    if x.shape[0] > SMALL:
        with suppress(WorkError):  # what float32 cannot invert, float64 may
            inverse = inverse_gram(x, l2, np.float32)
            chosen = np.random.default_rng(0).choice(x.shape[0], min(32, x.shape[0]), False)
            columns = inverse[:, chosen].astype(np.float64)
            product = x @ (x.T @ columns) + l2 * columns
            product[chosen, np.arange(len(chosen))] -= 1
            if np.abs(product).max() <= NEAR:
                return inverse
            del inverse
    return inverse_gram(x, l2)


def _n_pairs(x: csr_matrix) -> int:
    """Return how many rows are first or last by turns: such pairs take alike in a triangle."""
    return -(-x.shape[0] // 2)


def _own_weights(rows: tuple, inverse: np.ndarray, part: slice) -> np.ndarray:
    """Return the share of some users u in x_i^T K x_i of every track i, float64 (n_items,)."""
    found = np.zeros(len(rows[2]) - 1)
    _add_own_weights(*rows, inverse, part.start, part.stop, found)
    return found


@compiled
def _of_pairs(first, end, n):
    """Return the rows first .. end - 1, and as many from the end: each row of n in one pair."""
    rows = [row for row in range(first, end)]
    rows += [n - 1 - row for row in range(first, end) if n - 1 - row > row]
    return rows


@compiled
def _add_own_weights(of_user, tracks, of_track, users, inverse, first, end, found):
    """K is symmetric, and each pair of users comes once: a row of K stays in the cache."""
    for u in _of_pairs(first, end, len(inverse)):
        row = inverse[u]
        for i in tracks[of_user[u] : of_user[u + 1]]:
            total = 0.0
            for v in users[of_track[i] : of_track[i + 1]]:
                if v >= u:
                    break
                total += row[v]
            found[i] += 2 * total + row[u]


def _scores(
    tracks: csr_matrix, inverse: np.ndarray, factors: np.ndarray, users: np.ndarray
) -> np.ndarray:
    """Return x_i^T K of the users, times each track's factor: float (b, n_items).

    Args:
        tracks: n_items x users, of whose rows only the places are read.
    """
    scores = np.empty((len(users), len(factors)), inverse.dtype)
    starts = range(0, len(users), TOGETHER)

    def part(of: slice) -> None:
        some = np.zeros((len(inverse), TOGETHER), inverse.dtype)
        for start in starts[of]:
            own = users[start : start + TOGETHER]
            some[:, : len(own)] = inverse[own].T
            into = scores[start : start + TOGETHER]
            _add_scores(tracks.indptr, tracks.indices, some, factors, into)

    by_parts(part, len(starts))
    return scores


@compiled
def _add_scores(of_track, users, weights, factors, scores):
    sums = np.empty(TOGETHER, weights.dtype)
    for i in range(len(factors)):
        sums[:] = 0
        for u in users[of_track[i] : of_track[i + 1]]:
            for k in range(TOGETHER):
                sums[k] += weights[u, k]
        for k in range(len(scores)):
            scores[k, i] = sums[k] * factors[i]


def inverse_gram(x: csr_matrix, l2: float, precision: type = np.float64) -> np.ndarray:
    """Return (x x^T + l2 I)^-1, (n, n), in the memory of its result and a few blocks.

    By the symmetric sweep, a block of rows at a time and in place: sweeping block k of a symmetric
    A puts -A_kk^-1 in its place, A_ik A_kk^-1 beside it and A_ij - A_ik A_kk^-1 A_kj elsewhere, and
    when all are swept -A^-1 stands there. It needs no pivoting where the matrix is positive
    definite, stays symmetric, so that only what is on and below the diagonal is computed, and is
    all matrix products: LAPACK's dpotrf, the same work, ends the process by a segmentation fault at
    the study's 17,053 rows in scipy's build. Source: Goodnight, A Tutorial on the SWEEP Operator,
    The American Statistician 33, 1979.

    Args:
        x: (n, m), of zeros and ones.
        l2: above 0, so that the matrix is positive definite.
        precision: float32 or float64, of the matrix and the products; blocks on the diagonal are
            inverted in float64 in any case.

    Raises:
        WorkError: it is not, in that precision.
    """
    n = x.shape[0]
    blocks = [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    gram, product = np.empty((n, n), precision), np.empty((min(BLOCK, n), n), precision)
    columns = x.tocsc()
    rows = (x.indptr, x.indices, columns.indptr, columns.indices)
    by_parts(lambda part: _count(*rows, part.start, part.stop, gram), _n_pairs(x))
    for own in blocks:
        below = np.tril(gram[own, own])
        gram[own, own] = below + np.tril(below, -1).T
    gram[np.diag_indices(n)] += l2
    for own in blocks:
        before, after = slice(0, own.start), slice(own.start, n)
        column = np.concatenate([gram[own, before].T, gram[after, own]])
        pivot = _inverse(column[own].astype(np.float64), l2).astype(precision)
        scaled = column @ pivot
        for rows in blocks:
            if rows != own:
                less = product[: rows.stop - rows.start, : rows.stop]
                gram[rows, : rows.stop] -= np.matmul(scaled[rows], column[: rows.stop].T, out=less)
        gram[own, before], gram[after, own] = scaled[before].T, scaled[after]
        gram[own, own] = -pivot
    for rows in blocks:
        whole = -gram[rows, : rows.stop]
        gram[rows, : rows.stop], gram[: rows.stop, rows] = whole, whole.T
    return gram


@compiled
def _count(of_row, columns, of_column, rows, first, end, gram):
    """Write some rows of x x^T, on and below the diagonal: the columns that two rows share."""
    for u in _of_pairs(first, end, len(gram)):
        own = gram[u]
        own[: u + 1] = 0
        for i in columns[of_row[u] : of_row[u + 1]]:
            for v in rows[of_column[i] : of_column[i + 1]]:
                if v > u:
                    break
                own[v] += 1


def _inverse(block: np.ndarray, l2: float) -> np.ndarray:
    try:
        np.linalg.cholesky(block)  # says whether it is positive definite
        return np.linalg.inv(block)
    except np.linalg.LinAlgError as error:
        raise WorkError(
            f"EASE's matrix is not positive definite at --l2 {l2:g}; use a larger one"
        ) from error
