"""The 25 Hz conformer that MusicFM and MuQ share: audio -> frames at every layer.

A log-mel spectrogram of 100 frames a second, two strided residual convolutions that quarter time
and bands, conformer layers with rotary positions. The conformer layers are transformers'; modules
are named as in the published weights, so that these load by name.

Source: Won et al., "A foundation model for music informatics", ICASSP 2024; Zhu et al., "MuQ:
self-supervised music representation learning with mel residual vector quantization", 2025; what
the published weights say about sizes and names.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import librosa
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import Wav2Vec2ConformerConfig
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
    Wav2Vec2ConformerEncoderLayer,
    Wav2Vec2ConformerRotaryPositionalEmbedding,
    Wav2Vec2ConformerSelfAttention,
)

RATE = 24_000  # Hz
WINDOW, HOP, BANDS = 2048, 240, 128
# Weights that inference has no use for, as regular expressions: what training predicts and how,
# positions by convolution, which rotary ones replace, and the mel filters, which are computed.
EXTRA_KEYS = (
    r"linear\..*",
    r"recon_proj\..*",
    r"quantizer_.*",
    r"rvq\..*",
    r"cls_token",
    r"conformer\.pos_conv_embed\..*",
    r"preprocessor_melspec_2048\..*",
)


class LogMel(nn.Module):
    """Audio (batch, samples) -> (batch, 128, samples // 240), as the training set's mean and std.

    Power of 85 ms Hann windows around each 10 ms, triangles on the HTK mel scale, decibels above
    -100; no clip is scaled by its own loudness. The audio must be longer than 1,024 samples.
    """

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std
        filters = librosa.filters.mel(sr=RATE, n_fft=WINDOW, n_mels=BANDS, htk=True, norm=None)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        spectrum = torch.stft(audio, WINDOW, HOP, window=self.window, return_complex=True)
        power = torch.view_as_real(spectrum[..., :-1]).square().sum(dim=-1)
        decibels = 10 * (self.filters @ power).clamp_(min=1e-10).log10_()
        return (decibels - self.mean) / self.std


class ResidualConvolutions(nn.Module):
    """(batch, inputs, bands, time) -> (batch, channels, bands / 2, time / 2), rounded up."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(inputs, channels, 3, stride=2, padding=1)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(maps)).relu_()
        return self.bn2(self.conv2(inner)).add_(self.bn3(self.conv3(maps))).relu_()


class Subsampling(nn.Module):
    """Log-mel (batch, bands, time) -> frames (batch, time / 4, width), rounded up."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = nn.Sequential(
            ResidualConvolutions(1, channels), ResidualConvolutions(channels, channels)
        )
        self.linear = nn.Linear(channels * BANDS // 4, width)

    def forward(self, mel: Tensor) -> Tensor:
        maps = self.conv(mel[:, None])
        return self.linear(maps.flatten(1, 2).transpose(1, 2))


class Attention(Wav2Vec2ConformerSelfAttention):
    """transformers' rotary attention, with torch's kernel in place of a matrix of all scores."""

    def forward(self, hidden_states: Tensor, relative_position_embeddings: Tensor, **_) -> tuple:
        turned = self._apply_rotary_embedding(hidden_states, relative_position_embeddings)
        projected = self.linear_q(turned), self.linear_k(turned), self.linear_v(hidden_states)
        heads = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in projected)
        mixed = scaled_dot_product_attention(*heads)  # (batch, heads, time, width of a head)
        return self.linear_out(mixed.transpose(1, 2).flatten(2)), None


class Encoder(nn.Module):
    """Conformer layers over frames."""

    def __init__(self, config: Wav2Vec2ConformerConfig):
        super().__init__()
        self.embed_positions = Wav2Vec2ConformerRotaryPositionalEmbedding(config)
        self.layers = nn.ModuleList(
            Wav2Vec2ConformerEncoderLayer(config) for _ in range(config.num_hidden_layers)
        )
        for layer in self.layers:
            layer.self_attn = Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, frames: Tensor) -> Iterator[Tensor]:
        """Yield frames (batch, time, width), then each layer's output; the last one normalised."""
        positions = self.embed_positions(frames)
        for layer in self.layers:
            yield frames
            frames, _ = layer(frames, relative_position_embeddings=positions)
        yield self.layer_norm(frames)


class Conformer(nn.Module):
    """Normalised log-mel (batch, 128, time) -> the input of the first layer, each layer's output.

    They come one after another: a layer is computed when it is asked for.
    """

    def __init__(self, state: dict[str, Tensor], mean: float, std: float):
        """Take the sizes from published weights, which are to be loaded afterwards."""
        super().__init__()
        width, layers = read_sizes(state)
        channels = len(state["conv.conv.0.bn1.weight"])
        first = "conformer.layers.0."
        config = Wav2Vec2ConformerConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // (2 * len(state["conformer.embed_positions.inv_freq"])),
            intermediate_size=len(state[first + "ffn1.intermediate_dense.bias"]),
            conv_depthwise_kernel_size=state[first + "conv_module.depthwise_conv.weight"].shape[2],
            hidden_act="swish",
            position_embeddings_type="rotary",
        )
        self.mel = LogMel(mean, std)
        with torch.device("meta"):  # the numbers come from the weights
            self.conv = Subsampling(channels, width)
            self.conformer = Encoder(config)

    def forward(self, mel: Tensor) -> Iterator[Tensor]:
        # Where convolutions run in bf16, sums over the layers stay in float32.
        return self.conformer(self.conv(mel).float())

    def fuse(self) -> None:
        """Merge each batch norm into the convolution before it: a pass over memory less."""
        for block in self.conv.conv:
            for i in "123":
                convolution, norm = getattr(block, f"conv{i}"), getattr(block, f"bn{i}")
                setattr(block, f"conv{i}", fuse_conv_bn_eval(convolution.eval(), norm.eval()))
                setattr(block, f"bn{i}", nn.Identity())
        for layer in self.conformer.layers:
            module = layer.conv_module.eval()
            module.depthwise_conv = fuse_conv_bn_eval(module.depthwise_conv, module.batch_norm)
            module.batch_norm = nn.Identity()


def read_sizes(state: dict[str, Tensor]) -> tuple[int, int]:
    """Return (width, layers) of published weights; KeyError where they are another model's."""
    layers = {key.split(".")[2] for key in state if key.startswith("conformer.layers.")}
    return len(state["conformer.layer_norm.weight"]), len(layers)


def read_state(path: Path, prefix: str) -> dict[str, Tensor]:
    """Return the weights of a file by name, in float32.

    Args:
        path: .safetensors, or what torch.save wrote, also with a "state_dict" inside.
        prefix: what names begin with is taken off.
    """
    if path.suffix == ".safetensors":
        state = safetensors.torch.load_file(path)
    else:
        in_place = zipfile.is_zipfile(path)  # else torch's format of before 2020
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=in_place)
        state = state.get("state_dict", state)
    return {
        key.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for key, value in state.items()
    }


def fill(model: nn.Module, state: dict[str, Tensor]) -> dict[str, list[str]]:
    """Give a model its weights by name; return its lists `missing_keys`, `unexpected_keys`."""
    result = model.load_state_dict(state, strict=False, assign=True)
    return {"missing_keys": result.missing_keys, "unexpected_keys": result.unexpected_keys}
