"""BERT4Rec over item vectors: a bidirectional transformer that fills masked places of a history.

Source: Sun et al., BERT4Rec, CIKM 2019 (arXiv 1904.06690), with the study's changes: item vectors
come from an audio model, serve as input and, tied, as output, and a chosen place always becomes
the mask token. The transformer is BertModel of the transformers package.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from dataset import MaskedBatch
from recommenders.networks.sampled_softmax import sampled_cross_entropy

# Memory for one block of logits, at most (or one row): a CPU's cache; a GPU's products want more.
LOGIT_BYTES = {"cpu": 1 << 25, "cuda": 1 << 29}


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
        self.transformer = BertModel(
            BertConfig(
                vocab_size=1,  # words come as vectors
                hidden_size=self.width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=ffn,
                max_position_embeddings=max_length,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                attn_implementation="sdpa",
            ),
            add_pooling_layer=False,
        )
        self.transformer.embeddings.word_embeddings = None

    def _divisible(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, width), with zeros after them where heads do not divide it."""
        return F.pad(vectors, (0, -vectors.shape[1] % self.heads))

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (b, l) -> the transformer's last hidden states (b, l, width)."""
        vectors = F.embedding(tokens.clamp(max=self.n_items - 1), self.items)
        vectors = torch.where((tokens == self.n_items)[..., None], self.mask, vectors)
        real = tokens <= self.n_items
        vectors = vectors * real[..., None]
        hidden = self.transformer(inputs_embeds=vectors, attention_mask=real.long())
        return hidden.last_hidden_state

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
        block = max(1, LOGIT_BYTES[hidden.device.type] // (4 * self.n_items))
        return _TiedCrossEntropy.apply(
            hidden, self.items, self.mask, batch.targets, block, torch.is_grad_enabled()
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

    A block of rows at a time, in one buffer, with the gradients taken on the way: softmax minus
    the target's indicator, times the other factor. The logits of a block are all that is held.
    Under autocast the three products with the items are made in its type, all else in the items'.
    """

    @staticmethod
    def forward(ctx, hidden, items, mask, targets, block: int, with_gradients: bool):
        device = items.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        ctx.hidden_type, hidden = hidden.dtype, hidden.to(items.dtype)
        with torch.autocast(device, enabled=False):
            wanted = [with_gradients and needed for needed in ctx.needs_input_grad[:3]]
            sums = _BlockSums(hidden, items, mask, kind or items.dtype, wanted)
            total = hidden.new_zeros(())
            for start in range(0, len(hidden), block):
                total += sums.add(slice(start, start + block), targets[start : start + block])
            gradients = (sums.grad_hidden, sums.grad_items, sums.grad_mask)
            ctx.grads = [None if g is None else g.div_(len(hidden)) for g in gradients]
            return total / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, items, mask = (None if g is None else g * grad for g in ctx.grads)
        hidden = None if hidden is None else hidden.to(ctx.hidden_type)
        return hidden, items, mask, None, None, None


class _BlockSums:
    """The gradients of the tied cross-entropy, grown block by block."""

    def __init__(self, hidden, items, mask, kind: torch.dtype, wanted: list[bool]):
        self.hidden, self.items, self.mask, self.kind = hidden, items, mask, kind
        self.table = items.to(kind)
        makers = (torch.empty_like, torch.zeros_like, torch.zeros_like)
        self.grad_hidden, self.grad_items, self.grad_mask = (
            make(tensor) if wants else None
            for make, tensor, wants in zip(makers, (hidden, items, mask), wanted, strict=True)
        )
        self.buffer = None

    def add(self, rows: slice, target: torch.Tensor) -> torch.Tensor:
        """Take in the gradients of some rows (before the mean) and return their summed loss."""
        h, items, table = self.hidden[rows], self.items, self.table
        logits = self._logits(h)
        to_target = logits.gather(1, target[:, None])[:, 0]
        to_mask = h @ self.mask  # padding is the zero vector, so its logit is 0
        top = torch.maximum(logits.amax(1), to_mask.clamp(min=0))
        powers = logits.sub_(top[:, None]).exp_()
        mask_power = (to_mask - top).exp()
        sums = powers.sum(1) + mask_power + (-top).exp()
        # Softmax is powers / sums; its rows are scaled after the products, not before.
        if self.grad_hidden is not None or self.grad_items is not None:
            powers = powers.to(self.kind)
        if self.grad_hidden is not None:
            expected = (powers @ table).to(h.dtype) + mask_power[:, None] * self.mask
            torch.sub(
                expected.div_(sums[:, None]),
                items.index_select(0, target),
                out=self.grad_hidden[rows],
            )
        if self.grad_items is not None:
            scaled = (h / sums[:, None]).to(self.kind)
            if self.kind == items.dtype:
                self.grad_items.addmm_(powers.T, scaled)
            else:
                self.grad_items += powers.T @ scaled
            self.grad_items.index_add_(0, target, h, alpha=-1)
        if self.grad_mask is not None:
            self.grad_mask += (mask_power / sums) @ h
        return (top + sums.log() - to_target).sum()

    def _logits(self, h: torch.Tensor) -> torch.Tensor:
        if self.kind != h.dtype:
            return (h.to(self.kind) @ self.table.T).to(h.dtype)
        if self.buffer is None:
            self.buffer = h.new_empty((len(h), len(self.table)))
        return torch.mm(h, self.table.T, out=self.buffer[: len(h)])
