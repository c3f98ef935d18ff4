"""The clips that went into the original code of MusicFM and MuQ, see conformers.json."""

import numpy as np


def clips(n, samples):
    """float32 (n, samples) at 24 kHz: tones in noise; the last clip's second half is silent."""
    rng, time = np.random.default_rng(0), np.arange(samples) / 24_000
    tones = np.stack([np.sin(2 * np.pi * 220 * 2 ** (i / 3) * time) for i in range(n)])
    audio = (0.3 * tones + 0.05 * rng.standard_normal(tones.shape)).astype(np.float32)
    audio[-1, samples // 2 :] = 0
    return audio
