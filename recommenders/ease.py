"""EASE: what lists without content can reach, the strong baseline that hears nothing.

A track's score for a user is the user's history times weights between tracks, and the weights are
those that rebuild train best, exactly, with an L2 penalty and none from a track to itself:

    B = I - P / diag(P),   P = (X^T X + l2 I)^-1        X: users x tracks, 1 where played in train

Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019 (arXiv 1905.03375).

P is tracks x tracks: 25 GB at the study's 56,193. But by the matrix inversion lemma, with the
users' own K = (X X^T + l2 I)^-1, a quarter of the size squared,

    P = (I - X^T K X) / l2,    so that X P = K X,   and   diag(P) = (1 - diag(X^T K X)) / l2

which gives the same scores from a users x users inverse: 2.3 GB for 17,053 users. Whichever side
is smaller is inverted. At the study's size, on two cores: 201 s for the inverse, 59 s for the lists
of 12,184 users, at most 3.3 GB (benchmarks/bench_ease.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix

from core.options import InputError, WorkError
from recommenders.interactions import Interactions

MOST = 40_000  # rows of the matrix that is inverted: 12.8 GB
BLOCK = 1024  # rows, or columns, at a time


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
            f"takes {8e-9 * side**2:.0f} GB; it is made for at most {MOST:,}: leave ease out of "
            "--only"
        )
    inverse = inverse_gram(x if by_users else x.T.tocsr(), l2)
    if by_users:
        columns = x.tocsc()
        diagonal = np.empty(n_items)
        for start in range(0, n_items, BLOCK):
            block = columns[:, start : start + BLOCK]
            product = (block.T @ inverse).T  # K is symmetric; sparse comes first
            diagonal[start : start + BLOCK] = block.multiply(product).sum(axis=0)
        own = (1 - diagonal) / l2
        transposed = columns.T.tocsr()
        return _less_heard(lambda users: (transposed @ inverse[:, users]).T / -own, x, seen_again)
    own = inverse.diagonal().copy()
    return _less_heard(lambda users: (x[users] @ inverse) / -own, x, seen_again)


def _less_heard(score: Callable, x: csr_matrix, seen_again: bool) -> Callable:
    """Return x B of x B - x, where it is asked for."""
    return (lambda users: score(users) + x[users].toarray()) if seen_again else score


def inverse_gram(x: csr_matrix, l2: float) -> np.ndarray:
    """Return (x x^T + l2 I)^-1, float64 (n, n), in the memory of its result and a few blocks.

    By Gauss and Jordan's elimination, a block of rows at a time and in place, which needs no
    pivoting where the matrix is positive definite. It is all matrix products: LAPACK's dpotrf, half
    the work, ends the process by a segmentation fault at the study's 17,053 rows in scipy's build.

    Args:
        x: (n, m).
        l2: above 0, so that the matrix is positive definite.

    Raises:
        WorkError: it is not, in float64.
    """
    n = x.shape[0]
    blocks = [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    gram = np.empty((n, n))
    for rows in blocks:
        gram[rows] = (x[rows] @ x.T).toarray()
    gram[np.diag_indices(n)] += l2
    for own in blocks:
        row, column = gram[own].copy(), gram[:, own].copy()
        pivot = _inverse(row[:, own], l2)
        scaled = column @ pivot
        for rows in blocks:
            if rows != own:
                gram[rows] -= scaled[rows] @ row
        gram[own] = pivot @ row
        gram[:, own] = -scaled
        gram[own, own] = pivot
    return gram


def _inverse(block: np.ndarray, l2: float) -> np.ndarray:
    try:
        np.linalg.cholesky(block)  # says whether it is positive definite
        return np.linalg.inv(block)
    except np.linalg.LinAlgError as error:
        raise WorkError(
            f"EASE's matrix is not positive definite at --l2 {l2:g}; use a larger one"
        ) from error
