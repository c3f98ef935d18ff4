"""Instruments made of numpy: notes of any timbre, and four drums, as mono float32 sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 22_050  # Hz: what the mp3 takes falls with it, and little music is above 11 kHz
AUDIBLE = 0.05  # of the first harmonic: no more is left of those that would fold at half the rate


@dataclass(frozen=True)
class Timbre:
    """How one note sounds.

    Attributes:
        attack, decay: s, to full level and down to 1/e.
        harmonics: 0 is a sine; the k-th harmonic has the amplitude harmonics ** (k - 1).
        damping: 1/s, how fast the harmonics fade after the attack, as on a string.
        odd: odd harmonics only, as in a square wave.
        partials: (frequency ratio, amplitude) of tones that sound together: chorus, organ, bell.
        tremolo: depth of a 6 Hz tremolo.
    """

    attack: float
    decay: float
    harmonics: float = 0.0
    damping: float = 0.0
    odd: bool = False
    partials: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    tremolo: float = 0.0


def tone(timbre: Timbre, frequency: float, seconds: float, brightness: float) -> np.ndarray:
    """Return one note, float32 (samples,).

    The harmonics of amplitude x ** (k - 1) need no loop: their sum over all k is
    sin(p) / (1 - 2 x cos(p) + x^2), the imaginary part of a geometric series.
    """
    n = int(seconds * SAMPLE_RATE)
    time = np.arange(n, dtype=np.float32) / np.float32(SAMPLE_RATE)
    envelope = np.exp(-time / timbre.decay) * np.minimum(time / timbre.attack, 1)
    envelope *= np.minimum(time[::-1] / max(0.02, timbre.attack / 2), 1)
    if timbre.tremolo:
        envelope *= 1 + timbre.tremolo * np.sin(2 * np.pi * 6 * time)

    x = timbre.harmonics * (0.5 + 0.5 * brightness) * np.exp(-time * timbre.damping)
    wave = np.zeros_like(time)
    for ratio, amplitude in timbre.partials:
        fit = SAMPLE_RATE / 2 / (frequency * ratio)  # harmonics below half the rate
        if fit > 1:
            most = np.float32(AUDIBLE ** (1 / fit))
            wave += amplitude * _series(_phase(frequency * ratio, n), x, most, timbre.odd)
    return wave * envelope


def _phase(frequency: float, n: int) -> np.ndarray:
    """Return the phase in rad, float32 (n,): a 32-bit counter wraps exactly, a float32 drifts."""
    step = np.uint32(frequency / SAMPLE_RATE * 2**32)
    return (np.arange(n, dtype=np.uint32) * step).astype(np.float32) * np.float32(np.pi / 2**31)


def _series(phase, x, most, odd: bool) -> np.ndarray:
    """Return the sum of the harmonics; of a high note they fall faster, so that x is `most`."""
    if not x.any():
        return np.sin(phase)
    first, x = np.sqrt(1 - x * x), np.minimum(x, most)
    if odd:
        square = x * x
        return np.sin(phase) * (1 + square) / (1 - 2 * square * np.cos(2 * phase) + square**2)
    return np.sin(phase) * first / (1 - 2 * x * np.cos(phase) + x * x)


def _kick(rng) -> np.ndarray:
    time = np.arange(int(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
    low, sweep = rng.uniform(45, 60), rng.uniform(5, 9)
    phase = 2 * np.pi * low * (time + sweep / 40 * (1 - np.exp(-40 * time)))
    return (np.sin(phase) * np.exp(-9 * time)).astype(np.float32)


def _snare(rng) -> np.ndarray:
    time = np.arange(int(0.2 * SAMPLE_RATE)) / SAMPLE_RATE
    body = np.sin(2 * np.pi * rng.uniform(170, 230) * time) * np.exp(-30 * time)
    rattle = rng.standard_normal(len(time)) * np.exp(-rng.uniform(16, 28) * time)
    return (0.5 * body + 0.5 * rattle).astype(np.float32)


def _hat(rng) -> np.ndarray:
    time = np.arange(int(0.08 * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.diff(rng.standard_normal(len(time) + 1))  # a difference is a high-pass
    return (noise * np.exp(-rng.uniform(40, 90) * time)).astype(np.float32)


def _clap(rng) -> np.ndarray:
    time = np.arange(int(0.2 * SAMPLE_RATE)) / SAMPLE_RATE
    bursts = np.exp(-60 * (time % 0.012)) * (time < 0.036) + np.exp(-25 * time)
    return (0.6 * bursts * rng.standard_normal(len(time))).astype(np.float32)


DRUMS = {"kick": _kick, "snare": _snare, "hat": _hat, "clap": _clap}
