"""EnCodecMAE base: EnCodec's encoder and 10 transformer layers, trained without labels.

    python -m extract_item_embeddings.encodecmae --root R --audio DIR
    python -m extract_item_embeddings.encodecmae --root R --audio DIR --layer 6 --precision bf16
    python -m extract_item_embeddings.encodecmae --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/encodecmae.npy, float32 (n_tracks, 768): the last layer, averaged over the first
30 s, which the model hears in chunks of 4 s. Other choices extend the name: encodecmae_l6_meanstd.
A file under 1 s is repeated until 1 s.

The weights (MIT; version 1.0.0, as in the study) are downloaded once; EnCodec's are among them.

Measured: 4 clips of 30 s in 55 s on two busy cores, 2.4 GB (a batch of 4, random weights of the
model's size); no GPU was at hand.

Source: Pepino, Riera and Ferrer, "EnCodecMAE: leveraging neural codecs for universal audio
representation learning", 2023; https://huggingface.co/lpepino/encodecmae-base. The network is
written here after the paper, and agrees with the authors' code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecEncoder

from extract_item_embeddings.bases.checkpoint_backbone import (
    SIZES,
    CheckpointBackbone,
    filled,
    read_checkpoint,
)
from extract_item_embeddings.engine import main

CHUNK = 4 * 24_000  # samples, 300 frames: what the model was trained on
# The published names of weights -> ours: of EnCodec's encoder as transformers writes it, then of
# the rest.
NAMES = (
    (r"wav_encoder\.model\.model\.(.*)\.conv\.conv\.", r"codec.layers.\1.conv."),
    (r"wav_encoder\.model\.model\.", "codec.layers."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^visible_encoder\.", ""),
)


class EncodecMae(CheckpointBackbone):
    name = "encodecmae"
    licence = "MIT"
    sample_rate = 24_000  # Hz
    clip_seconds = 30.0  # 2,250 frames
    step_seconds = 0.2  # 15 whole frames
    embedding_size = 768
    layers = 10
    batch_size = 4
    packages = ("torch", "transformers")
    repository = "lpepino/encodecmae-base"
    revision = "fb9f5ef8146aee2a0f952d9987cf6beed0d037a9"
    weight_files = ("model.pt",)
    files = (SIZES, *weight_files)
    extra_keys = (r"(target_encoder|decoder|decoder_projector|head|extra_head)\..*",)  # training
    sizes = {
        "hidden_size": 768,
        "num_hidden_layers": 10,
        "num_attention_heads": 12,
        "intermediate_size": 4096,
        "num_filters": 32,  # of EnCodec's first layer
    }

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        state = read_checkpoint(folder / self.weight_files[0])["state_dict"]
        for old, new in NAMES:
            state = {re.sub(old, new, key): tensor for key, tensor in state.items()}
        return filled(EncodecMaeNetwork(self.read_config()), state)


class EncodecMaeNetwork(nn.Module):
    def __init__(self, sizes: dict[str, int]):
        super().__init__()
        width, inner = sizes["hidden_size"], sizes["intermediate_size"]
        codec = EncodecConfig(num_filters=sizes["num_filters"])
        self.codec = EncodecEncoder(codec)
        self.feat_projector = nn.Linear(codec.hidden_size, width)
        self.positional_encoder = Positions()
        feed_forward = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
        self.encoder_layers = nn.ModuleList(
            Layer(width, sizes["num_attention_heads"], feed_forward)
            for _ in range(sizes["num_hidden_layers"])
        )
        self.final_norm = nn.LayerNorm(width)

    def layers(self, audio: Tensor) -> Iterator[Tensor]:
        """Mono audio (batch, samples) -> the input and each layer, (batch, frames, width).

        320 samples are a frame, and `samples` is a multiple. Chunks of all clips make one batch.
        """
        chunked = audio.shape[1] // CHUNK * CHUNK
        parts = [audio[:, :chunked].reshape(-1, CHUNK), audio[:, chunked:]]
        parts = [self.chunk_layers(part) for part in parts if part.numel()]
        for frames in zip(*parts, strict=True):
            yield torch.cat([f.reshape(len(audio), -1, f.shape[2]) for f in frames], dim=1)

    def chunk_layers(self, audio: Tensor) -> Iterator[Tensor]:
        x = self.codec(audio[:, None]).transpose(1, 2)  # (chunks, frames, 128)
        x = total = self.positional_encoder(self.feat_projector(x))
        yield x
        for layer in self.encoder_layers[:-1]:
            x, total = layer(x, total)
            yield x
        x, total = self.encoder_layers[-1](x, total)
        yield x + self.final_norm(total)


class Positions(nn.Module):
    """Adds sine and cosine of the frame's number, interleaved, at a learned scale."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        _, frames, width = x.shape
        exponents = torch.arange(0, width, 2, device=x.device) * (-math.log(10_000) / width)
        angles = torch.arange(frames, device=x.device)[:, None] * torch.exp(exponents)
        return x + self.scale * torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class Layer(nn.Module):
    """Attention and a feed-forward net that all layers share, with two residual streams.

    After each of the two, the first stream is normalised, and the second only sums up (ResiDual,
    Xie et al. 2023).
    """

    def __init__(self, width: int, heads: int, feed_forward: nn.Module):
        super().__init__()
        self.att_layer = Attention(width, heads)
        self.ff_layer = feed_forward
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        change = self.att_layer(x)
        x, total = self.norm1(x + change), total + change
        change = self.ff_layer(x)
        return self.norm2(x + change), total + change


class Attention(nn.Module):
    """Full self-attention; channel c of a projection belongs to head c % heads."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(width, width, bias=False) for _ in "qkvo")

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            w(x).unflatten(2, (-1, self.heads)).permute(0, 3, 1, 2)
            for w in (self.wq, self.wk, self.wv)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)  # (chunks, heads, frames, width / heads)
        return self.wo(mixed.permute(0, 2, 3, 1).flatten(2))


if __name__ == "__main__":
    main(EncodecMae)
