"""The transformer of BERT: what BertModel of transformers computes, of real tokens alone.

Parameters, their names and the values they start from under a seed are BertModel's (without words,
which come as vectors, and without a pooler); the tests compare. Two things are other: on a CPU
padding is left out of all that is done token by token, which of histories of many lengths is a
third of the work; and 3 s of imports fall away, half of what a small training begins with.

Source: Devlin et al., BERT, NAACL 2019.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from recommenders.networks.compiled_attention import Dropout, attention, is_ours

DEVIATION = 0.02  # of the weights at the start
SMALL = 1e-12  # beside a variance
PACKED_ON = {"cpu"}  # devices


class Bert(nn.Module):
    """Vectors (b, l, width) of tokens, some of them real -> the last hidden states (b, l, width).

    Args:
        width: of the vectors.
        layers, heads, ffn, dropout: of the transformer; heads divide the width.
        max_length: longest sequence.
    """

    def __init__(
        self, width: int, *, layers: int, heads: int, ffn: int, max_length: int, dropout: float
    ):
        super().__init__()
        self.embeddings = Embeddings(width, max_length, dropout)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Layer(width, heads, ffn, dropout) for _ in range(layers))
        self.apply(_start)
        self.embeddings.word_embeddings = None

    def forward(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the hidden states; those of padding mean nothing.

        Args:
            inputs_embeds: float (b, l, width).
            attention_mask: (b, l), not 0 where a token is real. A row's real tokens come first.
        """
        tokens = Tokens(attention_mask != 0)
        hidden = self.embeddings(tokens.packed(inputs_embeds), tokens)
        for layer in self.encoder.layer:
            hidden = layer(hidden, tokens)
        return tokens.padded(hidden)


class Tokens:
    """The tokens of a batch, row after row: n real ones, or on a GPU all b * l.

    How many are real a GPU would have to be asked, and it would wait for the answer.

    Args:
        real: bool (b, l).
    """

    def __init__(self, real: torch.Tensor):
        self.shape, self.real = real.shape, real
        self.in_row = torch.arange(real.shape[1], device=real.device).repeat(len(real))
        self.places = None  # (n,) of the real ones among all
        if real.device.type in PACKED_ON:
            self.places = real.flatten().nonzero()[:, 0]
            self.in_row = self.in_row[self.places]
        self.lengths = real.sum(dim=1)  # (b,)

    def packed(self, x: torch.Tensor) -> torch.Tensor:
        """(b, l, width) -> (n, width)."""
        x = x.flatten(0, 1)
        return x if self.places is None else x.index_select(0, self.places)

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        """(n, width) -> (b, l, width), zero where nothing is."""
        if self.places is not None:
            b, length = self.shape
            x = x.new_zeros((b * length, x.shape[1])).index_copy(0, self.places, x)
        return x.view(*self.shape, -1)


class Embeddings(nn.Module):
    """A token's vector, and what stands for its place; the second of two types is never used."""

    def __init__(self, width: int, max_length: int, dropout: float):
        super().__init__()
        self.word_embeddings = nn.Embedding(1, width, padding_idx=0)  # draws as BertModel's does
        self.position_embeddings = nn.Embedding(max_length, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, eps=SMALL)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        x = x + self.token_type_embeddings.weight[0] + self.position_embeddings(tokens.in_row)
        return self.dropout(self.LayerNorm(x))


class Layer(nn.Module):
    """Attention, then a network for each token; each is added to what it was made from."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float):
        super().__init__()
        self.attention = nn.Module()
        self.attention.self = SelfAttention(width, heads, dropout)
        self.attention.output = Added(width, width, dropout)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(width, ffn)
        self.output = Added(ffn, width, dropout)

    def forward(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        x = self.attention.output(self.attention.self(x, tokens), x)
        return self.output(F.gelu(self.intermediate.dense(x)), x)


class SelfAttention(nn.Module):
    """Attention of the tokens of a row to each other; shares are dropped before they weigh."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.heads, self.dropout = heads, dropout

    def forward(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        states = [layer(x) for layer in (self.query, self.key, self.value)]
        if self.training and is_ours(x, self.dropout):
            return attention(*states, tokens.lengths, self.heads, self.dropout)
        q, k, v = (  # (b, heads, l, width / heads)
            tokens.padded(state).unflatten(2, (self.heads, -1)).transpose(1, 2) for state in states
        )
        dropout = self.dropout if self.training else 0.0
        mask = tokens.real[:, None, None, :].expand(-1, -1, tokens.shape[1], -1)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return tokens.packed(found.transpose(1, 2).flatten(2))


class Added(nn.Module):
    """A layer whose outputs, some dropped, are added to x and normed."""

    def __init__(self, width_in: int, width: int, dropout: float):
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=SMALL)
        self.dropout = Dropout(dropout)

    def forward(self, states: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(states)) + x)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.weight.data.normal_(0.0, DEVIATION)
        module.bias.data.zero_()
    elif isinstance(module, nn.Embedding):
        module.weight.data.normal_(0.0, DEVIATION)
