"""Clips on disk: tracks synthesised and encoded as mp3 files by several processes."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from core.artifacts import atomic_path
from core.cores import cores
from core.workers import in_processes
from sample_data.synthesis import SAMPLE_RATE, Track, synthesise

# LAME at its fastest: about 65 kbit/s. Without a search for what both channels have in common, and
# for the best of all ways to round, it takes two thirds of the time.
QUALITY = 7  # of variable bitrate, 0 to 9
LAME = {"flags": "qscale", "global_quality": str(118 * QUALITY)}
LAME |= {"compression_level": "9", "joint_stereo": "0"}


def write_clips(clips: dict[Path, Track]) -> None:
    """Write the clips that are missing, on all cores; each is whole or not there.

    Raises:
        WorkError: a worker was killed, or the disk is full; what is written stays.
    """
    missing = [(path, track) for path, track in clips.items() if not path.exists()]
    made, total = len(clips) - len(missing), len(clips)
    with tqdm(desc="clips", initial=made, total=total, unit=" clips", disable=None) as bar:
        for _ in in_processes(_write_clip, missing, cores()):
            bar.update()


def _write_clip(path: Path, track: Track) -> None:
    """Synthesise the track and write it as mp3."""
    mp3 = _encoded(synthesise(track))  # not straight to disk: FFmpeg says little of a full one
    with atomic_path(path) as temporary:
        temporary.write_bytes(mp3)


def _encoded(sound: np.ndarray) -> memoryview:
    """Return an mp3 file of sound, float32 (samples, 2) in [-1, 1] at SAMPLE_RATE."""
    mp3 = io.BytesIO()
    with av.open(mp3, "w", format="mp3") as file:
        stream = file.add_stream("libmp3lame", rate=SAMPLE_RATE, options=LAME)
        stream.layout, stream.format = "stereo", "fltp"
        planes = np.ascontiguousarray(sound.T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return mp3.getbuffer()
