"""MFCC: cepstral coefficients, the classic description of timbre; no weights.

    python -m extract_item_embeddings.mfcc --root R --audio DIR

Writes embeddings/mfcc.npy, float32 (n_tracks, 104): of the first 30 s, the mean and the standard
deviation over time of 26 coefficients (columns 0-25, 26-51) and of their slopes (52-77, 78-103).

The study gives the width and no more. 26 coefficients describe the spectrum's envelope twice as
finely as the usual 13, which leave half of 40 mel bands unused; mean and deviation say how a track
sounds and how much that varies, the slopes how fast. A file under 0.5 s is repeated.

TIME

Source: Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word
recognition in continuously spoken sentences", 1980; slopes as in librosa.feature.delta.
"""

from __future__ import annotations

import librosa
import numpy as np

from extract_item_embeddings.engine import Backbone, main

COEFFICIENTS = 26
N_FFT, HOP, MELS = 2048, 512, 128  # 93 ms and 23 ms


class Mfcc(Backbone):
    name = "mfcc"
    sample_rate = 22_050  # Hz
    clip_seconds = 30.0
    embedding_size = 4 * COEFFICIENTS
    packages = ("librosa", "scipy")

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, 104)."""
        return np.stack(self.map_clips(_describe, audio))


def _describe(clip: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=clip, sr=Mfcc.sample_rate, n_fft=N_FFT, hop_length=HOP, n_mels=MELS
    )
    decibels = librosa.power_to_db(
        mel, top_db=None
    )  # a floor below the clip's peak would hide quiet
    coefficients = librosa.feature.mfcc(S=decibels, n_mfcc=COEFFICIENTS)  # (26, frames)
    slopes = librosa.feature.delta(coefficients)  # over 9 frames
    moments = [(x.mean(axis=1), x.std(axis=1)) for x in (coefficients, slopes)]
    return np.concatenate([m for pair in moments for m in pair]).astype(np.float32)


if __name__ == "__main__":
    main(Mfcc)
