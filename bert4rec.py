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

LOGIT_BYTES = 1 << 28  # memory for one block of logits, at most (or one row)


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

    A block of rows at a time, with the gradients taken on the way: softmax minus the target's
    indicator, times the other factor. The logits of one block are all that is ever held.
    """

    @staticmethod
    def forward(ctx, hidden, items, mask, targets, block: int, with_gradients: bool):
        needs = [with_gradients and needed for needed in ctx.needs_input_grad[:3]]
        grads = [
            torch.zeros_like(t) if n else None
            for t, n in zip((hidden, items, mask), needs, strict=True)
        ]
        total = hidden.new_zeros(())
        for start in range(0, len(hidden), block):
            rows = slice(start, start + block)
            h, target = hidden[rows], targets[rows, None]
            logits = h @ items.T
            to_mask = h @ mask  # padding is the zero vector, so its logit is 0
            extra = torch.logaddexp(to_mask, torch.zeros_like(to_mask))
            log_sum = torch.logaddexp(logits.logsumexp(1), extra)
            total += (log_sum - logits.gather(1, target)[:, 0]).sum()
            if any(needs):
                softmax = logits.sub_(log_sum[:, None]).exp_()
                softmax.scatter_add_(1, target, softmax.new_full(target.shape, -1.0))
                at_mask = (to_mask - log_sum).exp()
                if needs[0]:
                    grads[0][rows] = softmax @ items + at_mask[:, None] * mask
                if needs[1]:
                    grads[1].addmm_(softmax.T, h)
                if needs[2]:
                    grads[2] += at_mask @ h
        ctx.grads = [None if g is None else g / len(hidden) for g in grads]
        return total / len(hidden)

    @staticmethod
    def backward(ctx, grad):
        return (*(None if g is None else g * grad for g in ctx.grads), None, None, None)
