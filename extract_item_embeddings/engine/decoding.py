"""One audio file to a mono clip at a backbone's rate and length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from extract_item_embeddings.engine.mono import Unheard, read_mono
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


def clip_or_reason(path: Path, length: ClipLength) -> tuple[np.ndarray | str, str]:
    """Return the clip and the remark of a file as `hear` does, or why there is none and ''."""
    try:
        return hear(path, length)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}", ""
    except Exception as error:  # whatever a decoder raises, it is this file's failure alone
        return str(error) or type(error).__name__, ""


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
    with open(path, "rb") as file:
        if not file.read(1):
            raise Unheard("is empty (0 bytes)")
        seconds = length.longest / length.rate + MARGIN + seconds_before(length.perturb)
        mono = read_mono(file, seconds)
    if mono.seconds < SHORTEST:
        raise Unheard(f"holds {mono.seconds:.3f} s of audio, at least {SHORTEST} s needed")
    pieces = mono.pieces()
    if length.perturb:
        pieces = ((rate, perturbed(wave, rate, length.perturb)) for rate, wave in pieces)
    waves = [_resampled(wave, rate, length) for rate, wave in pieces]
    clip = length.fit(np.concatenate(waves) if len(waves) > 1 else waves[0])
    loudest = float(np.abs(clip).max())
    if not math.isfinite(loudest):
        raise Unheard("holds samples that are not finite")
    if loudest < SILENCE:
        raise Unheard(SILENT)
    if loudest > LOUD:
        return clip, OUT_OF_RANGE
    return clip, CANCELLED if mono.cancelled else ""


def _resampled(wave: np.ndarray, rate: int, length: ClipLength) -> np.ndarray:
    """Return a wave at the clip's rate; what lies far behind the clip is cut off before."""
    wave = wave[: math.ceil((length.longest / length.rate + MARGIN) * rate)]
    return wave if rate == length.rate else soxr.resample(wave, rate, length.rate, quality="HQ")
