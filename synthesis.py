"""Music made of numpy: eight styles, and inside each style tracks that differ.

A style is written as a tracker would write it: layers of a timbre and a pattern (one bar, one
character a step: `x` plays, `o` plays softly, `?` plays as often as the track is dense, `.`
rests), drums as further patterns, and a room. A track of a style has its own key, tempo,
brightness, density, register and notes, all drawn from (seed, index), so that it sounds the same
whatever else is made beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SAMPLE_RATE = 44_100  # Hz
SECONDS = 8
SAMPLES = SAMPLE_RATE * SECONDS
ALPHABET = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
DORIAN, LYDIAN, BLUES = (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 6, 7, 9, 11), (0, 3, 5, 6, 7, 9, 10)
PHRYGIAN = (0, 1, 3, 5, 7, 8, 10)


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


@dataclass(frozen=True)
class Layer:
    """One instrument: `role` says which notes of the bar's chord it takes.

    `chord` takes all, `arpeggio` one after another, `bass` the lowest, `melody` walks the scale.
    """

    role: str
    timbre: Timbre
    pattern: str
    octave: int  # 4 holds the A of 440 Hz
    hold: float  # beats
    level: float


@dataclass(frozen=True)
class Style:
    tempo: tuple[float, float]  # beats a minute, slowest and fastest
    beats: int  # a bar
    scale: tuple[int, ...]  # semitones above the key
    progressions: tuple[tuple[int, ...], ...]  # scale degrees from 0, a chord a bar
    layers: tuple[Layer, ...]
    drums: tuple[tuple[str, float, tuple[str, ...]], ...]  # drum, level, patterns to choose from
    hiss: float  # level of noise
    cutoff: tuple[float, float]  # Hz, low-pass of the dullest and the brightest track
    room: tuple[float, float]  # s of reverberation, and its level
    width: float  # 0 mono, 1 wide


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


PAD = Timbre(1.2, 9, 0.55, partials=((1, 1), (1.006, 0.8), (0.994, 0.8), (2.003, 0.2)))
ACID = Timbre(0.004, 0.3, 0.85, damping=5)
STAB = Timbre(0.004, 0.25, 0.75, damping=4, partials=((1, 1), (1.01, 0.9)))
SQUARE = Timbre(0.002, 0.6, 0.9, odd=True)
TRIANGLE = Timbre(0.002, 2, 0.25, odd=True)
STRING = Timbre(0.003, 0.9, 0.88, damping=2.5)
HUM = Timbre(2, 20, 0.7, partials=((1, 1), (1.013, 0.9), (1.498, 0.5)))
BELL = Timbre(0.002, 0.7, partials=((1, 1), (2.76, 0.5), (5.4, 0.25), (8.93, 0.12)))
SOFT = Timbre(0.02, 0.8, 0.2)
SUB = Timbre(0.01, 1.2, 0.15)
ORGAN = Timbre(
    0.01, 12, partials=((0.5, 0.6), (1, 1), (1.5, 0.5), (2, 0.6), (3, 0.3), (4, 0.3)), tremolo=0.45
)

STYLES = {
    "ambient": Style(
        (50, 76),
        4,
        LYDIAN,
        ((0, 4), (0, 1), (3, 0)),
        (
            Layer("chord", PAD, "x...............", 4, 4.0, 0.5),
            Layer("melody", SOFT, "?...?...?...?...", 5, 2.5, 0.25),
        ),
        (),
        0.006,
        (500, 5000),
        (2.5, 1.2),
        0.9,
    ),
    "techno": Style(
        (120, 140),
        4,
        MINOR,
        ((0, 0, 0, 0), (0, 0, 5, 6)),
        (
            Layer("bass", ACID, "..xx?.xx..xx?.x?", 2, 0.3, 0.5),
            Layer("chord", STAB, "?..x..?...?..?..", 4, 0.3, 0.25),
        ),
        (
            ("kick", 1.0, ("x...x...x...x...",)),
            ("hat", 0.3, ("..x...x...x...x.", "x.x.x.xxx.x.x.x?", "..xo..xo..xo..xo")),
            ("clap", 0.4, ("....x.......x...", "............x..?")),
        ),
        0.002,
        (1800, 16000),
        (0.4, 0.2),
        0.4,
    ),
    "chiptune": Style(
        (132, 176),
        4,
        MAJOR,
        ((0, 4, 5, 3), (0, 3, 4, 4), (5, 3, 0, 4)),
        (
            Layer("arpeggio", SQUARE, "xxxxxxxxxxxxxxxx", 5, 0.24, 0.3),
            Layer("melody", SQUARE, "x.?.?.x.?.x.?.??", 5, 0.45, 0.4),
            Layer("bass", TRIANGLE, "x.x.x.x.x.x.x.x.", 3, 0.5, 0.6),
        ),
        (("snare", 0.25, ("....x.......x...", "....x..?....x.?.")),),
        0.0,
        (3000, 18000),
        (0.1, 0.0),
        0.1,
    ),
    "folk": Style(
        (84, 126),
        4,
        DORIAN,
        ((0, 3, 6, 0), (0, 2, 6, 3), (0, 6, 3, 0)),
        (
            Layer("arpeggio", STRING, "x.x.xxx.x.x?x.x?", 4, 2.0, 0.5),
            Layer("bass", STRING, "x.......x.......", 3, 2.0, 0.5),
            Layer("melody", STRING, "?...?...?.?...?.", 5, 1.5, 0.35),
        ),
        (),
        0.003,
        (1500, 12000),
        (0.6, 0.25),
        0.5,
    ),
    "drone": Style(
        (50, 70),
        4,
        PHRYGIAN,
        ((0, 0), (0, 1)),
        (
            Layer("bass", HUM, "x...............", 2, 6.0, 0.6),
            Layer("chord", HUM, "?...............", 3, 6.0, 0.2),
        ),
        (),
        0.5,
        (250, 4000),
        (2.0, 0.7),
        1.0,
    ),
    "waltz": Style(
        (96, 168),
        3,
        MAJOR,
        ((0, 4, 5, 4), (0, 3, 4, 0), (0, 5, 1, 4)),
        (
            Layer("melody", BELL, "x.?.x.?.x.?.", 5, 2.0, 0.5),
            Layer("chord", SOFT, "....x...x...", 4, 0.7, 0.2),
            Layer("bass", SOFT, "x...........", 3, 1.2, 0.5),
        ),
        (),
        0.001,
        (2000, 14000),
        (1.2, 0.5),
        0.7,
    ),
    "jungle": Style(
        (164, 184),
        4,
        MINOR,
        ((0, 0, 5, 5), (0, 0, 0, 6)),
        (
            Layer("bass", SUB, "x.....x...x.?...", 2, 1.2, 0.9),
            Layer("chord", PAD, "x...............", 4, 3.5, 0.15),
        ),
        (
            ("kick", 0.8, ("x.........x.....", "x.x.......x..x..")),
            ("snare", 0.8, ("....x..o.o..x..o", "....x..o....x.?.")),
            ("hat", 0.35, ("x.x.x.x.x.x.x.x.", "xxxxx.xxxxx.xxxx")),
        ),
        0.004,
        (2500, 17000),
        (0.5, 0.2),
        0.6,
    ),
    "blues": Style(
        (72, 112),
        4,
        BLUES,
        ((0, 2, 0, 4), (0, 0, 2, 0), (4, 2, 0, 0)),
        (
            Layer("chord", ORGAN, "x.....?..x..", 4, 1.6, 0.3),
            Layer("melody", ORGAN, "x.?x.?x.?x.?", 5, 0.6, 0.4),
            Layer("bass", SOFT, "x..x..x..x..", 2, 0.9, 0.7),
        ),
        (
            ("hat", 0.2, ("x.ox.ox.ox.o", "x..x.ox..x.o")),
            ("snare", 0.15, ("...x.....x..", "...x.....x.?")),
            ("kick", 0.35, ("x.....x.....", "x....xx.....")),
        ),
        0.008,
        (1200, 8000),
        (0.7, 0.25),
        0.3,
    ),
}


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
        swell = 1 + 0.5 * np.sin(2 * np.pi * (np.arange(SAMPLES) / SAMPLES + rng.random()))
        noise = rng.standard_normal((2, SAMPLES), dtype=np.float32)
        mix += noise * (style.hiss * rng.uniform(0.5, 1.5) * swell).astype(np.float32)
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
                notes[pitch] = tone(layer.timbre, frequency, layer.hold * beat, track.brightness)
            side = style.width * (rng.uniform(-1, 1) if len(pitches) == 1 else voice - 1)
            _add(mix, notes[pitch], start, layer.level * velocity, side * (layer.octave > 2))


def tone(timbre: Timbre, frequency: float, seconds: float, brightness: float) -> np.ndarray:
    """Return one note, float32 (samples,).

    The harmonics of amplitude x ** (k - 1) need no loop: their sum over all k is
    sin(p) / (1 - 2 x cos(p) + x^2), the imaginary part of a geometric series.
    """
    time = np.arange(min(int(seconds * SAMPLE_RATE), SAMPLES)) / SAMPLE_RATE
    rest = time[-1] - time
    envelope = np.exp(-time / timbre.decay) * np.minimum(time / timbre.attack, 1)
    envelope *= np.minimum(rest / max(0.02, timbre.attack / 2), 1)
    if timbre.tremolo:
        envelope *= 1 + timbre.tremolo * np.sin(2 * np.pi * 6 * time)

    x = timbre.harmonics * (0.5 + 0.5 * brightness)
    if timbre.damping:
        x = x * np.exp(-time * timbre.damping)
    wave = np.zeros_like(time)
    for ratio, amplitude in timbre.partials:
        if frequency * ratio < SAMPLE_RATE / 3:
            phase = 2 * np.pi * frequency * ratio * time
            wave += amplitude * _series(phase, x, timbre.odd)
    return (wave * envelope).astype(np.float32)


def _series(phase, x, odd: bool) -> np.ndarray:
    if np.ndim(x) == 0 and x == 0:
        return np.sin(phase)
    if odd:
        square = x * x
        return np.sin(phase) * (1 + square) / (1 - 2 * square * np.cos(2 * phase) + square**2)
    return np.sin(phase) * np.sqrt(1 - x * x) / (1 - 2 * x * np.cos(phase) + x * x)


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
    low_pass = 1 / (1 + (_frequencies() / np.float32(cutoff)) ** 4)
    spectrum = np.fft.rfft(mix, axis=1) * (_room(*style.room) * low_pass)
    sound = np.fft.irfft(spectrum, n=SAMPLES, axis=1)
    return np.ascontiguousarray((sound * (track.level / np.abs(sound).max())).T)


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
