"""AST: a transformer on spectrograms, trained with the labels of AudioSet; knows sounds at large.

    python -m extract_item_embeddings.ast --root R --audio DIR
    python -m extract_item_embeddings.ast --root R --audio DIR --layer 6 --precision bf16
    python -m extract_item_embeddings.ast --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/ast.npy, float32 (n_tracks, 768): the last layer, averaged over the patches of
each 10 s of the first 30 s. Other choices extend the name: ast_l6_meanstd. The last 10 s are filled
up with the start of the clip; a file under 10 s is repeated until 10 s.

The weights (BSD-3) are downloaded once. A baseline: what a general model hears, without a special
eye on music.

Source: Gong, Chung and Glass, "AST: audio spectrogram transformer", Interspeech 2021;
https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593
"""

from __future__ import annotations

import warnings

import core.start  # noqa: F401  before what is heavy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank

from extract_item_embeddings.bases.spectrogram_backbone import SpectrogramBackbone
from extract_item_embeddings.bases.windows import windows
from extract_item_embeddings.engine import main

RATE = 16_000
WINDOW = 10 * RATE  # samples: AudioSet's clips
FRAME, HOP, N_FFT, MELS = 400, 160, 512, 128
MEAN, SPREAD = -4.2677393, 4.5689974  # of AudioSet's log-mel
FLOOR = 1.192092955078125e-07  # of a mel band's power


class Ast(SpectrogramBackbone):
    name = "ast"
    licence = "BSD-3-Clause"
    sample_rate = RATE
    clip_seconds = 30.0  # three windows
    min_seconds = 10.0  # one
    files = ("config.json", "model.safetensors")
    weight_files = files[1:]
    repository = "MIT/ast-finetuned-audioset-10-10-0.4593"
    revision = "f826b80d28226b62986cc218e5cec390b1096902"

    def load(self, device: str) -> None:
        super().load(device)
        self.log_mel = KaldiMel().to(device)

    def prepare(self, audio: Tensor) -> Tensor:
        mel = self.log_mel(windows(audio, WINDOW))  # (batch, windows, 998, 128)
        lacking = self.model.config.max_length - mel.shape[2]
        return (F.pad(mel, (0, 0, 0, lacking)) - MEAN) / (2 * SPREAD)


class KaldiMel(nn.Module):
    """Mono audio (..., samples) -> log-mel power (..., frames, 128) as Kaldi computes it."""

    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the lowest filter holds no frequency, as in training
            filters = mel_filter_bank(
                num_frequency_bins=N_FFT // 2 + 1,
                num_mel_filters=MELS,
                min_frequency=20,
                max_frequency=RATE // 2,
                sampling_rate=RATE,
                mel_scale="kaldi",
                triangularize_in_mel_space=True,
            )
        self.register_buffer("filters", torch.from_numpy(filters).float())  # (257, 128)
        self.register_buffer("window", torch.hann_window(FRAME, periodic=False))

    def forward(self, audio: Tensor) -> Tensor:
        frames = audio.unfold(-1, FRAME, HOP)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        waves = torch.fft.rfft((frames - 0.97 * before) * self.window, N_FFT)
        return torch.log((waves.abs() ** 2 @ self.filters).clamp_min(FLOOR))


if __name__ == "__main__":
    main(Ast)
