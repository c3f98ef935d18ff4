"""MERT-v2's encoder: mel frames quartered by ConvNeXt layers, then a conformer, at 25 Hz.

Modules are named as in the published weights, so that these load by name; the mel filters, the
window and the spread of the training's mel bands are among them.

Source: the published code and weights, https://huggingface.co/m-a-p/MERT-v2-30s; Woo et al.,
"ConvNeXt V2", CVPR 2023; Gulati et al., "Conformer", Interspeech 2020.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

RATE = 24_000  # Hz
STRIDES = (1, 2, 2)  # of the three blocks of ConvNeXt layers
FRONT_EPS = 1e-6  # of the norms before the conformer


class Mert2Network(nn.Module):
    """Sizes under the names of the published config.json."""

    def __init__(self, sizes: dict):
        super().__init__()
        width, mels = sizes["hidden_size"], sizes["num_mel_bins"]
        channels = [mels, mels, *sizes["subsampling_channels"][1:]]
        self.feature_extractor = Mel(sizes)
        self.subsampling_module = nn.ModuleList(
            ConvNextBlock(*channels[i : i + 2], STRIDES[i], sizes["subsampling_depths"][i])
            for i in range(3)
        )
        blocks = [ConformerBlock(sizes) for _ in range(sizes["num_hidden_layers"])]
        self.conformer = nn.ModuleList(blocks)
        half = width // sizes["num_attention_heads"] // 2
        powers = torch.arange(half, dtype=torch.float32, device="cpu") / half
        frequencies = 1 / sizes["rotary_embedding_base"] ** powers
        self.register_buffer("frequencies", frequencies, persistent=False)

    def layers(self, mel: Tensor) -> Iterator[Tensor]:
        """What `feature_extractor` gives -> the input and each layer, (batch, frames, width)."""
        x = mel
        for block in self.subsampling_module:
            x = block(x)
        times = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        angles = times[:, None] * self.frequencies
        yield x
        for layer in self.conformer:
            x = layer(x, angles)
            yield x


class Mel(nn.Module):
    """Mono audio (batch, samples) -> mel power in dB (batch, samples // 240, mels), as trained."""

    def __init__(self, sizes: dict):
        super().__init__()
        self.n_fft, self.hop = sizes["n_fft"], sizes["hop_length"]
        mels, bins = sizes["num_mel_bins"], sizes["n_fft"] // 2 + 1
        self.register_buffer("mel_mean", torch.zeros(mels))
        self.register_buffer("mel_std", torch.ones(mels))
        self.spectrogram, self.mel_scale = nn.Module(), nn.Module()
        self.spectrogram.register_buffer("window", torch.zeros(sizes["win_length"]))
        self.mel_scale.register_buffer("fb", torch.zeros(bins, mels))

    def forward(self, audio: Tensor) -> Tensor:
        window = self.spectrogram.window
        waves = torch.stft(
            audio, self.n_fft, self.hop, len(window), window=window, return_complex=True
        )[..., :-1]
        power = (waves.real**2 + waves.imag**2).transpose(1, 2) @ self.mel_scale.fb
        decibels = 10 * power.clamp_min(1e-10).log10()
        return (decibels - self.mel_mean) / self.mel_std.clamp_min(1e-5)


class ConvNextBlock(nn.Module):
    """(batch, time, in) -> (batch, time / stride, out): a strided convolution, then layers."""

    def __init__(self, inputs: int, outputs: int, stride: int, depth: int):
        super().__init__()
        self.resampling_layer = nn.ModuleList()
        if inputs != outputs or stride > 1:
            norm = nn.LayerNorm(inputs, eps=FRONT_EPS)
            convolution = nn.Conv1d(inputs, outputs, 2, stride=stride)
            self.resampling_layer.extend([norm, nn.Identity(), convolution])
        self.convnext_layers = nn.Sequential(*(ConvNextLayer(outputs) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        if self.resampling_layer:
            norm, _, convolution = self.resampling_layer
            x = convolution(norm(x).transpose(1, 2)).transpose(1, 2)
        return self.convnext_layers(x)


class ConvNextLayer(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.depthwise_block = nn.ModuleList([nn.Identity(), depthwise])
        self.pointwise_block = nn.Sequential(
            nn.LayerNorm(width, eps=FRONT_EPS),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            ResponseNorm(4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise_block(self.depthwise_block[1](x.transpose(1, 2)).transpose(1, 2))


class ResponseNorm(nn.Module):
    """Weighs each channel by its length over all time beside that of the others."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, width))
        self.bias = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        share = length / (length.mean(dim=2, keepdim=True) + 1e-6)
        return x + self.weight * (x * share) + self.bias


class ConformerBlock(nn.Module):
    def __init__(self, sizes: dict):
        super().__init__()
        width, eps = sizes["hidden_size"], sizes["layer_norm_eps"]
        for name in ("ffn1", "attn", "ffn2", "final"):
            setattr(self, f"{name}_layer_norm", nn.LayerNorm(width, eps=eps))
        self.ffn1, self.ffn2 = (FeedForward(width, sizes["intermediate_size"]) for _ in range(2))
        self.attn = Attention(width, sizes["num_attention_heads"])
        self.conv_module = Convolution(width, sizes["conv_depthwise_kernel_size"], eps)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        x = x + 0.5 * self.ffn1(self.ffn1_layer_norm(x))
        x = x + self.attn(self.attn_layer_norm(x), angles)
        x = x + self.conv_module(x)
        return self.final_layer_norm(x + 0.5 * self.ffn2(self.ffn2_layer_norm(x)))


class FeedForward(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(gelu(self.w_1(x)))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        for name in ("query", "key", "value", "out"):
            setattr(self, f"{name}_proj", nn.Linear(width, width))

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        projected = self.query_proj(x), self.key_proj(x), self.value_proj(x)
        query, key, value = (p.unflatten(2, (self.heads, -1)).transpose(1, 2) for p in projected)
        heard = scaled_dot_product_attention(turned(query, angles), turned(key, angles), value)
        return self.out_proj(heard.transpose(1, 2).flatten(2))


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Turn number i with number n + i: (..., frames, 2 n) by angles (frames, n)."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


class Convolution(nn.Module):
    def __init__(self, width: int, kernel: int, eps: float):
        super().__init__()
        self.layer_norm = nn.LayerNorm(width, eps=eps)
        first = nn.Conv1d(width, 2 * width, 1, bias=False)
        depthwise = nn.Conv1d(width, width, kernel, padding="same", groups=width, bias=False)
        norm = nn.ModuleList([nn.Identity(), nn.LayerNorm(width, eps=eps)])
        last = nn.Conv1d(width, width, 1, bias=False)
        rest = nn.Identity()
        self.conv_block = nn.ModuleList([rest, first, nn.GLU(1), depthwise, norm, nn.GELU(), last])

    def forward(self, x: Tensor) -> Tensor:
        _, first, gate, depthwise, norm, activation, last = self.conv_block
        x = depthwise(gate(first(self.layer_norm(x).transpose(1, 2))))
        return last(activation(norm[1](x.transpose(1, 2)).transpose(1, 2))).transpose(1, 2)
