"""The eight styles of the sample music, written down as a tracker would write them.

A style is layers of a timbre and a pattern (one bar, one character a step: `x` plays, `o` plays
softly, `?` plays as often as the track is dense, `.` rests), drums as further patterns, and a
room. A new style is one more entry of STYLES; synthesis.py plays it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sample_data.instruments import Timbre

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
DORIAN, LYDIAN, BLUES = (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 6, 7, 9, 11), (0, 3, 5, 6, 7, 9, 10)
PHRYGIAN = (0, 1, 3, 5, 7, 8, 10)


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
        tempo=(50, 76),
        beats=4,
        scale=LYDIAN,
        progressions=((0, 4), (0, 1), (3, 0)),
        layers=(
            Layer("chord", PAD, "x...............", 4, 4.0, 0.5),
            Layer("melody", SOFT, "?...?...?...?...", 5, 2.5, 0.25),
        ),
        drums=(),
        hiss=0.006,
        cutoff=(500, 5000),
        room=(2.5, 1.2),
        width=0.9,
    ),
    "techno": Style(
        tempo=(120, 140),
        beats=4,
        scale=MINOR,
        progressions=((0, 0, 0, 0), (0, 0, 5, 6)),
        layers=(
            Layer("bass", ACID, "..xx?.xx..xx?.x?", 2, 0.3, 0.5),
            Layer("chord", STAB, "?..x..?...?..?..", 4, 0.3, 0.25),
        ),
        drums=(
            ("kick", 1.0, ("x...x...x...x...",)),
            ("hat", 0.3, ("..x...x...x...x.", "x.x.x.xxx.x.x.x?", "..xo..xo..xo..xo")),
            ("clap", 0.4, ("....x.......x...", "............x..?")),
        ),
        hiss=0.002,
        cutoff=(1800, 16000),
        room=(0.4, 0.2),
        width=0.4,
    ),
    "chiptune": Style(
        tempo=(132, 176),
        beats=4,
        scale=MAJOR,
        progressions=((0, 4, 5, 3), (0, 3, 4, 4), (5, 3, 0, 4)),
        layers=(
            Layer("arpeggio", SQUARE, "xxxxxxxxxxxxxxxx", 5, 0.24, 0.3),
            Layer("melody", SQUARE, "x.?.?.x.?.x.?.??", 5, 0.45, 0.4),
            Layer("bass", TRIANGLE, "x.x.x.x.x.x.x.x.", 3, 0.5, 0.6),
        ),
        drums=(("snare", 0.25, ("....x.......x...", "....x..?....x.?.")),),
        hiss=0.0,
        cutoff=(3000, 18000),
        room=(0.1, 0.0),
        width=0.1,
    ),
    "folk": Style(
        tempo=(84, 126),
        beats=4,
        scale=DORIAN,
        progressions=((0, 3, 6, 0), (0, 2, 6, 3), (0, 6, 3, 0)),
        layers=(
            Layer("arpeggio", STRING, "x.x.xxx.x.x?x.x?", 4, 2.0, 0.5),
            Layer("bass", STRING, "x.......x.......", 3, 2.0, 0.5),
            Layer("melody", STRING, "?...?...?.?...?.", 5, 1.5, 0.35),
        ),
        drums=(),
        hiss=0.003,
        cutoff=(1500, 12000),
        room=(0.6, 0.25),
        width=0.5,
    ),
    "drone": Style(
        tempo=(50, 70),
        beats=4,
        scale=PHRYGIAN,
        progressions=((0, 0), (0, 1)),
        layers=(
            Layer("bass", HUM, "x...............", 2, 6.0, 0.6),
            Layer("chord", HUM, "?...............", 3, 6.0, 0.2),
        ),
        drums=(),
        hiss=0.5,
        cutoff=(250, 4000),
        room=(2.0, 0.7),
        width=1.0,
    ),
    "waltz": Style(
        tempo=(96, 168),
        beats=3,
        scale=MAJOR,
        progressions=((0, 4, 5, 4), (0, 3, 4, 0), (0, 5, 1, 4)),
        layers=(
            Layer("melody", BELL, "x.?.x.?.x.?.", 5, 2.0, 0.5),
            Layer("chord", SOFT, "....x...x...", 4, 0.7, 0.2),
            Layer("bass", SOFT, "x...........", 3, 1.2, 0.5),
        ),
        drums=(),
        hiss=0.001,
        cutoff=(2000, 14000),
        room=(1.2, 0.5),
        width=0.7,
    ),
    "jungle": Style(
        tempo=(164, 184),
        beats=4,
        scale=MINOR,
        progressions=((0, 0, 5, 5), (0, 0, 0, 6)),
        layers=(
            Layer("bass", SUB, "x.....x...x.?...", 2, 1.2, 0.9),
            Layer("chord", PAD, "x...............", 4, 3.5, 0.15),
        ),
        drums=(
            ("kick", 0.8, ("x.........x.....", "x.x.......x..x..")),
            ("snare", 0.8, ("....x..o.o..x..o", "....x..o....x.?.")),
            ("hat", 0.35, ("x.x.x.x.x.x.x.x.", "xxxxx.xxxxx.xxxx")),
        ),
        hiss=0.004,
        cutoff=(2500, 17000),
        room=(0.5, 0.2),
        width=0.6,
    ),
    "blues": Style(
        tempo=(72, 112),
        beats=4,
        scale=BLUES,
        progressions=((0, 2, 0, 4), (0, 0, 2, 0), (4, 2, 0, 0)),
        layers=(
            Layer("chord", ORGAN, "x.....?..x..", 4, 1.6, 0.3),
            Layer("melody", ORGAN, "x.?x.?x.?x.?", 5, 0.6, 0.4),
            Layer("bass", SOFT, "x..x..x..x..", 2, 0.9, 0.7),
        ),
        drums=(
            ("hat", 0.2, ("x.ox.ox.ox.o", "x..x.ox..x.o")),
            ("snare", 0.15, ("...x.....x..", "...x.....x.?")),
            ("kick", 0.35, ("x.....x.....", "x....xx.....")),
        ),
        hiss=0.008,
        cutoff=(1200, 8000),
        room=(0.7, 0.25),
        width=0.3,
    ),
}
