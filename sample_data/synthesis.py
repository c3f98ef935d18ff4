"""Music made of numpy: tracks of the eight styles of styles.py that differ inside each style.

A track has its own key, tempo, brightness, density, register and notes, all drawn from
(seed, index), so that it sounds the same whatever else is made beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from sample_data.instruments import DRUMS, SAMPLE_RATE, tone
from sample_data.styles import STYLES, Layer, Style

SECONDS = 8
SAMPLES = SAMPLE_RATE * SECONDS
ALPHABET = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))


@dataclass(frozen=True)
class Track:
    """What decides how a track sounds; brightness, density and pace run from 0 to 1."""

    track_id: str
    style: str
    seed: int
    index: int
    key: int  # semitones above C
    register: int  # octaves
    pace: float
    brightness: float
    density: float
    level: float  # peak


def describe(seed: int, index: int) -> Track:
    """Return the track of that index; styles take turns, so that every sample has all of them."""
    rng = np.random.default_rng([seed, 0, index])
    return Track(
        track_id="".join(rng.choice(ALPHABET, 16)),
        style=list(STYLES)[index % len(STYLES)],
        seed=seed,
        index=index,
        key=int(rng.integers(12)),
        register=int(rng.choice([-1, 0, 0, 0])),
        pace=float(rng.random()),
        brightness=float(rng.random()),
        density=float(rng.uniform(0.2, 0.9)),
        level=float(rng.uniform(0.5, 0.8)),
    )


def synthesise(track: Track) -> np.ndarray:
    """Return the clip, float32 (SAMPLES, 2) in [-track.level, track.level] at SAMPLE_RATE.

    It is cut from a loop: what rings on at the end is heard at the start.
    """
    style = STYLES[track.style]
    rng = np.random.default_rng([track.seed, 1, track.index])
    slow, fast = style.tempo
    beat = 60 / (slow * (fast / slow) ** track.pace)  # s
    chords = _chords(style, rng)

    mix = np.zeros((2, SAMPLES), dtype=np.float32)
    for layer in style.layers:
        _play(mix, layer, style, track, beat, chords, rng)
    for drum, level, patterns in style.drums:
        sound = DRUMS[drum](rng)
        pattern = patterns[rng.integers(len(patterns))]
        for _, start, velocity in _hits(pattern, style.beats * beat, track.density, rng):
            _add(mix, sound, start, level * velocity, style.width * rng.uniform(-0.5, 0.5))
    if style.hiss:
        mix += _hiss(style.hiss * rng.uniform(0.5, 1.5), rng)
    return _master(mix, style, track)


def _chords(style: Style, rng) -> list[np.ndarray]:
    """Return for every bar the chord's semitones above the key, lowest first."""
    degrees = style.progressions[rng.integers(len(style.progressions))]
    return [_semitones(style.scale, np.array([d, d + 2, d + 4])) for d in degrees]


def _semitones(scale, degrees: np.ndarray) -> np.ndarray:
    return np.asarray(scale)[degrees % len(scale)] + 12 * (degrees // len(scale))


def _hits(pattern: str, bar: float, density: float, rng):
    """Yield (bar number, start in s, velocity) of every note of the pattern inside the clip."""
    step = bar / len(pattern)
    for number in range(int(np.ceil(SECONDS / bar))):
        for place, mark in enumerate(pattern):
            start = number * bar + place * step
            plays = mark in "xo" or (mark == "?" and rng.random() < density)
            if plays and start < SECONDS:
                yield number, start, rng.uniform(0.8, 1.0) * (0.5 if mark == "o" else 1.0)


def _play(mix, layer: Layer, style: Style, track: Track, beat: float, chords, rng) -> None:
    """Add one layer's notes to the mix; equal notes are computed once."""
    base = 12 * (layer.octave + 1 + (track.register if layer.octave > 2 else 0)) + track.key
    hold = min(layer.hold * beat, SECONDS)
    degree, notes = int(rng.integers(7)), {}
    hits = _hits(layer.pattern, style.beats * beat, track.density, rng)
    for count, (bar, start, velocity) in enumerate(hits):
        chord = chords[bar % len(chords)]
        if layer.role == "melody":
            degree = int(np.clip(degree + rng.integers(-2, 3), -2, 9))
            pitches = _semitones(style.scale, np.array([degree]))
        else:
            pitches = {"chord": chord, "bass": chord[:1]}.get(layer.role, chord[[count % 3]])
        for voice, pitch in enumerate(pitches):
            if pitch not in notes:
                frequency = 440 * 2 ** ((base + pitch - 69) / 12)
                notes[pitch] = tone(layer.timbre, frequency, hold, track.brightness)
            side = style.width * (rng.uniform(-1, 1) if len(pitches) == 1 else voice - 1)
            _add(mix, notes[pitch], start, layer.level * velocity, side * (layer.octave > 2))


def _hiss(level: float, rng) -> np.ndarray:
    """Return noise that swells once, float32 (2, SAMPLES); the right side hears it half a clip on.

    One drawing serves both sides: noise is like nothing but itself, so they are uncorrelated.
    """
    noise = rng.standard_normal(SAMPLES, dtype=np.float32)
    turn = np.linspace(0, 2 * np.pi, SAMPLES, dtype=np.float32)
    noise *= level * (1 + 0.5 * np.sin(turn + np.float32(2 * np.pi * rng.random())))
    return np.stack([noise, np.roll(noise, SAMPLES // 2)])


def _add(mix, sound: np.ndarray, start: float, level: float, side: float) -> None:
    """Add a sound at `start` s, side -1 (left) to 1 (right); what rings on wraps around."""
    angle = (np.clip(side, -1, 1) + 1) * np.pi / 4
    first = int(start * SAMPLE_RATE)
    head = sound[: SAMPLES - first]
    for channel, gain in enumerate((np.cos(angle), np.sin(angle))):
        gain = np.float32(gain * level)
        mix[channel, first : first + len(head)] += gain * head
        mix[channel, : len(sound) - len(head)] += gain * sound[len(head) :]


def _master(mix, style: Style, track: Track) -> np.ndarray:
    """Return the mix through room, low-pass and volume, float32 (SAMPLES, 2)."""
    dull, bright = style.cutoff
    cutoff = dull * (bright / dull) ** track.brightness
    squares = (_frequencies() / np.float32(cutoff)) ** 2
    low_pass = 1 / (1 + squares * squares)
    spectrum = fft.rfft(mix)  # scipy's, since numpy's turns it into float64
    spectrum *= _room(*style.room)
    spectrum *= low_pass
    sound = fft.irfft(spectrum, n=SAMPLES)
    return (sound * (track.level / np.abs(sound).max())).T


@lru_cache(maxsize=1)
def _frequencies() -> np.ndarray:
    return np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE).astype(np.float32)


@lru_cache(maxsize=len(STYLES))
def _room(seconds: float, level: float) -> np.ndarray:
    """Return the transfer function of a room: the direct sound and noise that fades."""
    time = np.arange(SAMPLES) / SAMPLE_RATE
    noise = np.random.default_rng(0).standard_normal((2, SAMPLES))
    echo = noise * np.exp(-6.9 * time / seconds) * (time > 0.01)  # 60 dB down after `seconds`
    echo *= level / np.linalg.norm(echo, axis=1, keepdims=True)
    echo[:, 0] = 1
    return np.fft.rfft(echo.astype(np.float32), axis=1)
