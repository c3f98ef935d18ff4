"""Jukebox's way from audio to the layers of its largest language model, for reading, not writing.

A VQ-VAE turns 128 samples into one of 2,048 tokens; a transformer of 72 layers and width 4,800 was
trained to guess each token from those before it, knowing the artist, the genre and the place in
the song. Here none of these is known, and the song is taken to last 62 s, as in jukemirlib.

Names of weights are the published ones, of vqvae.pth.tar and prior_level_2.pth.tar together.

Source: Dhariwal et al., "Jukebox: a generative model for music", 2020; Castellon, Donahue and
Liang, "Codified audio language modeling learns useful representations for music information
retrieval", ISMIR 2021 (which layer, and how it is conditioned).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE = 44_100  # Hz
HEARD = 25 * RATE  # samples the VQ-VAE gets: a little more than the tokens that are kept
TOKEN = 128  # samples
CONTEXT = 8192  # tokens: 23.8 s
BLOCK = 64  # tokens: attention looks into a block, across blocks, or into the one before
SONG = 62 * RATE // TOKEN * TOKEN  # samples; the model knows songs of 1 to 10 minutes
LEVEL = 2  # the coarsest of three


class Jukebox(nn.Module):
    """Audio (batch, samples) -> frames of every layer; `dtype` is the transformer's arithmetic."""

    def __init__(self, sizes: dict[str, int], depth: int, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        encoder = Encoder(sizes["vqvae_width"], sizes["vqvae_codes"])
        self.encoders = nn.ModuleDict({str(LEVEL): encoder})
        codes = nn.Module()
        codes.register_buffer("k", torch.empty(sizes["vocab_size"], sizes["vqvae_codes"]))
        self.bottleneck = nn.Module()
        self.bottleneck.level_blocks = nn.ModuleDict({str(LEVEL): codes})
        self.prior = Prior(sizes, depth)
        self.y_emb = Conditions(sizes)

    def layers(self, audio: Tensor) -> Iterator[Tensor]:
        """Yield the input and each layer, (batch, tokens, width); tokens come in whole blocks."""
        tokens = self.tokens(audio[:, :HEARD])[:, :CONTEXT]
        tokens = tokens[:, : tokens.shape[1] // BLOCK * BLOCK]
        start, place = self.y_emb()
        x = self.prior.x_emb(tokens).roll(1, dims=1)  # a token's frame knows those before it
        x[:, 0] = start
        length = tokens.shape[1]
        x = (x + self.prior.pos_emb.pos_emb[:length] + place[:length]).to(self.dtype)
        yield x
        for layer in self.prior.transformer._attn_mods:
            x = layer(x)
            yield x

    def tokens(self, audio: Tensor) -> Tensor:
        """Audio (batch, samples) -> the number of the nearest code, (batch, samples // 128)."""
        codes = self.bottleneck.level_blocks[str(LEVEL)].k
        nearest = []
        for clip in self.encoders[str(LEVEL)](audio[:, None]).transpose(1, 2):
            distance = (clip**2).sum(1, keepdim=True) - 2 * clip @ codes.T + (codes**2).sum(1)
            nearest.append(distance.argmin(1))
        return torch.stack(nearest)


class Encoder(nn.Module):
    """The VQ-VAE's: 7 strided convolutions in three groups, each followed by residual blocks."""

    def __init__(self, width: int, codes: int):
        super().__init__()
        halvings = (3, 2, 2)
        self.level_blocks = nn.ModuleList()
        for group, count in enumerate(halvings):
            halve = [
                nn.Sequential(
                    nn.Conv1d((codes if group else 1) if i == 0 else width, width, 4, 2, 1),
                    Residuals(width),
                )
                for i in range(count)
            ]
            block = nn.Module()
            block.model = nn.Sequential(*halve, nn.Conv1d(width, codes, 3, 1, 1))
            self.level_blocks.append(block)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.level_blocks:
            x = block.model(x)
        return x  # (batch, codes, samples // 128)


class Residuals(nn.Module):
    """Four convolutions over ever wider gaps, each added to its input."""

    def __init__(self, width: int):
        super().__init__()
        self.model = nn.ModuleList()
        for gap in (1, 3, 9, 27):
            block = nn.Module()
            block.model = nn.Sequential(
                nn.ReLU(),
                nn.Conv1d(width, width, 3, padding=gap, dilation=gap),
                nn.ReLU(),
                nn.Conv1d(width, width, 1),
            )
            self.model.append(block)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.model:
            x = x + block.model(x)
        return x


class Prior(nn.Module):
    def __init__(self, sizes: dict[str, int], depth: int):
        super().__init__()
        width = sizes["hidden_size"]
        self.x_emb = nn.Embedding(sizes["vocab_size"], width)
        self.pos_emb = nn.Module()
        self.pos_emb.pos_emb = nn.Parameter(torch.empty(CONTEXT, width))
        self.transformer = nn.Module()
        self.transformer._attn_mods = nn.ModuleList(
            Layer(width, sizes["num_attention_heads"], kind=number % 3) for number in range(depth)
        )


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, kind: int):
        super().__init__()
        self.ln_0 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, kind)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Module()
        self.mlp.c_fc = Linear(width, width)
        self.mlp.c_proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        a = self.attn(self.ln_0(x.float()).to(x.dtype))
        h = self.mlp.c_fc(self.ln_1((x + a).float()).to(x.dtype))
        return x + a + self.mlp.c_proj(h * torch.sigmoid(1.702 * h))


class Attention(nn.Module):
    """What a token sees, by `kind`: 0 its block so far, 1 its column so far, 2 the block before.

    The tokens are a table of rows (blocks) and 64 columns. The first block sees nothing before it.
    """

    def __init__(self, width: int, heads: int, kind: int):
        super().__init__()
        self.heads, self.kind = heads, kind
        self.c_attn = Linear(width, width // 4 * 3)
        self.c_proj = Linear(width // 4, width)

    def forward(self, x: Tensor) -> Tensor:
        # (batch, rows, columns, heads, width of a head); attention runs over the last but one
        split = self.c_attn(x).unflatten(1, (-1, BLOCK)).chunk(3, dim=3)
        q, k, v = (part.unflatten(3, (self.heads, -1)) for part in split)
        order = (0, 2, 3, 1, 4) if self.kind == 1 else (0, 1, 3, 2, 4)
        q, k, v = (part.permute(order) for part in (q, k, v))
        if self.kind == 2:
            k, v = (F.pad(part, (0, 0) * 3 + (1, 0))[:, :-1] for part in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.kind != 2)
        back = (0, 3, 1, 2, 4) if self.kind == 1 else (0, 1, 3, 2, 4)
        return self.c_proj(mixed.permute(back).flatten(3).flatten(1, 2))


class Linear(nn.Module):
    """A linear layer whose weight is stored input first, computed in the type of its input."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.w = nn.Parameter(torch.empty(inputs, outputs))
        self.b = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w.to(x.dtype).T, self.b.to(x.dtype))


class Conditions(nn.Module):
    """What the model is told of a song: who and which kind (unknown, 0), and the time."""

    def __init__(self, sizes: dict[str, int]):
        super().__init__()
        width = sizes["hidden_size"]
        tables = {
            "artist_emb": sizes["artists"],
            "bow_genre_emb": sizes["genres"],
            **dict.fromkeys(
                ("total_length_emb", "absolute_pos_emb", "relative_pos_emb"), sizes["times"]
            ),
        }
        for name, rows in tables.items():
            table = nn.Module()
            table.emb = nn.Embedding(rows, width)
            self.add_module(name, table)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the first frame (width,) and what is added to all (8192, width)."""
        artist, genre = self.artist_emb.emb.weight[0], self.bow_genre_emb.emb.weight[0]
        time = torch.arange(CONTEXT, device=artist.device) / CONTEXT
        length = torch.tensor(float(SONG), device=artist.device)
        sample = CONTEXT * TOKEN * time
        place = (
            _embed(self.total_length_emb, length, 60.0 * RATE, 600.0 * RATE)
            + _embed(self.absolute_pos_emb, sample, 0.0, 600.0 * RATE)
            + _embed(self.relative_pos_emb, CONTEXT * TOKEN / length * time, 0.0, 1.0)
        )
        return genre + artist, place


def _embed(table: nn.Module, value: Tensor, low: float, high: float) -> Tensor:
    """Return the rows for values in [low, high), which the table's rows divide evenly."""
    rows = len(table.emb.weight)
    return table.emb((rows * ((value - low) / (high - low))).floor().long())
