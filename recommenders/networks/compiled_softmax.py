"""The cross-entropy of BERT4Rec over frozen tracks, on a CPU: bert4rec.py has it for the rest.

A block of logits is made, turned into powers and multiplied with the tracks before it leaves the
cache of the core that has made it.
"""

from __future__ import annotations

import numpy as np
import torch

from core.cores import by_parts, one_core_a_product
from recommenders.compiled import compiled, exp_of

ROWS, TRACKS = 1 << 8, 1 << 10  # of a block of logits, at most


def is_made_for(items: torch.Tensor, kind: torch.dtype | None) -> bool:
    """Say whether tied_cross_entropy takes such tracks; kind: autocast's type, if there is one."""
    return items.device.type == "cpu" and (kind or items.dtype) == items.dtype == torch.float32


def tied_cross_entropy(
    hidden: torch.Tensor,
    items: torch.Tensor,
    mask: torch.Tensor,
    targets: torch.Tensor,
    *,
    gradients: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Return the sum of logsumexp(logits) - logits[target], logits = hidden @ [items; mask; 0].T.

    Args:
        hidden: float32 (m, width).
        items: float32 (n_items, width).
        mask: float32 (width,).
        targets: int64 (m,) into items.
        gradients: make them too.

    Returns:
        the sum; its gradients by hidden and by mask, or None.
    """
    arrays = (t.detach().contiguous().numpy() for t in (hidden, items, mask, targets))
    h, table, to_mask, own = arrays
    losses, found = np.empty(len(h), np.float32), np.empty_like(h)

    def part(of: slice) -> np.ndarray:
        of_mask = np.zeros_like(to_mask)
        n_blocks = -(-(of.stop - of.start) // ROWS)
        for i in range(n_blocks):
            first, end = ((of.stop - of.start) * k // n_blocks + of.start for k in (i, i + 1))
            rows = slice(first, end)
            some = _Rows(h[rows], to_mask)
            for start in range(0, len(table), TRACKS):
                some.add(table[start : start + TRACKS], gradients=gradients)
            true = table[own[rows]]
            _finish(some.h, to_mask, true, *some.state, losses[rows], found[rows], of_mask)
        return of_mask

    with one_core_a_product():
        of_mask = sum(by_parts(part, len(h)), np.zeros_like(to_mask))
    total = hidden.new_tensor(losses.sum(dtype=np.float64))
    if not gradients:
        return total, None, None
    return total, torch.from_numpy(found), torch.from_numpy(of_mask)


class _Rows:
    """Some hidden states, with the sums of their powers relative to the largest logit so far.

    Args:
        h: float32 (r, width).
        mask: float32 (width,).
    """

    def __init__(self, h: np.ndarray, mask: np.ndarray):
        self.h = h
        self.tops, self.sums, self.shrunk = np.empty((3, len(h)), np.float32)
        self.expected, self.product = np.empty((2, *h.shape), np.float32)
        self.logits = np.empty(len(h) * TRACKS, np.float32)
        _begin(h, mask, *self.state)

    @property
    def state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.tops, self.sums, self.expected

    def add(self, table: np.ndarray, *, gradients: bool) -> None:
        """Take in some tracks, (t, width)."""
        logits = self.logits[: len(self.h) * len(table)].reshape(len(self.h), len(table))
        np.matmul(self.h, table.T, out=logits)
        _to_powers(logits, self.tops, self.sums, self.shrunk)
        if gradients:
            np.matmul(logits, table, out=self.product)
            _grow(self.expected, self.shrunk, self.product)


@compiled
def _begin(h, mask, tops, sums, expected):
    """Begin with the mask, and with padding, whose vector is zero and so its logit."""
    for i in range(len(h)):
        logit = h.dtype.type(0)
        for d in range(len(mask)):
            logit += h[i, d] * mask[d]
        tops[i] = logit if not logit < 0 else h.dtype.type(0)  # a NaN stays
        power = exp_of(logit - tops[i])
        sums[i] = power + exp_of(-tops[i])
        for d in range(len(mask)):
            expected[i, d] = power * mask[d]


@compiled
def _to_powers(logits, tops, sums, shrunk):
    """Turn logits (r, t) into powers relative to the new tops; shrunk: what the old become."""
    for i in range(len(logits)):
        row, top = logits[i], tops[i]
        for j in range(len(row)):
            top = max(top, row[j])
        total = logits.dtype.type(0)
        for j in range(len(row)):
            row[j] = exp_of(row[j] - top)
            total += row[j]
        shrunk[i] = exp_of(tops[i] - top)
        sums[i] = sums[i] * shrunk[i] + total
        tops[i] = top


@compiled
def _grow(expected, shrunk, product):
    for i in range(len(expected)):
        for d in range(expected.shape[1]):
            expected[i, d] = expected[i, d] * shrunk[i] + product[i, d]


@compiled
def _finish(h, mask, true, tops, sums, expected, losses, grad, of_mask):
    """Write losses and gradients of some rows, and add to that of the mask."""
    for i in range(len(h)):
        to_true, to_mask = h.dtype.type(0), h.dtype.type(0)
        for d in range(len(mask)):
            to_true += h[i, d] * true[i, d]
            to_mask += h[i, d] * mask[d]
        losses[i] = tops[i] + np.log(sums[i]) - to_true
        share = exp_of(to_mask - tops[i]) / sums[i]
        for d in range(len(mask)):
            grad[i, d] = expected[i, d] / sums[i] - true[i, d]
            of_mask[d] += share * h[i, d]
