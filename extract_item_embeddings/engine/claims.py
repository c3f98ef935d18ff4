"""What an audio file's own headers say of its length, for files that end early.

FFmpeg fits the length that it reports to the size of the file, so that half a file looks whole.
Here the headers are read for what they claim.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO, NamedTuple

import numpy as np

BLOCK = 1 << 16  # bytes looked at in one go
UNKNOWN = (0, 0xFFFFFFFF)  # bytes of a wav that was written before its length was known
RESEMBLANCE = 0.2  # of neighbouring samples of sound, at least; of garbage it is 0
TAIL = 1 << 20  # bytes searched for an ogg's last page
END_OF_STREAM = 4  # a flag of ogg pages
# Of MPEG audio, by version (2.5, -, 2, 1): Hz, samples a frame of layer III, bytes between header
# and tag for mono and stereo.
MPEG_RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))
MPEG_FRAME = (576, 0, 576, 1152)
MPEG_SIDE = ((9, 17), (), (9, 17), (17, 32))


class WavData(NamedTuple):
    """Where a wav's sound stands, and what its header says of it."""

    start: int  # byte
    size: int | None  # bytes, None where the header does not know
    rate: int  # bytes a second
    frame: int  # bytes of one sample of all channels
    sample: int  # bytes of one sample


def wav_data(file: BinaryIO) -> WavData | None:
    """Return what a wav's header says, None if it is no wav."""
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return None
    long_size, rate, frame, bits = None, 0, 1, 8
    while len(header := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        start = file.tell()
        if name == b"data":
            size = size if long_size is None else long_size
            known = None if size in UNKNOWN else size
            return WavData(start, known, rate, max(1, frame), max(1, bits // 8))
        if name == b"ds64" and head[:4] == b"RF64":
            (long_size,) = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))
        if name == b"fmt ":
            rate, frame, bits = struct.unpack("<8xIHH", file.read(16).ljust(16, b"\0"))
        file.seek(start + size + size % 2)
    return None


def wav_seconds(file: BinaryIO) -> float | None:
    """Return the seconds that a wav's header claims, None where it claims none."""
    data = wav_data(file)
    return data.size / data.rate if data and data.size and data.rate else None


def wav_promises_less(file: BinaryIO) -> bool:
    """Say whether a wav holds more sound than its header says, as two files joined do.

    What stands behind the sound is another wav, or other chunks, or garbage, or sound: there
    neighbours resemble each other.
    """
    data = wav_data(file)
    if data is None or data.size is None:
        return False
    place, end = data.start + data.size, file.seek(0, os.SEEK_END)
    while place + 8 <= end:
        file.seek(place + place % 2)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if name == b"RIFF":
            return True
        if not re.fullmatch(rb"[ -~]{4}", name) or place + size > end:
            file.seek(place)
            return _is_sound(file.read(BLOCK), data)
        place += place % 2 + 8 + size
    return False


def _is_sound(content: bytes, data: WavData) -> bool:
    """Say whether the highest bytes of one channel's samples go up and down together."""
    tops = np.frombuffer(content, np.int8)[data.sample - 1 :: data.frame].astype(np.float32)
    if len(tops) < 100 or not tops.any():
        return False
    one, next_one = tops[:-1] - tops.mean(), tops[1:] - tops.mean()
    return float(one @ next_one) > RESEMBLANCE * float(one @ one)


def mp3_seconds(file: BinaryIO) -> float | None:
    """Return the seconds that an mp3's length tag (Xing, Info, VBRI) claims, None without one."""
    file.seek(0)
    place = 0
    while (head := file.read(10))[:3] == b"ID3" and len(head) == 10:
        size = sum(
            (byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
        place += 10 + size
        file.seek(place)
    file.seek(place)
    block = file.read(BLOCK)
    start = block.find(b"\xff")
    while 0 <= start < len(block) - 200:
        if (seconds := _tag_seconds(block[start : start + 200])) is not None:
            return seconds or None
        start = block.find(b"\xff", start + 1)
    return None


def _tag_seconds(frame: bytes) -> float | None:
    """Return what the tag in an mp3's first frame claims, 0 if there is none; None: no frame."""
    version, layer, rate = frame[1] >> 3 & 3, frame[1] >> 1 & 3, frame[2] >> 2 & 3
    if frame[1] < 0xE0 or layer != 1 or version == 1 or rate == 3 or frame[2] >> 4 in (0, 15):
        return None
    hz, samples = MPEG_RATES[version][rate], MPEG_FRAME[version]
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54]) * samples / hz
    tag = 4 + MPEG_SIDE[version][frame[3] >> 6 != 3]
    flags = int.from_bytes(frame[tag + 4 : tag + 8])
    if frame[tag : tag + 4] not in (b"Xing", b"Info") or not flags & 1:
        return 0.0
    frames = int.from_bytes(frame[tag + 8 : tag + 12])
    encoder = tag + 8 + 4 * (1 + bool(flags & 2) + bool(flags & 8)) + 100 * bool(flags & 4)
    trimmed = int.from_bytes(frame[encoder + 21 : encoder + 24])
    delay = (trimmed >> 12) + (trimmed & 0xFFF) if frame[encoder : encoder + 1].isalpha() else 0
    return max(0, frames * samples - delay) / hz


def ogg_is_cut(file: BinaryIO) -> bool:
    """Say whether an ogg or opus file lacks its last page, which every finished one has."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - TAIL))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return True
    lengths = tail[page + 27 : page + 27 + tail[page + 26]]
    whole = len(lengths) == tail[page + 26] and len(tail) >= page + 27 + len(lengths) + sum(lengths)
    return not (whole and tail[page + 5] & END_OF_STREAM)
