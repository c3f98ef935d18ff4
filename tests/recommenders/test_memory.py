"""A wide embedding is in memory once, whatever a run does with it."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import HERE

# Peak memory of the process itself: what a parent had before it does not count.
MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
with open("/proc/self/status") as status:
    print("peak", next(line for line in status if line.startswith("VmHWM")).split()[1])
"""
FLAGS = {"knn": (), "train": ("--epochs", 1, "--hidden", 8, "--n-negatives", 1, "--device", "cpu")}


def peak_bytes(root, script, *flags) -> int:
    command = [sys.executable, "-c", MEASURED, HERE / f"{script}.py", "--root", root, *flags]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=HERE)
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout.split()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize("script", FLAGS)
def test_a_wide_embedding_is_in_memory_once(toy_root, script):
    root = toy_root(users=200, tracks=14_000, heard=70)
    size = {}
    for name, width in (("narrow", 4), ("wide", 4_800)):
        rows = np.random.default_rng(0).random((14_000, width), np.float32)
        np.save(root / "embeddings" / f"{name}.npy", rows)
        size[name] = rows.nbytes
    peak = {name: peak_bytes(root, script, "--embedding", name, *FLAGS[script]) for name in size}
    # A copy would be another size["wide"]; blocks on their way are the rest.
    assert peak["wide"] - peak["narrow"] < 1.4 * size["wide"]
