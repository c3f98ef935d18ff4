"""Seconds, peak memory and this machine's own rates: what the benchmarks measure with."""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch


def measure(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the fastest of the repeats in seconds, and the peak memory above the start in bytes.

    One call beforehand warms up, unless there is a single repeat of something slow.
    """
    if repeats > 1:
        work()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what was freed before counts as still held
    before = _reset_peak()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds), max(_peak_bytes() - before, 1 << 20)


def _reset_peak() -> int:
    """Forget the process's peak memory (Linux) and return what it holds now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_bytes()


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine_rates() -> tuple[float, float]:
    """Return this machine's float32 product rate (FLOP/s) and copy rate (bytes/s)."""
    a, b = torch.randn(2048, 2048), torch.randn(1 << 26)
    target = torch.empty_like(b)
    product = measure(lambda: torch.mm(a, a), 20)[0]
    copy = measure(lambda: target.copy_(b), 10)[0]
    return 2 * 2048**3 / product, 8 * len(b) / copy


def show(name: str, measured: tuple[float, float], ours: tuple[float, float] | None = None) -> None:
    ratio = (
        f"{measured[0] / ours[0]:7.1f} x time {measured[1] / ours[1]:5.1f} x memory" if ours else ""
    )
    print(f"  {name:<52}{measured[0]:9.3f} s {measured[1] / 2**20:8.0f} MiB {ratio}", flush=True)


def limit(seconds: float, flops: float, moved: float, rates: tuple[float, float]) -> None:
    """Print the time of the bare products and bytes, and ours over the larger."""
    products, bytes_ = flops / rates[0], moved / rates[1]
    print(
        f"  bare products {products:.3f} s, bytes {bytes_:.3f} s; ours is "
        f"{seconds / max(products, bytes_):.2f} x the larger"
    )
