"""BERT4Rec over item vectors: a bidirectional transformer that fills masked places of a history.

Source: Sun et al., BERT4Rec, CIKM 2019 (arXiv 1904.06690), with the study's changes: item vectors
come from an audio model, serve as input and, tied, as output, and a chosen place always becomes
the mask token. The transformer is BERT's: recommenders/networks/bert.py.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dataset import MaskedBatch
from recommenders.networks import compiled_softmax
from recommenders.networks.bert import Bert
from recommenders.networks.sampled_softmax import sampled_cross_entropy

# Memory for one block of logits, at most (or one row): a CPU's cache; a GPU's products want more.
LOGIT_BYTES = {"cpu": 1 << 25, "cuda": 1 << 29}  # of some rows and all tracks
TRACK_BYTES = {"cpu": 1 << 23, "cuda": 1 << 29}  # of ROWS rows and some tracks
ROWS = {"cpu": 1 << 9, "cuda": 1 << 13}


class BERT4Rec(nn.Module):
    """Tokens 0 .. n_items - 1 are tracks, n_items is the mask, n_items + 1 padding.

    Args:
        item_vectors: float32 (n_items, width), where the tracks start.
        train_tracks: learn them; else they stay, and are kept out of the checkpoints. The mask's
            vector always learns, from N(0, 0.02), and padding always stays zero.
        max_length: longest sequence, the mask of a prediction included.
        layers, heads, ffn, dropout: of the transformer. Where heads do not divide the width, the
            vectors end in zeros.
        logit_scale: what products of a hidden state and a vector are multiplied by. A hidden state
            is as long as the square root of the width: with vectors of deviation 1, one over that
            root gives every width logits of deviation 1 at the start; 1 leaves it to the vectors.
    """

    def __init__(
        self,
        item_vectors: np.ndarray,
        *,
        train_tracks: bool,
        max_length: int,
        layers: int = 2,
        heads: int = 2,
        ffn: int = 256,
        dropout: float = 0.1,
        logit_scale: float = 1.0,
    ):
        super().__init__()
        self.heads, self.logit_scale = heads, logit_scale
        values = self._divisible(torch.tensor(item_vectors, dtype=torch.float32))
        self.n_items, self.width = values.shape
        if train_tracks:
            self.register_parameter("items", nn.Parameter(values))
        else:
            self.register_buffer("items", values, persistent=False)
        self.mask = nn.Parameter(torch.randn(self.width) * 0.02)
        self.transformer = Bert(
            self.width,
            layers=layers,
            heads=heads,
            ffn=ffn,
            max_length=max_length,
            dropout=dropout,
        )

    def _divisible(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, width), with zeros after them where heads do not divide it."""
        return F.pad(vectors, (0, -vectors.shape[1] % self.heads))

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (b, l) -> the transformer's last hidden states (b, l, width)."""
        vectors = F.embedding(tokens.clamp(max=self.n_items - 1), self.items)
        vectors = torch.where((tokens == self.n_items)[..., None], self.mask, vectors)
        real = tokens <= self.n_items
        vectors = vectors * real[..., None]
        return self.transformer(inputs_embeds=vectors, attention_mask=real)

    def loss(self, batch: MaskedBatch) -> torch.Tensor:
        """Return the mean cross-entropy of the masked tracks over all tracks and both extra rows.

        Where the batch has a sample, that stands for all tracks: sampled_softmax.py.

        The output layer is applied at the masked places only: nothing else enters the loss.
        """
        hidden = self.encode(batch.tokens).flatten(0, 1)[batch.positions]  # (m, width)
        hidden = hidden * self.logit_scale
        if batch.sample is not None:
            rows = (self.items, self.mask, batch.targets, batch.sample)
            return sampled_cross_entropy(hidden, *rows)
        return _TiedCrossEntropy.apply(
            hidden, self.items, self.mask, batch.targets, torch.is_grad_enabled()
        )

    @torch.no_grad()
    def scores(
        self, tokens: torch.Tensor, place: torch.Tensor, candidates: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens (b, l) and the place of each row's mask (b,) -> scores of all tracks (b, n).

        The n are the tracks it was built for, or those whose vectors (n, width) are given.
        """
        items = self.items if candidates is None else self._divisible(candidates)
        hidden = self.encode(tokens)[torch.arange(len(tokens), device=tokens.device), place]
        with torch.autocast(hidden.device.type, enabled=False):  # rounded scores would tie
            return (hidden.to(items.dtype) * self.logit_scale) @ items.T


class _TiedCrossEntropy(torch.autograd.Function):
    """Mean of logsumexp(logits) - logits[target], where logits = hidden @ [items; mask; 0].T.

    A block of logits at a time, in one buffer, with the gradients taken on the way: softmax minus
    the target's indicator, times the other factor. Frozen items need no gradient, and then a block
    is of some tracks, and of many rows that share them (on a CPU as compiled_softmax.py has it);
    else it is of some rows and all tracks.
    Under autocast the three products with the items are made in its type, all else in the items'.
    """

    @staticmethod
    def forward(ctx, hidden, items, mask, targets, with_gradients: bool):
        device = items.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        ctx.hidden_type, hidden = hidden.dtype, hidden.to(items.dtype)
        with torch.autocast(device, enabled=False):
            wanted = [with_gradients and needed for needed in ctx.needs_input_grad[:3]]
            if not wanted[1] and compiled_softmax.is_made_for(items, kind):
                total, of_hidden, of_mask = compiled_softmax.tied_cross_entropy(
                    hidden, items, mask, targets, gradients=any(wanted)
                )
                gradients = (of_hidden, None, of_mask)
            else:
                sums = (_RowBlocks if wanted[1] else _TrackBlocks)(
                    hidden, items, mask, kind or items.dtype, wanted
                )
                total = hidden.new_zeros(())
                for start in range(0, len(hidden), sums.block):
                    rows = slice(start, start + sums.block)
                    total += sums.add(rows, targets[rows])
                gradients = (sums.grad_hidden, sums.grad_items, sums.grad_mask)
            ctx.grads = [None if g is None else g.div_(len(hidden)) for g in gradients]
            return total / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, items, mask = (None if g is None else g * grad for g in ctx.grads)
        hidden = None if hidden is None else hidden.to(ctx.hidden_type)
        return hidden, items, mask, None, None


class _Blocks:
    """The gradients of the tied cross-entropy, grown block by block; None where none is wanted."""

    def __init__(self, hidden, items, mask, kind: torch.dtype, wanted: list[bool]):
        self.hidden, self.items, self.mask, self.kind = hidden, items, mask, kind
        self.table, self.device = items.to(kind), items.device.type
        makers = (torch.empty_like, torch.zeros_like, torch.zeros_like)
        self.grad_hidden, self.grad_items, self.grad_mask = (
            make(tensor) if wants else None
            for make, tensor, wants in zip(makers, (hidden, items, mask), wanted, strict=True)
        )
        self.buffer = None

    def _logits(self, h: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        if self.kind != h.dtype:
            return (h.to(self.kind) @ table.T).to(h.dtype)
        if self.buffer is None:
            self.buffer = h.new_empty(len(h) * len(table))
        out = self.buffer[: len(h) * len(table)].view(len(h), len(table))
        return torch.mm(h, table.T, out=out)

    def _expected(self, powers: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return (powers.to(self.kind) @ table).to(self.hidden.dtype)


class _TrackBlocks(_Blocks):
    """Of frozen tracks: their powers are summed as they come, relative to the largest so far."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.block = min(ROWS[self.device], len(self.hidden))
        self.tracks = max(1, TRACK_BYTES[self.device] // (4 * self.block))

    def add(self, rows: slice, target: torch.Tensor) -> torch.Tensor:
        """Write the gradients of some rows (before the mean) and return their summed loss."""
        h = self.hidden[rows]
        to_mask = h @ self.mask  # padding is the zero vector, so its logit is 0
        top = to_mask.clamp(min=0)
        mask_power = (to_mask - top).exp()
        sums, expected = mask_power + (-top).exp(), mask_power[:, None] * self.mask
        for table in self.table.split(self.tracks):
            logits = self._logits(h, table)
            before, top = top, torch.maximum(top, logits.amax(1))
            powers, shrunk = logits.sub_(top[:, None]).exp_(), (before - top).exp_()
            sums.mul_(shrunk).add_(powers.sum(1))
            if self.grad_hidden is None:
                continue
            expected.mul_(shrunk[:, None])
            if self.kind == h.dtype:
                expected.addmm_(powers, table)
            else:
                expected += self._expected(powers, table)
        true = self.items.index_select(0, target)
        if self.grad_hidden is not None:
            torch.sub(expected.div_(sums[:, None]), true, out=self.grad_hidden[rows])
        if self.grad_mask is not None:
            self.grad_mask += ((to_mask - top).exp_() / sums) @ h
        return (top + sums.log() - torch.linalg.vecdot(h, true)).sum()


class _RowBlocks(_Blocks):
    """Of tracks that learn: their gradient needs the sums of all of a row's powers."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.block = max(1, LOGIT_BYTES[self.device] // (4 * len(self.items)))

    def add(self, rows: slice, target: torch.Tensor) -> torch.Tensor:
        """Take in the gradients of some rows (before the mean) and return their summed loss."""
        h, items = self.hidden[rows], self.items
        logits = self._logits(h, self.table)
        to_target = logits.gather(1, target[:, None])[:, 0]
        to_mask = h @ self.mask  # padding is the zero vector, so its logit is 0
        top = torch.maximum(logits.amax(1), to_mask.clamp(min=0))
        powers = logits.sub_(top[:, None]).exp_()
        mask_power = (to_mask - top).exp()
        sums = powers.sum(1) + mask_power + (-top).exp()
        # Softmax is powers / sums; its rows are scaled after the products, not before.
        powers = powers.to(self.kind)
        if self.grad_hidden is not None:
            expected = self._expected(powers, self.table) + mask_power[:, None] * self.mask
            true = items.index_select(0, target)
            torch.sub(expected.div_(sums[:, None]), true, out=self.grad_hidden[rows])
        scaled = (h / sums[:, None]).to(self.kind)
        if self.kind == items.dtype:
            self.grad_items.addmm_(powers.T, scaled)
        else:
            self.grad_items += powers.T @ scaled
        self.grad_items.index_add_(0, target, h, alpha=-1)
        if self.grad_mask is not None:
            self.grad_mask += (mask_power / sums) @ h
        return (top + sums.log() - to_target).sum()
