"""BERT4Rec over item vectors: a bidirectional transformer that fills masked places of a history.

Source: Sun et al., BERT4Rec, CIKM 2019 (arXiv 1904.06690), with the study's changes: item vectors
come from an audio model, serve as input and, tied, as output, and a chosen place always becomes
the mask token. The transformer is BertModel of the transformers package.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from dataset import MaskedBatch

LOGIT_BYTES = 1 << 25  # memory for one block of logits, at most (or one row)


class BERT4Rec(nn.Module):
    """Tokens 0 .. n_items - 1 are tracks, n_items is the mask, n_items + 1 padding.

    Args:
        item_vectors: float32 (n_items, width), where the tracks start.
        train_tracks: learn them; else they stay, and are kept out of the checkpoints. The mask's
            vector always learns, from N(0, 0.02), and padding always stays zero.
        max_length: longest sequence, the mask of a prediction included.
        layers, heads, ffn, dropout: of the transformer; heads must divide the width.
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
    ):
        super().__init__()
        values = torch.tensor(item_vectors, dtype=torch.float32)
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
            ),
            add_pooling_layer=False,
        )
        self.transformer.embeddings.word_embeddings = None

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

        The output layer is applied at the masked places only: nothing else enters the loss.
        """
        hidden = self.encode(batch.tokens).flatten(0, 1)[batch.positions]  # (m, width)
        block = max(1, LOGIT_BYTES // (4 * self.n_items))
        return _TiedCrossEntropy.apply(
            hidden, self.items, self.mask, batch.targets, block, torch.is_grad_enabled()
        )

    @torch.no_grad()
    def scores(self, tokens: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Tokens (b, l) and the place of each row's mask (b,) -> scores of all tracks (b, n)."""
        hidden = self.encode(tokens)[torch.arange(len(tokens), device=tokens.device), place]
        return hidden @ self.items.T


class _TiedCrossEntropy(torch.autograd.Function):
    """Mean of logsumexp(logits) - logits[target], where logits = hidden @ [items; mask; 0].T.

    A block of rows at a time, in one buffer, with the gradients taken on the way: softmax minus
    the target's indicator, times the other factor. The logits of a block are all that is held.
    """

    @staticmethod
    def forward(ctx, hidden, items, mask, targets, block: int, with_gradients: bool):
        wants_hidden, wants_items, wants_mask = (
            with_gradients and needed for needed in ctx.needs_input_grad[:3]
        )
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_items = torch.zeros_like(items) if wants_items else None
        grad_mask = torch.zeros_like(mask) if wants_mask else None
        buffer = hidden.new_empty((min(block, len(hidden)), len(items)))
        total = hidden.new_zeros(())
        for start in range(0, len(hidden), block):
            rows = slice(start, start + block)
            h, target = hidden[rows], targets[rows]
            logits = torch.mm(h, items.T, out=buffer[: len(h)])
            to_target = logits.gather(1, target[:, None])[:, 0]
            to_mask = h @ mask  # padding is the zero vector, so its logit is 0
            top = torch.maximum(logits.amax(1), to_mask.clamp(min=0))
            powers = logits.sub_(top[:, None]).exp_()
            mask_power = (to_mask - top).exp()
            sums = powers.sum(1) + mask_power + (-top).exp()
            total += (top + sums.log() - to_target).sum()
            # Softmax is powers / sums; its rows are scaled after the products, not before.
            if wants_hidden:
                expected = (powers @ items + mask_power[:, None] * mask) / sums[:, None]
                grad_hidden[rows] = expected - items.index_select(0, target)
            if wants_items:
                grad_items.addmm_(powers.T, h / sums[:, None])
                grad_items.index_add_(0, target, h, alpha=-1)
            if wants_mask:
                grad_mask += (mask_power / sums) @ h
        ctx.grads = [
            None if g is None else g.div_(len(hidden)) for g in (grad_hidden, grad_items, grad_mask)
        ]
        return total / len(hidden)

    @staticmethod
    def backward(ctx, grad):
        return (*(None if g is None else g * grad for g in ctx.grads), None, None, None)
