"""Decoupled contrastive losses of two views of the same tracks: ADCL, DCL, SDCL, and weighted.

Let c_i and k_i be the unit outputs of the two towers for track i of a batch of B, s_ij = <c_i, k_j>
T the temperature, e(x, y) = exp(<x, y> / T). The positive pair is left out of the sum that it is
compared with:

    ADCL       mean_i [ -s_ii / T + log sum_{j != i} e(c_i, k_j) ]
    DCL(c, k)  mean_i [ -s_ii / T + log sum_{j != i} (e(c_i, c_j) + e(c_i, k_j)) ]
    DCL        DCL(c, k) + DCL(k, c)
    SDCL       mean_i [ -s_ii / T + log sum_{j != i} (e(c_i, c_j) + e(c_i, k_j) + e(k_i, k_j)) ]

The weighted forms multiply -s_ii / T by 2 - B softmax_i(s_ii / sigma): the nearer a pair is, beside
the others of its batch, the less it counts.

Source: Yeh et al., Decoupled Contrastive Learning, ECCV 2022, as the extended study uses it.
"""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

LOSSES = ("adcl", "dcl", "sdcl")
LOGIT_BYTES = {"cpu": 1 << 25, "cuda": 1 << 29}  # for one block of anchors, at most (or one row)


def contrastive_loss(
    kind: str,
    content: torch.Tensor,
    collaborative: torch.Tensor,
    *,
    temperature: float,
    sigma: float | None = None,
    anchors: slice | None = None,
) -> torch.Tensor:
    """Return the mean of a loss over the anchors of a batch, a scalar.

    Args:
        kind: adcl, dcl or sdcl.
        content, collaborative: float (B, h), rows of length 1; row i of both is the same track.
        temperature: T.
        sigma: of the weights; None for the plain form.
        anchors: which i the mean is over; None for all. The j are all tracks of the batch.
    """
    c, k = content, collaborative
    anchors = anchors or slice(0, len(c))
    similar = torch.linalg.vecdot(c, k)
    pull = similar / temperature
    if sigma is not None:
        pull = pull * (2 - len(c) * torch.softmax(similar / sigma, dim=0))
    pull = pull[anchors].mean()
    if kind == "adcl":
        return mean_log_sum(anchors, temperature, (c, k)) - pull
    if kind == "dcl":
        one = mean_log_sum(anchors, temperature, (c, c), (c, k))
        return one + mean_log_sum(anchors, temperature, (k, k), (k, c)) - 2 * pull
    return mean_log_sum(anchors, temperature, (c, c), (c, k), (k, k)) - pull


def mean_log_sum(anchors: slice, temperature: float, *pairs) -> torch.Tensor:
    """Return the mean over anchors i of log sum over pairs (x, y) and j != i of e(x_i, y_j).

    Args:
        anchors: rows.
        temperature: T.
        pairs: of tensors (B, h); B is at least 2.

    A block of anchors at a time, with the gradient taken on the way: B x B numbers never stand in
    memory, neither here nor for the gradient.
    """
    flat = [view for pair in pairs for view in pair]
    wanted = torch.is_grad_enabled() and any(view.requires_grad for view in flat)
    return _MeanLogSum.apply(anchors, temperature, wanted, *flat)


class _MeanLogSum(torch.autograd.Function):
    """The gradient of x_i is the softmax's mean of the y_j, and that of y_j its sum of the x_i."""

    @staticmethod
    def forward(ctx, anchors, temperature: float, with_gradients: bool, *flat):
        device = flat[0].device.type
        kind = flat[0].dtype
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        sums = [torch.zeros_like(view) for view in flat] if with_gradients else None
        with torch.autocast(device, enabled=False):
            views = [view.to(kind) for view in flat]
            total, size = flat[0].new_zeros(()), len(flat[0])
            block = max(1, LOGIT_BYTES[device] // (4 * size * len(flat) // 2))
            for first in range(anchors.start, anchors.stop, block):
                rows = slice(first, min(first + block, anchors.stop))
                total += _add_block(views, rows, temperature, sums, flat[0].dtype)
        n = anchors.stop - anchors.start
        if with_gradients:
            ctx.gradients = [each.div_(n * temperature) for each in sums]
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, None, *(each.mul_(grad) for each in gradients)


def _add_block(views, rows: slice, temperature: float, sums, kind) -> torch.Tensor:
    """Add the gradients of some anchors to the sums; return the sum of their logarithms."""
    lefts, rights = views[::2], views[1::2]
    products = [x[rows] @ y.T for x, y in zip(lefts, rights, strict=True)]
    logits = torch.cat([each.to(kind) for each in products], dim=1).div_(temperature)
    place = torch.arange(rows.stop - rows.start, device=logits.device)
    size = len(rights[0])
    for pair in range(len(lefts)):
        logits[place, pair * size + rows.start + place] = -torch.inf
    logarithms = torch.logsumexp(logits, dim=1)
    if sums is not None:
        shares = logits.sub_(logarithms[:, None]).exp_().to(lefts[0].dtype)
        for pair, (x, y) in enumerate(zip(lefts, rights, strict=True)):
            share = shares[:, pair * size : (pair + 1) * size]
            sums[2 * pair][rows] += (share @ y).to(kind)
            sums[2 * pair + 1] += (share.T @ x[rows]).to(kind)
    return logarithms.sum()
