"""--perturb: what a backbone makes of the same music in another state.

    offset15   another part: from 15 s on; from the middle of a file that is shorter than 30 s
    mp3_64     coded as mp3 at 64 kbit/s, and decoded
    pitch+1    a semitone higher, as long as before
    noise20    with white noise, 20 dB below it
    lowpass    without what lies above 4 kHz

On mono sound at the file's own rate, before it is resampled for the backbone. It is done to
TRACKS tracks, drawn from all alike: what is asked is how much changes, and a thousand tell. The
embedding's name says which (`musicnn_noise20`); the rows of all other tracks are NaN.
robustness.py compares it with the embedding itself.
"""

from __future__ import annotations

import importlib
import io
import zlib
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
import soxr

OFFSET = "offset15"
SECONDS = 15.0
MP3, PITCH, NOISE, LOWPASS = "mp3_64", "pitch+1", "noise20", "lowpass"
PERTURBATIONS = (OFFSET, MP3, PITCH, NOISE, LOWPASS)
TRACKS, SEED = 1000, 20
UNDRAWN = "was not drawn for --perturb"  # why a track has no row
CUT_HZ = 4000
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def perturbed_name(name: str, perturb: str) -> str:
    """Return the name of an embedding whose sound was perturbed."""
    return f"{name}_{perturb.replace('+', '')}"


def drawn(n_tracks: int) -> set[int]:
    """Return the track_idx that are perturbed: the same for every backbone and perturbation."""
    rng = np.random.default_rng(SEED)
    return set(rng.permutation(n_tracks)[:TRACKS].tolist())


def only_drawn(files: list) -> list:
    """Return the files of the drawn tracks, and for the others the reason UNDRAWN."""
    chosen = drawn(len(files))
    return [file if row in chosen else UNDRAWN for row, file in enumerate(files)]


def failures(reasons: dict) -> dict:
    """Return {track: reason} without those that were not drawn."""
    return {track: why for track, why in reasons.items() if why != UNDRAWN}


def seconds_before(perturb: str | None) -> float:
    """Return how many seconds more of a file are needed than the clip has."""
    return SECONDS if perturb == OFFSET else 0.0


def perturbed(wave: np.ndarray, rate: int, perturb: str) -> np.ndarray:
    """Return a wave, float32 (samples,), as one of PERTURBATIONS changes it."""
    return _HOW[perturb](wave, rate).astype(np.float32, copy=False)


def _offset(wave: np.ndarray, rate: int) -> np.ndarray:
    start = round(SECONDS * rate)
    return wave[min(start, len(wave) // 2) :]


def _noise(wave: np.ndarray, rate: int) -> np.ndarray:
    """Add white noise of a hundredth of the power, drawn anew for every sound."""
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(wave).tobytes()))
    power = float(np.mean(np.square(wave, dtype=np.float64)))
    return wave + rng.normal(0, (power / 100) ** 0.5, len(wave)).astype(np.float32)


def _lowpass(wave: np.ndarray, rate: int) -> np.ndarray:
    if rate <= 2 * CUT_HZ:
        return wave
    low = soxr.resample(wave, rate, 2 * CUT_HZ, quality="HQ")
    return np.resize(soxr.resample(low, 2 * CUT_HZ, rate, quality="HQ"), len(wave))


def _pitch(wave: np.ndarray, rate: int) -> np.ndarray:
    # by name: environments of single backbones run the engine, and need not have it
    effects = importlib.import_module("librosa.effects")
    return effects.pitch_shift(wave, sr=rate, n_steps=1)


def _mp3(wave: np.ndarray, rate: int) -> np.ndarray:
    own = rate if rate in MP3_RATES else min(MP3_RATES, key=lambda known: abs(known - rate))
    sound = wave if own == rate else soxr.resample(wave, rate, own, quality="HQ")
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=own, layout="mono", bit_rate=64_000)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound)[None], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = own, 0, Fraction(1, own)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        frames: Iterable = container.decode(audio=0)
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    decoded = decoded[: len(sound)]
    return decoded if own == rate else soxr.resample(decoded, own, rate, quality="HQ")


_HOW = {OFFSET: _offset, MP3: _mp3, PITCH: _pitch, NOISE: _noise, LOWPASS: _lowpass}
