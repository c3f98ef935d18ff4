"""One audio file to a mono clip at a backbone's rate and length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

SHORTEST = 0.1  # seconds: less is not music, and repeating it would only make a tone
MARGIN = 0.05  # seconds read beyond the clip: the resampler looks ahead 0.02
LACKING = 0.5  # seconds a file may end before the length in its header; mp3 headers are not exact
BLOCK = 1 << 17  # samples of all channels decoded at once
NOT_AUDIO = (1, 7)  # libsndfile: format not recognised; 7 when the name promised mp3


@dataclass(frozen=True)
class ClipLength:
    """What a backbone wants, in samples: at most `longest`, at least `shortest`, whole `step`s."""

    rate: int
    longest: int
    shortest: int
    step: int

    def fit(self, wave: np.ndarray) -> np.ndarray:
        """Return the wave (samples,) at a length the backbone takes.

        A longer wave is cut. A shorter one is cut to whole steps, so that clips of nearly equal
        length share a batch, and repeated when it is shorter than the model takes: silence would
        become part of every average over time, repetition leaves it as it is.
        """
        if len(wave) >= self.longest:
            return wave[: self.longest]
        if len(wave) < self.shortest:
            return np.resize(wave, self.shortest)
        return wave[: max(self.shortest, len(wave) // self.step * self.step)]


def clip_or_reason(path: Path, length: ClipLength) -> np.ndarray | str:
    """Return the clip of a file as `read_clip` does, or why there is none."""
    try:
        return read_clip(path, length)
    except soundfile.LibsndfileError as error:
        if error.code in NOT_AUDIO:
            return "is not audio of a known kind"
        return "cannot be decoded: " + error.error_string.rstrip(".")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except Exception as error:  # whatever a decoder raises, it is this file's failure alone
        return str(error) or type(error).__name__


def read_clip(path: Path, length: ClipLength) -> np.ndarray:
    """Return the first seconds of a file, float32 (samples,): mono, resampled, at a fitting length.

    Only what the clip needs is decoded, so a long file costs no more than a short one.

    Raises:
        ValueError: no audio, less than SHORTEST, an end before the header says, NaN.
        soundfile.LibsndfileError, OSError: what the file cannot be read for.
    """
    with open(path, "rb") as file:
        if not file.read(1):
            raise ValueError("is empty (0 bytes)")
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        wanted = min(file.frames, math.ceil((length.longest / length.rate + MARGIN) * rate))
        wave = _read_mono(file, wanted)
    if len(wave) < wanted - LACKING * rate:
        raise ValueError(f"ends after {len(wave) / rate:.1f} of {wanted / rate:.1f} s")
    if len(wave) < SHORTEST * rate:
        raise ValueError(f"holds {len(wave) / rate:.3f} s of audio, at least {SHORTEST} s needed")
    if not np.isfinite(wave).all():
        raise ValueError("holds samples that are not finite")
    if rate != length.rate:
        wave = soxr.resample(wave, rate, length.rate, quality="HQ")
    return length.fit(wave)


def _read_mono(file: soundfile.SoundFile, frames: int) -> np.ndarray:
    """Return the mean of the channels of the next frames, float32; fewer where the file ends."""
    blocks = [np.empty(0, np.float32)]
    while frames > 0:
        size = min(frames, max(1, BLOCK // file.channels))
        block = file.read(size, dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(sum(block.T) / np.float32(file.channels))
        frames -= len(block)
    return np.concatenate(blocks)
