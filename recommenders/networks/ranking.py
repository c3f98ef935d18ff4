"""Scores of users who are the mean of what they heard, over vectors that live on a device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from recommenders.networks.histories import Ragged


def mean_scorer(
    heard: Ragged, vectors: torch.Tensor, candidates: torch.Tensor | None = None
) -> Callable[[np.ndarray], torch.Tensor]:
    """Return the function user_idx (b,) -> <mean of the vectors heard, candidate>, (b, n).

    Args:
        heard: the users' histories, a row for every user_idx.
        vectors: float32 (n_items, h), of the tracks of train.
        candidates: float32 (n, h), of other tracks; None for those of train.
    """
    candidates = vectors if candidates is None else candidates

    def score(users: np.ndarray) -> torch.Tensor:
        rows = heard.take(torch.as_tensor(users, device=vectors.device))
        means = F.embedding_bag(rows.items, vectors, rows.offsets[:-1], mode="mean")
        return means @ candidates.T

    return score
