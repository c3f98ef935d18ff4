"""Top-k lists from scores that live on a device, under the mask of what was heard.

The same lists as lists.top_k makes from numpy scores, which those on a CPU are, ties by item_idx
included, without a full sort: only the list's own places and those that tie with the last of them
leave the scores of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from recommenders.interactions import Interactions, Split
from recommenders.lists import Lists, recommend

GPU_BLOCK_BYTES = 1 << 29  # memory for one block of scores on a GPU
GROUPS = 16  # groups of items for each place of a list, when the k-th best is estimated


def recommend_on(
    device: str, score: Callable[[np.ndarray], torch.Tensor], split: Split, **options
) -> Lists:
    """Return recommend's lists from a score function whose result is a tensor on the device.

    Args:
        device: cpu, cuda or cuda:N.
        score: user_idx (b,) -> scores (b, n_items); its result is overwritten.
        split, options: as recommend takes them.
    """
    if device == "cpu":
        return recommend(lambda users: score(users).float().numpy(), split, **options)
    block = options.pop("block", None) or max(1, GPU_BLOCK_BYTES // (4 * split.n_items))
    return recommend(score, split, block=block, best=DeviceTopK(split.masked, device), **options)


class DeviceTopK:
    """The k best unheard tracks of users; the histories stay on the device.

    Args:
        train: one row for every user_idx; what is in it is in no list (Split.masked).
        device: where the scores will be.
    """

    def __init__(self, train: Interactions, device: str):
        self.offsets = torch.as_tensor(train.offsets, device=device)
        self.items = torch.as_tensor(train.items, device=device)
        self.device = device

    @torch.no_grad()
    def __call__(
        self, scores: torch.Tensor, users: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return item_idx (b, k), -1 after a list's end, and their scores (b, k) float32.

        Args:
            scores: float (b, n_items), higher is better; heard tracks are set to -inf.
            users: user_idx (b,) of the rows.
            k: tracks in a list, at most.

        Raises:
            ValueError: a score is NaN.
        """
        n_users, n_items = scores.shape
        k = min(k, n_items)
        self._mask(scores, torch.as_tensor(users, device=self.device))
        floor = _floor(scores, k)
        if floor.isnan().any():
            raise ValueError(f"scores row {int(floor.isnan().nonzero()[0, 0])} holds NaN")
        rows, items = ((scores >= floor[:, None]) & (scores > -torch.inf)).nonzero(as_tuple=True)
        found = scores[rows, items]
        # Two stable sorts of what comes in order of row and item: row, then score, then item.
        order = torch.sort(found, descending=True, stable=True).indices
        order = order[torch.sort(rows[order], stable=True).indices]
        rows, items, found = rows[order], items[order], found[order]
        place = torch.arange(len(rows), device=self.device) - torch.searchsorted(rows, rows)
        kept = place < k
        rows, place = rows[kept], place[kept]
        best = torch.full((n_users, k), -1, dtype=torch.int64, device=self.device)
        values = torch.full((n_users, k), -torch.inf, dtype=torch.float32, device=self.device)
        best[rows, place], values[rows, place] = items[kept], found[kept].float()
        return best.cpu().numpy(), values.cpu().numpy()

    def _mask(self, scores: torch.Tensor, users: torch.Tensor) -> None:
        starts, lengths = self.offsets[users], self.offsets[users + 1] - self.offsets[users]
        rows = torch.repeat_interleave(lengths)
        before = lengths.cumsum(0) - lengths
        at = torch.arange(len(rows), device=self.device) + (starts - before)[rows]
        scores[rows, self.items[at]] = -torch.inf


def _floor(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Return, for each row, a score that the k best reach and few others do; NaN if it holds one.

    The row is cut into groups. The k-th best of the groups' maxima is such a score, since k groups
    hold one item each that reaches it; it costs one pass.
    """
    n_users, n_items = scores.shape
    size = n_items // (GROUPS * k)
    if size < 2:
        maxima = scores
    else:
        inside = size * GROUPS * k
        whole = scores[:, :inside].view(n_users, size, GROUPS * k).amax(dim=1)
        maxima = torch.cat([whole, scores[:, inside:]], dim=1)
    kth = maxima.topk(k, dim=1).values[:, -1]
    return torch.where(maxima.isnan().any(dim=1), torch.nan, kth)
