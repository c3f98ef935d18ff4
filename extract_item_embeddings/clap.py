"""CLAP: a Swin transformer, trained to place music beside its descriptions in words.

    python -m extract_item_embeddings.clap --root R --audio DIR
    python -m extract_item_embeddings.clap --root R --audio DIR --precision bf16
    python -m extract_item_embeddings.clap --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/clap.npy, float32 (n_tracks, 512): the mean of the unit vectors of each 10 s of
the first 30 s. The last 10 s are filled up with the start of the clip; a file under 10 s is
repeated until 10 s. There is one output, the space shared with texts, so no --layer and no --pool.

The weights (Apache-2.0) are downloaded once, the unused text side among them.

Source: Wu et al., "Large-scale contrastive language-audio pretraining with feature fusion and
keyword-to-caption augmentation", ICASSP 2023; https://huggingface.co/laion/larger_clap_music
"""

from __future__ import annotations

import json
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from core.options import InputError
from extract_item_embeddings.bases.pretrained import PretrainedBackbone, first_line
from extract_item_embeddings.bases.torch_backbone import embed_in_torch
from extract_item_embeddings.bases.windows import windows
from extract_item_embeddings.engine import main

RATE = 48_000
WINDOW = 10 * RATE  # samples the model hears at once


class Clap(PretrainedBackbone):
    name = "clap"
    licence = "Apache-2.0"
    sample_rate = RATE
    clip_seconds = 30.0  # three windows
    min_seconds = 10.0  # one
    embedding_size = 512
    batch_size = 4
    repository = "laion/larger_clap_music"
    revision = "a0b4534a14f58e20944452dff00a22a06ce629d1"
    files = ("config.json", "preprocessor_config.json", "pytorch_model.bin")
    weight_files = files[2:]

    def read_sizes(self) -> tuple[int, int]:
        path = self.folder / "config.json"
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))["projection_dim"]), 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} does not give a model's size ({first_line(error)}); {self.advice}"
            ) from error

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        where = {"local_files_only": True}
        extractor = transformers.ClapFeatureExtractor.from_pretrained(folder, **where)
        config = transformers.ClapConfig.from_pretrained(folder, **where).audio_config
        if config.enable_fusion or extractor.truncation != "rand_trunc":
            raise ValueError("it fuses several crops of a spectrogram, which is another model")
        self.log_mel = LogMel(extractor)
        return transformers.ClapAudioModelWithProjection.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, **where
        )

    def load(self, device: str) -> None:
        super().load(device)
        self.log_mel = self.log_mel.to(device)

    @embed_in_torch
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, 512)."""
        parts = windows(audio, WINDOW)
        mel = self.log_mel(parts.flatten(0, 1))
        with self.autocast(audio.device.type):
            vectors = self.model(mel[:, None]).audio_embeds
        return F.normalize(vectors.float(), dim=-1).unflatten(0, parts.shape[:2]).mean(dim=1)


class LogMel(nn.Module):
    """Mono audio (batch, samples) -> log-mel power in decibels, (batch, frames, mels)."""

    def __init__(self, extractor: transformers.ClapFeatureExtractor):
        super().__init__()
        self.n_fft, self.hop = extractor.fft_window_size, extractor.hop_length
        filters = torch.from_numpy(extractor.mel_filters_slaney).float()  # (n_fft / 2 + 1, mels)
        self.register_buffer("filters", filters)
        self.register_buffer("window", torch.hann_window(self.n_fft))

    def forward(self, audio: Tensor) -> Tensor:
        waves = torch.stft(audio, self.n_fft, self.hop, window=self.window, return_complex=True)
        power = (waves.real**2 + waves.imag**2).transpose(1, 2) @ self.filters
        return 10 * power.clamp_min(1e-10).log10()


if __name__ == "__main__":
    main(Clap)
