"""One audio file to a mono clip at a backbone's rate and length."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from extract_item_embeddings.engine.mono import Mono, Unheard, read_mono
from extract_item_embeddings.engine.perturb import perturbed, seconds_before

SHORTEST = 0.1  # seconds: less is not music, and repeating it would only make a tone
MARGIN = 0.05  # seconds read beyond the clip: the resampler looks ahead 0.02
SILENCE = 1e-4  # the loudest sample of what is no sound: -80 dB, three steps of 16 bits
LOUD = 4.0  # full scale is 1; lossy codecs overshoot it by a little
SILENT = "is silent"  # the reason why there is no clip
# Remarks: what is said of clips that are used all the same.
CANCELLED, OUT_OF_RANGE = "channels cancel", "out of range"
REMARKS = ("", CANCELLED, OUT_OF_RANGE)


@dataclass(frozen=True)
class ClipLength:
    """What a backbone wants, in samples: at most `longest`, at least `shortest`, whole `step`s."""

    rate: int
    longest: int
    shortest: int
    step: int
    silence: bool = False  # whether a shorter clip is filled up with silence
    perturb: str | None = None  # what is done to the sound before; see perturb.py

    @property
    def seconds(self) -> float:
        """How much of a file is heard."""
        return self.longest / self.rate

    def fit(self, wave: np.ndarray) -> np.ndarray:
        """Return the wave (samples,) at a length the backbone takes.

        A longer wave is cut. A shorter one is cut to whole steps, so that clips of nearly equal
        length share a batch, and repeated when it is shorter than the model takes: silence would
        become part of every average over time, repetition leaves it as it is.
        """
        if len(wave) >= self.longest:
            return wave[: self.longest]
        if self.silence:
            return np.pad(wave, (0, self.longest - len(wave)))
        if len(wave) < self.shortest:
            return np.resize(wave, self.shortest)
        return wave[: max(self.shortest, len(wave) // self.step * self.step)]


Heard = tuple[np.ndarray | str, str]  # the clip and a remark, '' if there is none; or why not, ''


def clips_or_reasons(path: Path, lengths: Iterable[ClipLength]) -> list[Heard]:
    """Return what `clip_or_reason` does for each length.

    The file is decoded once for all that hear as many seconds of it, in the same state, and
    resampled once a rate.
    """
    found: dict[ClipLength, Heard] = {}
    lengths = list(lengths)
    for heard in dict.fromkeys((length.seconds, length.perturb) for length in lengths):
        alike = [length for length in lengths if (length.seconds, length.perturb) == heard]
        try:
            sound = _decoded(path, *heard)
        except Exception as error:
            found |= {length: (_why(error), "") for length in alike}
            continue
        for length in alike:
            try:
                found[length] = _clip(sound, length)
            except Exception as error:
                found[length] = _why(error), ""
    return [found[length] for length in lengths]


def clip_or_reason(path: Path, length: ClipLength) -> Heard:
    """Return the clip and the remark of a file as `hear` does, or why there is none and ''."""
    return clips_or_reasons(path, [length])[0]


def _why(error: Exception) -> str:
    """Return the reason in words; whatever a decoder raises, it is this file's failure alone."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error) or type(error).__name__


def read_clip(path: Path, length: ClipLength) -> np.ndarray:
    """Return the clip of a file alone, as `hear` does."""
    return hear(path, length)[0]


def hear(path: Path, length: ClipLength) -> tuple[np.ndarray, str]:
    """Return the first seconds of a file, float32 (samples,), and a remark, '' if there is none.

    The clip is mono, resampled, at a fitting length. Only what it needs is decoded, so a long file
    costs no more than a short one. Remarks are CANCELLED, its loudest channel stands for all, and
    OUT_OF_RANGE, its samples go far beyond full scale and are left as they are.

    Raises:
        Unheard: no audio, silence, less than SHORTEST, an end before the header says, NaN.
        OSError: the file cannot be read.
    """
    return _clip(_decoded(path, length.seconds, length.perturb), length)


class _Sound:
    """A decoded file, and its waves at the rates that were asked for."""

    def __init__(self, mono: Mono, seconds: float, perturb: str | None):
        self.cancelled, self.seconds, self.pieces = mono.cancelled, seconds, list(mono.pieces())
        if perturb:
            self.pieces = [(rate, perturbed(wave, rate, perturb)) for rate, wave in self.pieces]
        self.waves: dict[int, np.ndarray] = {}  # by Hz

    def at(self, rate: int) -> np.ndarray:
        """Return the wave at a rate; what lies far behind the clip is cut off before."""
        if rate not in self.waves:
            waves = [self._resampled(wave, given, rate) for given, wave in self.pieces]
            self.waves[rate] = np.concatenate(waves) if len(waves) > 1 else waves[0]
        return self.waves[rate]

    def _resampled(self, wave: np.ndarray, given: int, rate: int) -> np.ndarray:
        wave = wave[: math.ceil((self.seconds + MARGIN) * given)]
        return wave if given == rate else soxr.resample(wave, given, rate, quality="HQ")


def _decoded(path: Path, seconds: float, perturb: str | None) -> _Sound:
    with open(path, "rb") as file:
        if not file.read(1):
            raise Unheard("is empty (0 bytes)")
        mono = read_mono(file, seconds + MARGIN + seconds_before(perturb))
    if mono.seconds < SHORTEST:
        raise Unheard(f"holds {mono.seconds:.3f} s of audio, at least {SHORTEST} s needed")
    return _Sound(mono, seconds, perturb)


def _clip(sound: _Sound, length: ClipLength) -> tuple[np.ndarray, str]:
    clip = length.fit(sound.at(length.rate))
    loudest = float(np.abs(clip).max())
    if not math.isfinite(loudest):
        raise Unheard("holds samples that are not finite")
    if loudest < SILENCE:
        raise Unheard(SILENT)
    if loudest > LOUD:
        return clip, OUT_OF_RANGE
    return clip, CANCELLED if sound.cancelled else ""
