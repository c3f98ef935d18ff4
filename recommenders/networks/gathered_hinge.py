"""What compiled_hinge.py has for a CPU, in torch's operations, for a GPU.

The same names, arguments and results. Tested on a CPU, beside the compiled ones.
"""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recommenders.networks.compiled_hinge import SHORTEST

GATHER_BYTES = 1 << 28  # of gathered vectors at a time


def layer_to_unit(x, weight, bias, unit, inverse, kind: torch.dtype | None = None) -> None:
    """Put relu(x W' + b) at length 1 into unit, (b, h), and one over the lengths into inverse.

    Args:
        kind: type of the product; None for x's.
    """
    unit.copy_(_as(kind, x) @ _as(kind, weight).T).add_(bias).relu_()
    length = torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_(min=SHORTEST)
    torch.reciprocal(length, out=inverse)
    unit.mul_(inverse)


def gradient_of_layer(
    x, weight, unit, grad, inverse, grad_x, kind: torch.dtype | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of weight and bias from that of layer_to_unit's unit, (b, h)."""
    along = torch.linalg.vecdot(unit, grad)[:, None]
    z = torch.addcmul(grad, unit, along, value=-1).mul_(inverse).mul_(unit > 0)
    grad_bias, z = z.sum(0), _as(kind, z)
    if grad_x is not None:
        grad_x.copy_(z @ _as(kind, weight))
    return (z.T @ _as(kind, x)).to(weight.dtype), grad_bias


def _as(kind: torch.dtype | None, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if kind is None else tensor.to(kind)


def hinge_loss(
    left: torch.Tensor,
    anchors: torch.Tensor,
    right: torch.Tensor,
    rows: torch.Tensor,
    margin: float,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Return compiled_hinge.hinge_loss, from vectors that are gathered."""
    cosine = sampled_products(F.embedding(anchors, left), right, rows)
    hinge = (margin - cosine[:, :1] + cosine[:, 1:]).clamp(min=0)
    if weights is not None:
        hinge = hinge * weights[:, None]
    return hinge.mean()


def sampled_products(left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return left[i] . right[rows[i, j]] for all i and j, in the inputs' type under autocast too.

    Args:
        left: float (b, h).
        right: float (m, h).
        rows: int64 (b, n) into right.

    Returns:
        float (b, n). Neither this nor its gradient makes an array of b x n x h numbers, which
        would take most of a step's time to write and read: GATHER_BYTES at a time are gathered.
    """
    return _SampledProducts.apply(left, right, rows)


class _SampledProducts(torch.autograd.Function):
    """The gradients are sums of vectors with weights: of right for left, of left for right."""

    @staticmethod
    def forward(ctx, left, right, rows):
        ctx.save_for_backward(left, right, rows)
        with torch.autocast(left.device.type, enabled=False):
            if rows.shape[1] >= len(right):  # at least as many places as there are columns
                return (left @ right.T).gather(1, rows)
            return _gathered_products(left, right, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        left, right, rows = ctx.saved_tensors
        b, n = rows.shape
        grad_left = F.embedding_bag(rows, right, mode="sum", per_sample_weights=grad.contiguous())
        ordered, order = rows.flatten().sort(stable=True)
        starts = torch.searchsorted(ordered, torch.arange(len(right), device=rows.device))
        weights = grad.flatten()[order]
        grad_right = F.embedding_bag(
            order // n, left, starts, mode="sum", per_sample_weights=weights
        )
        return grad_left, grad_right, None


def _gathered_products(left, right, rows) -> torch.Tensor:
    per_row = rows.shape[1] * right.shape[1] * right.element_size()
    block = max(1, GATHER_BYTES // per_row)
    parts = [
        torch.bmm(F.embedding(some, right), part[:, :, None])[:, :, 0]
        for some, part in zip(rows.split(block), left.split(block), strict=True)
    ]
    return torch.cat(parts)
