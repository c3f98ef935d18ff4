"""Kill an extraction in shards at random moments, and compare what it ends in.

    python -m benchmarks.stress_extraction --kills 30

Short files are embedded by a toy backbone (a few milliseconds a batch): once undisturbed and in one
process, and once in shards, several at a time, whose processes are killed with SIGKILL at random
moments, the join's among them, and started again. Both must end in the same bytes, and leave no
other files; what is finished while kills are left is checked, removed and begun again.

Prints what was killed; the last line is one json object: kills, kills_of_join, starts (processes),
extractions, tracks, shards, embedded (tracks, all processes together), seconds, same_bytes.

Measured: 30 kills over 9 extractions in 18 s on two busy cores, 4 of them of a join.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from core.artifacts import sha256
from core.options import WorkError, option, run

HERE = Path(__file__).resolve().parents[1]
RATE = 8000  # Hz
LEFT = {"toy.npy", "toy.json", ".toy.lock", ".toy.begin.lock"}  # in embeddings/ at the end


@dataclass(frozen=True)
class StressConfig:
    kills: int = option(30, "processes to kill")
    tracks: int = option(200, "files of a quarter of a second")
    shards: int = option(4, "parts of the extraction")
    at_once: int = option(2, "processes at a time")
    seed: int = option(0, "of the sounds and of the moments")
    folder: Path | None = option(None, "where to work; auto: the system's temporary folder")


def main(config: StressConfig) -> None:
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        found = stress(Path(name), config)
    for state, kills in sorted(found.pop("killed").items()):
        print(f"killed {kills:>4} x {state}")
    print(json.dumps(found))


def stress(folder: Path, config: StressConfig) -> dict:
    """Return what was found; raise WorkError if a result is not that of an undisturbed run."""
    rng = np.random.default_rng(config.seed)
    whole = folder / "whole"
    make_root(whole, config.tracks, rng)
    root = folder / "shards"
    root.mkdir()
    for name in ("audio", "trackid_sorted.csv"):
        (root / name).symlink_to(whole / name)

    began = time.monotonic()
    subprocess.run(command(whole), cwd=HERE, check=True, capture_output=True)
    quiet = time.monotonic() - began
    log = folder / "embedded.txt"
    disturbed = Disturbed(root, config, log, sha256(whole / "embeddings/toy.npy"))
    killed = collections.Counter(disturbed.kill(rng, 3 * quiet) for _ in range(config.kills))
    disturbed.finish()
    return {
        "killed": killed,
        "kills": killed.total(),
        "kills_of_join": sum(n for what, n in killed.items() if what.startswith("join")),
        "starts": disturbed.starts,
        "extractions": disturbed.extractions,
        "tracks": config.tracks,
        "shards": config.shards,
        "embedded": sum(map(int, log.read_text().split())),
        "seconds": round(time.monotonic() - began, 1),
        "same_bytes": True,
    }


class Disturbed:
    """The processes of an extraction in shards; whenever one ends the next one is started."""

    def __init__(self, root: Path, config: StressConfig, log: Path, expected: str):
        self.root, self.config, self.expected = root, config, expected
        self.environment = {**os.environ, "TOY_SECONDS_A_BATCH": "0.01", "TOY_LOG": str(log)}
        self.running: dict[int | None, subprocess.Popen] = {}  # None: the join
        self.starts = self.extractions = 0
        self._begin()

    def kill(self, rng: np.random.Generator, longest: float) -> str:
        """Let them work for a random time, then kill one; return what it was doing."""
        until = time.monotonic() + rng.uniform(0, longest)
        while time.monotonic() < until or not self.running:
            if self.joined:
                self._check()
                shutil.rmtree(self.root / "embeddings")
                self._begin()
            self._step()
            time.sleep(0.002)
        key = list(self.running)[rng.integers(len(self.running))]
        process = self.running.pop(key)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if key is not None:
            self.open.insert(0, key)
        what = "join" if key is None else "shard"
        if process.returncode != -signal.SIGKILL:
            return f"{what}, too late: it had ended"
        half = list((self.root / "embeddings").glob(f"**/.*.{process.pid}.tmp"))
        return f"{what} with a file half written" if half else what

    def finish(self) -> None:
        """Let all of them end."""
        while not self.joined:
            self._step()
            time.sleep(0.002)
        self._check()

    def _begin(self) -> None:
        self.open = list(range(self.config.shards))  # shards neither finished nor running
        self.joined = False
        self.extractions += 1

    def _check(self) -> None:
        folder = self.root / "embeddings"
        found = sha256(folder / "toy.npy")
        if found != self.expected:
            raise WorkError(f"sha256 of toy.npy: expected {self.expected}, got {found}")
        left = {path.name for path in folder.iterdir()}
        if left != LEFT:
            raise WorkError(f"{folder} holds {sorted(left)}, expected {sorted(LEFT)}")

    def _step(self) -> None:
        for key, process in list(self.running.items()):
            if process.poll() is None:
                continue
            said = process.communicate()
            if process.returncode:
                raise WorkError(f"process {key} ended with {process.returncode}: {said[1]}")
            del self.running[key]
            self.joined |= key is None
        if not self.open and not self.running and not self.joined:
            self._start(None, "--join")
        while self.open and len(self.running) < self.config.at_once:
            shard = self.open.pop(0)
            self._start(shard, "--shard", str(shard))

    def _start(self, key: int | None, *flags: str) -> None:
        self.starts += 1
        self.running[key] = subprocess.Popen(
            [*command(self.root), "--shards", str(self.config.shards), *flags],
            cwd=HERE,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def command(root: Path) -> list[str]:
    """Return the command that extracts with the toy backbone."""
    flags = ("--root", root, "--audio", root / "audio", "--workers", 1)
    return [sys.executable, "-m", "tests.extract_item_embeddings.toy_backbone", *map(str, flags)]


def make_root(root: Path, tracks: int, rng: np.random.Generator) -> None:
    """Write short noises, each of its own loudness, and their ids."""
    (root / "audio").mkdir(parents=True)
    for idx in range(tracks):
        noise = rng.normal(size=RATE // 4).clip(-3, 3) * (idx + 1) / tracks / 4
        soundfile.write(root / "audio" / f"t{idx:05d}.wav", noise, RATE)
    lines = ["idx,trackid", *(f"{idx},t{idx:05d}" for idx in range(tracks))]
    (root / "trackid_sorted.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, StressConfig, __doc__)
