"""Whisper's encoder: 32 layers trained to write down speech in 100 languages; it hears lyrics.

    python -m extract_item_embeddings.whisper --root R --audio DIR
    python -m extract_item_embeddings.whisper --root R --audio DIR --layer 16 --precision bf16
    python -m extract_item_embeddings.whisper --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/whisper.npy, float32 (n_tracks, 1280): the last layer, averaged over the first
30 s. Other choices extend the name: whisper_l16_meanstd. The model hears 30 s at once, so a shorter
file is repeated until 30 s.

The weights (Apache-2.0) are downloaded once; of the file only the encoder is read.

Source: Radford et al., "Robust speech recognition via large-scale weak supervision", ICML 2023;
https://huggingface.co/openai/whisper-large-v3
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import safetensors
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from core.options import InputError
from extract_item_embeddings.bases.checkpoint_backbone import filled
from extract_item_embeddings.bases.pretrained import first_line
from extract_item_embeddings.bases.transformer_backbone import TransformerBackbone, pick
from extract_item_embeddings.engine import main

RATE = 16_000
N_FFT, HOP = 400, 160
PREFIX = "model.encoder."  # of the encoder's weights


class Whisper(TransformerBackbone):
    name = "whisper"
    licence = "Apache-2.0"
    sample_rate = RATE
    clip_seconds = min_seconds = 30.0  # 1,500 frames
    embedding_size = 1280
    layers = 32
    batch_size = 4
    files = ("config.json", "model.safetensors")
    weight_files = files[1:]
    extra_keys = ()
    repository = "openai/whisper-large-v3"
    revision = "06f233fe06e710322aca913c1bc4249a0d71fce1"

    def read_sizes(self) -> tuple[int, int]:
        path = self.folder / "config.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return int(content["d_model"]), int(content["encoder_layers"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} does not give a model's sizes ({first_line(error)}); {self.advice}"
            ) from error

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        config = transformers.WhisperConfig.from_pretrained(folder, local_files_only=True)
        with safetensors.safe_open(folder / self.weight_files[0], "pt") as file:
            state = {
                key.removeprefix(PREFIX): file.get_tensor(key).float()
                for key in file.keys()
                if key.startswith(PREFIX)
            }
        with torch.device("meta"):  # the numbers come from the weights
            encoder = WhisperEncoder(config)
        return filled(encoder, state)

    def load(self, device: str) -> None:
        super().load(device)
        self.log_mel = LogMel(self.model.config.num_mel_bins).to(device)

    def prepare(self, audio: Tensor) -> Tensor:
        return self.log_mel(audio[:, : round(self.clip_seconds * RATE)])

    def frames(self, mel: Tensor) -> Tensor:
        return pick(layers(self.model, mel), self.layer)


class LogMel(nn.Module):
    """Mono audio (batch, samples) -> log-mel power (batch, mels, samples // 160), about -1 to 1.

    What is 80 dB below the loudest of its clip, or more, counts as 80 dB.
    """

    def __init__(self, mels: int):
        super().__init__()
        filters = mel_filter_bank(
            num_frequency_bins=1 + N_FFT // 2,
            num_mel_filters=mels,
            min_frequency=0.0,
            max_frequency=8000.0,
            sampling_rate=RATE,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("filters", torch.from_numpy(filters.T).float())
        self.register_buffer("window", torch.hann_window(N_FFT))

    def forward(self, audio: Tensor) -> Tensor:
        waves = torch.stft(audio, N_FFT, HOP, window=self.window, return_complex=True)[..., :-1]
        log = (self.filters @ (waves.real**2 + waves.imag**2)).clamp_min(1e-10).log10()
        return (torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4


def layers(encoder: nn.Module, mel: Tensor) -> Iterator[Tensor]:
    """Yield the input and each layer of a WhisperEncoder, the last one after its final norm."""
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
    x = x + encoder.embed_positions.weight
    yield x
    for layer in encoder.layers[:-1]:
        (x, *_) = layer(x, None, layer_head_mask=None)
        yield x
    (x, *_) = encoder.layers[-1](x, None, layer_head_mask=None)
    yield encoder.layer_norm(x)


if __name__ == "__main__":
    main(Whisper)
