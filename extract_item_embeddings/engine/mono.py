"""An audio file's first seconds as one channel at the file's own rate, decoded by FFmpeg.

All that is there is decoded, whatever the headers say. What they claim is looked at where less is
there than was asked for: then the file has been cut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import av
import numpy as np

from extract_item_embeddings.engine import claims

# What FFmpeg may take a file for: kinds of audio, never a playlist that names other files.
KINDS = {"format_whitelist": "mp3,ogg,flac,wav,w64,aiff,mov,asf,aac", "protocol_whitelist": "file"}
BLOCK = 1 << 15  # samples of a channel that are made floats at once
LACKING = 0.1  # seconds a file may end before its header says, or lose in its middle
ROUGH = 0.5  # the same for kinds whose headers also count what is never played
# FFmpeg reports the header's length of these; of others it is made to fit the file's size.
EXACT, PACKED = ("flac", "ogg"), ("w64", "aiff", "mov,mp4,m4a,3gp,3g2,mj2", "asf")
UNTIMED = 0.02  # seconds of a packet that does not say how long it is
CANCELS = 1e-3  # of the loudest channel's power: channels whose mean keeps less cancel each other


class Unheard(ValueError):
    """Why there is no clip of a file."""


@dataclass
class Mono:
    """What was decoded of a file."""

    rates: list[int] = field(default_factory=list)  # Hz, of each block
    blocks: list[np.ndarray] = field(default_factory=list)  # float32 (samples,)
    power: dict[int, float] = field(default_factory=dict)  # of each channel: its sum of squares
    cancelled: bool = False  # whether it is one channel of several that cancel each other
    seconds: float = 0.0
    lost: float = 0.0  # seconds that could not be decoded, with others behind them
    fault: str = ""  # what FFmpeg said last of what it could not decode

    def add(self, rate: int, samples: np.ndarray, channel: int | None) -> None:
        """Add the mean of a block (channels, samples), or one of the channels."""
        for number, wave in enumerate(samples):
            self.power[number] = self.power.get(number, 0.0) + float(wave @ wave)
        mean = sum(samples) / np.float32(len(samples))
        self.rates.append(rate)
        self.blocks.append(mean if channel is None else samples[min(channel, len(samples) - 1)])
        self.seconds += samples.shape[1] / rate

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (Hz, wave) of all neighbouring blocks of one rate: nearly always once."""
        start = 0
        for end in range(1, len(self.rates) + 1):
            if end == len(self.rates) or self.rates[end] != self.rates[start]:
                yield self.rates[start], np.concatenate(self.blocks[start:end])
                start = end


def read_mono(file: BinaryIO, seconds: float) -> Mono:
    """Return the mean of the channels of a file's first seconds, or a little more.

    Where the channels cancel each other, as in a recording with one of them upside down, it is the
    loudest of them.

    Raises:
        Unheard: it holds no audio, or less than its own header says, or some cannot be decoded.
        OSError: it cannot be read.
    """
    mono = _decode(file, seconds, None)
    kept = sum(float(block @ block) for block in mono.blocks)
    if kept < CANCELS * max(mono.power.values(), default=0):
        mono = _decode(file, seconds, max(mono.power, key=mono.power.get))
        mono.cancelled = True
    return mono


def _decode(file: BinaryIO, seconds: float, channel: int | None) -> Mono:
    more = {"ignore_length": "1"} if claims.wav_promises_less(file) else {}
    file.seek(0)
    mono = Mono()
    with _opened(file, {**KINDS, **more}) as container:
        stream = container.streams.best("audio")
        if stream is None:
            silent = len(container.streams) > len(container.streams.audio)
            raise Unheard("holds pictures alone" if silent else "is not audio of a known kind")
        stream.codec_context.thread_count = 1
        kind, promised = container.format.name, None
        if stream.duration is not None:
            promised = float(stream.duration * stream.time_base)
        for rate, samples in _blocks(container, stream, mono):
            mono.add(rate, samples, channel)
            if mono.seconds >= seconds:
                break
    if not mono.blocks and mono.fault:
        raise Unheard(f"cannot be decoded: {mono.fault}")
    if mono.lost > LACKING:
        raise Unheard(f"{mono.lost:.1f} s of it cannot be decoded: {mono.fault}")
    if mono.seconds < seconds:
        _check_end(file, kind, promised, mono, seconds)
    return mono


@contextlib.contextmanager
def _opened(file: BinaryIO, options: dict[str, str]) -> Iterator[av.container.InputContainer]:
    try:
        container = av.open(file, options=options, metadata_errors="ignore")
    except av.error.FFmpegError as error:
        file.seek(4)
        if file.read(4) == b"ftyp":
            raise Unheard("lacks its index: it was cut, or never finished") from error
        raise Unheard("is not audio of a known kind") from error
    with container:
        yield container


def _blocks(container, stream, mono: Mono) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (Hz, float32 (channels, samples)) of thousands of samples: frames are small."""
    gathered, rate = av.AudioFifo(), 0
    for frame in _frames(container, stream, mono):
        frame.pts = None  # what stands next to each other in the file is one sound
        try:
            gathered.write(frame)
        except ValueError:  # of another rate, kind or number of channels than those before
            if gathered.samples:
                yield rate, _floats(gathered.read())
            gathered = av.AudioFifo()
            gathered.write(frame)
        rate = frame.sample_rate
        if gathered.samples >= BLOCK:
            yield rate, _floats(gathered.read())
    if gathered.samples:
        yield rate, _floats(gathered.read())


def _frames(container, stream, mono: Mono) -> Iterator[av.AudioFrame]:
    """Yield what can be decoded; note in `mono` what cannot."""
    lost = 0.0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            mono.fault = error.strerror
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            mono.fault = error.strerror
            lost += float(packet.duration * packet.time_base) if packet.duration else UNTIMED
            continue
        if frames:
            mono.lost, lost = mono.lost + lost, 0.0
        yield from frames


def _floats(frame: av.AudioFrame) -> np.ndarray:
    """Return a frame's samples as float32 (channels, samples), full scale at 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32, copy=False)


def _check_end(
    file: BinaryIO, kind: str, promised: float | None, mono: Mono, seconds: float
) -> None:
    """Raise Unheard if the file was longer when its header was written.

    Args:
        kind: FFmpeg's name of its format.
        promised: seconds, as FFmpeg reports them.
        seconds: as many as were asked for.
    """
    if kind == "mp3":
        promised = claims.mp3_seconds(file)
    elif kind == "wav":
        promised = claims.wav_seconds(file)
    elif kind not in EXACT + PACKED:
        promised = None
    lacking = ROUGH if kind in PACKED else LACKING
    if promised is not None and mono.seconds < min(promised, seconds) - lacking:
        raise Unheard(f"ends after {mono.seconds:.1f} of {promised:.1f} s")
    if kind == "ogg" and claims.ogg_is_cut(file):
        raise Unheard(f"ends after {mono.seconds:.1f} s without its last page: it has been cut")
    if mono.fault and promised is None:
        raise Unheard(f"cannot be decoded after {mono.seconds:.1f} s: {mono.fault}")
