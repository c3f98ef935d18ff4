"""A softmax over a sample of the tracks: what BERT4Rec learns by where the catalogue is large.

The sum over all tracks j other than the target, of exp(l_j), is estimated from a sample S of m
draws with replacement, each of track j with probability q_j, by

    sum over j in S, other than the target, of exp(l_j - log(m q_j))

whose expectation is the sum itself; the target, the mask and padding stand in it exactly. Half of
the draws are the tracks of random places of histories, half are uniform, so that none has q 0.
Source: Bengio and Senecal, IEEE Trans. Neural Networks 19(4), 2008, for the correction by log q.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

LOGIT_BYTES = {"cpu": 1 << 25, "cuda": 1 << 29}  # memory for one block of logits


@dataclass(frozen=True)
class Sample:
    """Drawn tracks.

    Attributes:
        classes: int64 (m,) item_idx, which may stand again.
        log_expected: float32 (m,) log(m q) of each.
    """

    classes: torch.Tensor
    log_expected: torch.Tensor


class ClassSampler:
    """Draws samples of m tracks.

    Args:
        tokens: int64 (n,) item_idx of the places of histories.
        n_items: tracks there are.
        m: draws of a sample, at least 2.
    """

    def __init__(self, tokens: torch.Tensor, n_items: int, m: int):
        self.tokens, self.n_items, self.m = tokens, n_items, m
        popular = torch.bincount(tokens, minlength=n_items).double() / len(tokens)
        share = (m - m // 2) / m
        self.log_q = torch.log(share * popular + (1 - share) / n_items).float()

    def draw(self, generator: torch.Generator) -> Sample:
        """Return a sample; half of its draws, rounded up, are of histories."""
        device = self.tokens.device
        n_popular = self.m - self.m // 2
        places = torch.randint(len(self.tokens), (n_popular,), generator=generator, device=device)
        shape = (self.m - n_popular,)
        others = torch.randint(self.n_items, shape, generator=generator, device=device)
        classes = torch.cat([self.tokens[places], others])
        expected = self.log_q[classes] + torch.log(torch.tensor(float(self.m), device=device))
        return Sample(classes, expected)


def sampled_cross_entropy(
    hidden: torch.Tensor,
    items: torch.Tensor,
    mask: torch.Tensor,
    targets: torch.Tensor,
    sample: Sample,
) -> torch.Tensor:
    """Return the mean cross-entropy of the targets, with the sample in place of all tracks.

    Args:
        hidden: float (n, width).
        items, mask: float (n_items, width) and (width,), the rows of the output layer beside
            padding, whose logit is 0.
        targets: int64 (n,) item_idx.

    A block of rows at a time, whose logits are made again for the gradient.
    """
    drawn = F.embedding(sample.classes, items)  # (m, width)
    wanted = F.embedding(targets, items)
    block = max(1, LOGIT_BYTES[hidden.device.type] // (4 * len(drawn)))
    total = hidden.new_zeros((), dtype=torch.float32)
    for start in range(0, len(hidden), block):
        rows = slice(start, start + block)
        total = total + checkpoint(
            _summed,
            *(hidden[rows], wanted[rows], drawn, mask, targets[rows], sample),
            use_reentrant=False,
        )
    return total / len(hidden)


def _summed(hidden, wanted, drawn, mask, targets, sample: Sample) -> torch.Tensor:
    logits = (hidden @ drawn.T).float() - sample.log_expected
    logits = logits.masked_fill(sample.classes == targets[:, None], -torch.inf)
    to_target = (hidden * wanted).sum(1).float()
    to_mask = (hidden @ mask).float()
    exact = torch.stack([to_target, to_mask, torch.zeros_like(to_mask)], dim=1)
    return (torch.logsumexp(torch.cat([exact, logits], dim=1), dim=1) - to_target).sum()
