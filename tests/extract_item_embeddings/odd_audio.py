"""Audio files as they are found in the field: headers that lie, damage, joined and cut files."""

import io
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

RATE = 44_100
KINDS = ("mp3", "vbr.mp3", "ogg", "opus", "flac", "wav")


def melody(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Notes of a quarter second in both channels over soft noise: float32 (samples, 2)."""
    rng = np.random.default_rng(seed)
    clock = np.arange(round(seconds * rate)) / rate
    note = (clock * 4).astype(int)
    sides = [
        0.25
        * np.sin(2 * np.pi * (220 * 2 ** (rng.integers(0, 24, note.max() + 1) / 12))[note] * clock)
        for _ in range(2)
    ]
    wave = np.stack(sides, axis=1) + rng.normal(0, 0.01, (len(clock), 2))
    return wave.astype(np.float32)


def encoded(wave: np.ndarray, kind: str, rate: int = RATE) -> bytes:
    """Return the wave (samples, channels) as a file of one of KINDS, or m4a, wma, aiff."""
    if kind in ("m4a", "wma"):
        return _with_ffmpeg(wave, *{"m4a": ("ipod", "aac"), "wma": ("asf", "wmav2")}[kind], rate)
    more = {"opus": {"format": "OGG", "subtype": "OPUS"}, "aiff": {"format": "AIFF"}}.get(kind, {})
    if kind == "vbr.mp3":
        more = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.3}
    if kind == "opus":
        wave, rate = soxr.resample(wave, rate, 48_000), 48_000
    file = io.BytesIO()
    soundfile.write(file, wave, rate, **{"format": kind.upper(), **more})
    return file.getvalue()


def _with_ffmpeg(wave: np.ndarray, container: str, codec: str, rate: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T), "fltp", "stereo")
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def without_length(mp3: bytes) -> bytes:
    """Return an mp3 of libsndfile's without its first frame, which holds the length alone."""
    tag = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    second = mp3.find(mp3[:2], tag)
    return mp3[second:]


def plainly(content: bytes, rate: int) -> np.ndarray:
    """Return all that FFmpeg makes of a file, mono at a rate: float32 (samples,)."""
    waves = []
    try:
        with av.open(io.BytesIO(content), metadata_errors="ignore") as container:
            for packet in container.demux(audio=0):
                try:
                    waves += [_mean(frame) for frame in packet.decode()]
                except av.error.FFmpegError:
                    continue
    except (av.error.FFmpegError, IndexError):
        pass
    if not waves:
        return np.empty(0, np.float32)
    wave = np.concatenate([wave for _, wave in waves])
    return soxr.resample(wave, waves[0][0], rate)


def _mean(frame: av.AudioFrame) -> tuple[int, np.ndarray]:
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale = float(-np.iinfo(samples.dtype).min) if samples.dtype.kind == "i" else 1.0
    return frame.sample_rate, (samples.astype(np.float32) / scale).mean(axis=0)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of what both have."""
    n = min(len(one), len(other))
    return float(np.corrcoef(one[:n], other[:n])[0, 1])


def damaged(seed: int, whole: dict[str, bytes]) -> tuple[str, str, bytes]:
    """Return (how, the name's ending, content) of one of the whole files after an accident."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    how = ("cut", "flips", "joined", "renamed", "tail", "tags")[seed // len(KINDS) % 6]
    content, ending = whole[kind], kind.rpartition(".")[2]
    if how == "cut":
        content = content[: int(len(content) * rng.uniform(0.05, 0.95))]
    elif how == "flips":
        changed = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(0, len(changed), rng.integers(1, 40))
        np.bitwise_xor.at(changed, places, np.uint8(1) << rng.integers(0, 8, len(places), np.uint8))
        content = changed.tobytes()
    elif how == "joined":
        content += content
    elif how == "renamed":
        ending = str(rng.choice([other.rpartition(".")[2] for other in KINDS]))
    elif how == "tail":
        content += rng.bytes(int(rng.integers(1, 60_000)))
    else:
        tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
        content = 2 * tag + content + 2 * (b"TAG" + bytes(125))
    return how, ending, content


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
