"""Time extraction end to end against what its parts cost alone.

    python -m benchmarks.bench_extraction                   # musicnn and mfcc, on the CPU
    python -m benchmarks.bench_extraction --only together   # five backbones in one command
    python -m benchmarks.bench_extraction --only mert       # on a GPU; --device cpu for a try

Every part works on made-up music: mp3 files of 30 s, stereo, 44.1 kHz.

musicnn   Seconds a track of decoding, mel spectrogram and forward pass, one by one in one thread;
          the tracks a second that all cores allow for their sum; and what the engine reaches, from
          files to finished embedding.
mfcc      The engine with all cores against the engine with one worker on one core.
together  The four taggers and mfcc in one command against their forward passes on ready clips, one
          after another; in processor seconds, so that others on the machine count little.
mert      Random weights of MERT-330M's size, 30 s clips: the engine under bf16 against the bare
          forward pass on ready batches, and that pass as a share of the device's matrix rate,
          measured now with one large bf16 product; what bf16 changes in the vectors.

The last line is one json object: for each part `tracks_per_second`, `share` (of what the parts
allow; of together, the times of the passes; for mfcc `speedup`), `peak_mb`, `hours_study` (56,512
tracks) and `hours_100m`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from core.artifacts import read_json
from core.options import InputError, option, parse_config, run
from extract_item_embeddings.engine.decoding import read_clip
from extract_item_embeddings.engine.extraction import extract
from extract_item_embeddings.engine.found import backbone_class
from extract_item_embeddings.engine.jobs import Job
from extract_item_embeddings.engine.together import extract_together

PARTS = ("musicnn", "mfcc", "together", "mert")
TOGETHER = ("musicnn", "musicnn_mtt", "vgg_msd", "vgg_mtt", "mfcc")
RATE, SECONDS = 44_100, 30.0
STUDY = 56_512  # tracks
MERT_330M = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_dim": [512] * 7,
    "num_conv_pos_embedding_groups": 16,
    "num_conv_pos_embeddings": 128,
}


def kind_of(name: str) -> type:
    """Return a backbone's class; by name, since its file is a script."""
    module = importlib.import_module(f"extract_item_embeddings.{name}")
    return getattr(module, name.capitalize())


Musicnn, Mfcc, Mert = map(kind_of, ("musicnn", "mfcc", "mert"))


@dataclass(frozen=True)
class BenchConfig:
    only: str | None = option(None, f"one of {', '.join(PARTS)}; auto: musicnn and mfcc")
    tracks: int = option(400, "files; at least a few hundred, or the start weighs on the rate")
    seconds: float = option(SECONDS, "length of a file")
    batch_size: int = option(16, "clips at once, of mert")
    repeats: int = option(3, "timed repeats of what is measured alone; the fastest counts")
    device: str = option("auto", "of mert: auto, cpu, cuda or cuda:N")
    seed: int = option(0, "of the made-up music and of random weights")
    folder: Path | None = option(None, "where to work; auto: the system's temporary folder")

    def __post_init__(self):
        if self.only not in (None, *PARTS):
            raise InputError(f"--only must be one of {', '.join(PARTS)}, got '{self.only}'")


def main(config: BenchConfig) -> None:
    benches = {"musicnn": musicnn, "mfcc": mfcc, "together": together, "mert": mert}
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        root = Path(name)
        write_root(root, config)
        results = {}
        for part in [config.only] if config.only else PARTS[:2]:
            print(f"\n{part}: {config.tracks:,} files of {config.seconds:g} s")
            results[part] = benches[part](root, config)
            rate = results[part]["tracks_per_second"]
            hours = {"hours_study": STUDY / rate / 3600, "hours_100m": 1e8 / rate / 3600}
            print(
                f"  {STUDY:,} tracks {hours['hours_study']:,.1f} h, 100 million "
                f"{hours['hours_100m']:,.0f} h, on this machine alone"
            )
            results[part].update({key: round(value, 2) for key, value in hours.items()})
    print(json.dumps(results))


def musicnn(root: Path, config: BenchConfig) -> dict:
    """One thread for each step alone, then the engine on all cores."""
    files = sorted((root / "audio").iterdir())[:8]
    backbone = Musicnn()
    with one_thread():
        backbone.load("cpu")
        network = backbone.model
        clips = [read_clip(file, backbone.clip_length) for file in files]
        audio = [torch.from_numpy(clip)[None] for clip in clips]
        with torch.inference_mode():
            mels = [network.spectrogram(wave) for wave in audio]
            steps = {
                "decode": lambda: [read_clip(file, backbone.clip_length) for file in files],
                "mel": lambda: [network.spectrogram(wave) for wave in audio],
                "forward": lambda: [network.describe(mel) for mel in mels],
            }
            costs = {name: fastest(step, config) / len(files) for name, step in steps.items()}
    cores = len(os.sched_getaffinity(0))
    allowed = cores / sum(costs.values())
    for name, seconds in costs.items():
        print(f"  {name:<8}{seconds * 1000:>8.1f} ms a track, one thread")
    rate, peak = end_to_end(Musicnn, root, config)
    print(
        f"  engine  {rate:>8.2f} tracks/s, {cores} cores allow {allowed:.2f}: {rate / allowed:.0%}"
    )
    return {
        "tracks_per_second": round(rate, 3),
        "share": round(rate / allowed, 3),
        "forward_seconds": round(costs["forward"], 4),
        "peak_mb": peak,
    }


def mfcc(root: Path, config: BenchConfig) -> dict:
    """The engine on all cores against one worker that is kept to one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        alone, _ = end_to_end(Mfcc, root, config, "--workers", "1")
    finally:
        os.sched_setaffinity(0, cores)
    rate, peak = end_to_end(Mfcc, root, config)
    print(
        f"  engine  {rate:>8.2f} tracks/s on {len(cores)} cores, {alone:.2f} on one: "
        f"{rate / alone:.2f} times"
    )
    speedup = round(rate / alone, 3)
    return {"tracks_per_second": round(rate, 3), "speedup": speedup, "peak_mb": peak}


def together(root: Path, config: BenchConfig) -> dict:
    """Five backbones over one decoding against their forward passes alone."""
    files = sorted((root / "audio").iterdir())
    cores, alone = len(os.sched_getaffinity(0)), 0.0
    for name in TOGETHER:
        backbone = backbone_class(name)()
        backbone.workers = cores
        backbone.load("cpu")
        clips = [read_clip(file, backbone.clip_length) for file in files[:4]]
        ready = np.stack([clips[i % len(clips)] for i in range(backbone.batch_size)])
        backbone.embed(ready)
        start = processor_seconds()
        for first in range(0, config.tracks, len(ready)):
            backbone.embed(ready[: config.tracks - first])
        seconds = processor_seconds() - start
        alone += seconds
        print(f"  {name:<12}{seconds / config.tracks * 1000:>8.1f} ms a track of one core")
    start, clock = processor_seconds(), time.perf_counter()
    options = {"root": root, "audio": root / "audio", "device": "cpu", "overwrite": True}
    with contextlib.redirect_stdout(io.StringIO()):
        extract_together(
            [
                Job.prepare(kind, kind.config_class(**options))
                for kind in map(backbone_class, TOGETHER)
            ]
        )
    spent, rate = processor_seconds() - start, config.tracks / (time.perf_counter() - clock)
    shutil.rmtree(root / "embeddings")
    print(
        f"  together    {spent / config.tracks * 1000:>8.1f} ms, {spent / alone:.3f} times their "
        f"sum of {alone / config.tracks * 1000:.1f} ms; {rate:.2f} tracks/s"
    )
    return {"tracks_per_second": round(rate, 3), "share": round(spent / alone, 3)}


def processor_seconds() -> float:
    """Return the processor's seconds of this process and of those it has started and ended."""
    return sum(os.times()[:4])


def mert(root: Path, config: BenchConfig) -> dict:
    """The engine under bf16 against the bare forward pass on ready batches."""
    from tests.extract_item_embeddings import tiny_weights  # which load every network there is

    device = Mert().pick_device(config.device)
    if device == "cpu" and config.device != "cpu":
        raise InputError("--only mert needs a GPU; --device cpu tries the benchmark, slowly")
    weights = tiny_weights.mert(root / "weights", config.seed, **MERT_330M)
    flags = ["--weights", str(weights), "--batch-size", str(config.batch_size), "--device", device]
    fast = [] if device == "cpu" else ["--precision", "bf16"]

    backbone = Mert.from_config(
        parse_config(Mert.config_class, "", ["--audio", ".", *flags, *fast])
    )
    backbone.load(device)
    samples = round(min(config.seconds, Mert.clip_seconds) * Mert.sample_rate)
    audio = 0.1 * np.random.default_rng(config.seed).normal(size=(config.batch_size, samples))
    audio = audio.astype(np.float32)
    vectors = backbone.embed(audio)
    seconds = fastest(lambda: backbone.embed(audio), config)
    bare = config.batch_size / seconds
    operations, product = operations_of(backbone, audio), matrix_rate(device, config)
    print(
        f"  forward {bare:>8.2f} tracks/s, {operations / config.batch_size / 1e12:.2f} TFLOP each: "
        f"{operations / seconds / product:.0%} of {product / 1e12:.0f} TFLOP/s, one large product"
    )
    backbone.precision = "float32"
    exact = backbone.embed(audio)
    error = float(np.abs(vectors - exact).max() / np.abs(exact).max())
    print(f"  bf16 differs from float32 by {error:.1e} of the largest number")

    rate, peak = end_to_end(Mert, root, config, *flags, *fast)
    on_device = torch.cuda.max_memory_allocated() >> 20 if device != "cpu" else 0
    print(f"  engine  {rate:>8.2f} tracks/s: {rate / bare:.0%}; {on_device:,} MiB of the GPU")
    return {
        "tracks_per_second": round(rate, 3),
        "share": round(rate / bare, 3),
        "matrix_share": round(operations / seconds / product, 3),
        "bf16_error": error,
        "gpu_mb": on_device,
        "peak_mb": peak,
    }


def end_to_end(kind: type, root: Path, config: BenchConfig, *flags: str) -> tuple[float, int]:
    """Return (tracks a second of the engine, peak resident MB of the process so far)."""
    given = ["--root", str(root), "--audio", str(root / "audio"), "--overwrite", *flags]
    options = parse_config(kind.config_class, "", given)
    said = io.StringIO()
    start = time.perf_counter()
    with contextlib.redirect_stdout(said):
        extract(kind, options)
    seconds = time.perf_counter() - start
    (record,) = (root / "embeddings").glob(f"{kind.name}*.json")
    peak = read_json(record, "the benchmark again")["peak_memory_bytes"] >> 20
    shutil.rmtree(root / "embeddings")
    return config.tracks / seconds, peak


def operations_of(backbone, audio: np.ndarray) -> int:
    """Return the floating-point operations of a forward pass, as torch counts its products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        backbone.embed(audio)
    return counter.get_total_flops()


def matrix_rate(device: str, config: BenchConfig) -> float:
    """Return operations a second of one large product, bf16 on a GPU, float32 on the CPU."""
    size, kind = (1024, torch.float32) if device == "cpu" else (8192, torch.bfloat16)
    a = torch.ones(size, size, dtype=kind, device=device)

    def product():
        a @ a
        if device != "cpu":
            torch.cuda.synchronize()

    product()
    return 2 * size**3 / fastest(product, config)


def fastest(step: Callable, config: BenchConfig) -> float:
    """Return the seconds of the fastest repeat."""
    times = []
    for _ in range(config.repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


@contextlib.contextmanager
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_root(root: Path, config: BenchConfig) -> None:
    """Write a few made-up pieces as mp3 files under many names, and their ids."""
    (root / "audio").mkdir()
    rng = np.random.default_rng(config.seed)
    clock = np.arange(round(config.seconds * RATE)) / RATE
    pieces = []
    for piece in range(4):
        notes = rng.uniform(80, 2000, size=8)
        sides = [
            sum(np.sin(2 * np.pi * note * clock) for note in rng.permutation(notes)[:6])
            for _ in range(2)
        ]
        wave = 0.1 * np.stack(sides, axis=1) + 0.02 * rng.normal(size=(len(clock), 2))
        pieces.append(root / f"piece{piece}.mp3")
        soundfile.write(pieces[-1], wave.clip(-1, 1), RATE)
    names = [f"t{number:05d}" for number in range(config.tracks)]
    for number, name in enumerate(names):
        shutil.copy(pieces[number % len(pieces)], root / "audio" / f"{name}.mp3")
    lines = ["idx,trackid", *(f"{number},{name}" for number, name in enumerate(names))]
    (root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
