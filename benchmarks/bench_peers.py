"""Our recommenders beside the best-kept libraries': the same plays, sizes and epochs, in turn.

    python3.11 -m venv peers && peers/bin/pip install -r benchmarks/requirements-peers.txt
    python -m benchmarks.bench_peers --peers peers/bin/python

Plants listeners whose next tracks are of one taste, in an order that can be learned, and trains
BERT4Rec beside RecTools' (two layers, two heads, learned tracks, all tracks in the loss), and the
Shallow Net with learned users and tracks beside implicit's BPR, which has other mathematics for the
same question. Each is a process of its own, one after the other. Prints seconds of the training and
of the lists, the peak memory that they added, and NDCG@10 of the held-out tracks, by our
`list_metrics` for all, and how much ours is better, over the same users. The last line is one json
object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.options import InputError, WorkError, option, run
from evaluation.measures import list_metrics

HERE = Path(__file__).resolve().parents[1]
TASTES, HELD_OUT = 20, 5
PAIRS = ("bert4rec", "bpr")


@dataclass(frozen=True)
class PeersConfig:
    peers: str | None = option(None, "python of the libraries' environment; none: ours alone")
    only: str | None = option(None, f"one of {', '.join(PAIRS)}")
    users: int = option(1000, "listeners")
    tracks: int = option(1000, "that there are")
    heard: int = option(40, "tracks of train a listener")
    width: int = option(64, "of the vectors")
    epochs: int = option(60, "of BERT4Rec; the Shallow Net a third, and BPR 20 times as many")
    k: int = option(10, "tracks in a list")
    seed: int = option(0, "of the plays")

    def __post_init__(self):
        if self.only not in (None, *PAIRS):
            raise InputError(f"--only must be one of {', '.join(PAIRS)}, got '{self.only}'")
        own = self.tracks // TASTES
        if self.heard + HELD_OUT > own:
            raise InputError(
                f"--heard {self.heard} and {HELD_OUT} held out: a taste has {own} tracks"
            )


def main(config: PeersConfig) -> None:
    plays, held_out = plant(config)
    results: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        np.savez(data, **plays)
        for name in [config.only] if config.only else PAIRS:
            print(name)
            results[name] = {}
            for whose, command in (
                ("ours", [sys.executable, "-m", "benchmarks.peers_ours"]),
                ("peer", [config.peers, "-m", "benchmarks.peers_others"]),
            ):
                if command[0] is None:
                    print("  the library is left out: --peers names no python")
                    continue
                out = Path(folder) / f"{name}-{whose}.npz"
                done = subprocess.run(
                    [*command, "--name", name, "--data", data, "--out", out], cwd=HERE
                )
                if done.returncode:
                    raise WorkError(f"{name}, {whose}, failed; see above")
                results[name][whose] = told(whose, dict(np.load(out)), held_out, config)
            if len(results[name]) == 2:
                ours, peer = results[name]["ours"], results[name]["peer"]
                mean, error = mean_and_error(ours.pop("users") - peer.pop("users"))
                results[name]["difference"] = {"ndcg": mean, "error": error}
                print(
                    f"  the library takes {peer['train'] / ours['train']:.2f} x the time and "
                    f"{peer['peak'] / max(ours['peak'], 1):.1f} x the memory; ours is better by "
                    f"{mean:.4f} ± {error:.4f}"
                )
        for each in results.values():
            each["ours"].pop("users", None)  # where there was no library
    print(json.dumps(results))


def told(whose: str, found: dict, held_out: np.ndarray, config: PeersConfig) -> dict:
    """Print a training's figures and return them, and every user's NDCG as `users`."""
    lengths = np.full(len(held_out), HELD_OUT)
    values = list_metrics(found["lists"].astype(np.int64), lengths, held_out.ravel(), config.k)
    mean, error = mean_and_error(values["NDCG"])
    train, lists = found["seconds"]
    print(
        f"  {whose:<6} training {train:8.2f} s, lists {lists:6.2f} s, {int(found['peak']) >> 20:5} "
        f"MiB, NDCG@{config.k} {mean:.4f} ± {error:.4f}",
        flush=True,
    )
    own = {"train": train, "lists": lists, "peak": int(found["peak"]), "ndcg": mean}
    return {**own, "users": values["NDCG"]}


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean over users, and half its 95 % interval."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / len(values) ** 0.5)


def plant(config: PeersConfig) -> tuple[dict, np.ndarray]:
    """Return the plays of train with the sizes, and the next tracks of each user, (n, HELD_OUT).

    The tracks of a taste stand in a circle; a listener starts somewhere and plays on, leaving one
    out now and then, so that who has learned the order can say what comes next.
    """
    rng = np.random.default_rng(config.seed)
    own = config.tracks // TASTES
    users, tracks, times, held = [], [], [], []
    for user in range(config.users):
        steps = np.cumsum(rng.choice([1, 2], config.heard + HELD_OUT, p=[0.8, 0.2]))
        circle = (rng.integers(own) + steps) % own
        _, first = np.unique(circle, return_index=True)
        path = circle[np.sort(first)] * TASTES + user % TASTES
        users.append(np.full(len(path) - HELD_OUT, user))
        tracks.append(path[:-HELD_OUT])
        times.append(np.arange(len(path) - HELD_OUT))
        held.append(np.sort(path[-HELD_OUT:]))
    sizes = {
        **{"tracks": config.tracks, "width": config.width, "length": config.heard},
        **{"epochs": config.epochs, "k": config.k, "rate": 1e-3, "batch": 64},
        # Of the two that learn from pairs, each takes its own steps; more of them fit noise.
        **{
            "pairs_a_batch": 2000,
            "shallow_rate": 1e-2,
            "shallow_epochs": max(1, config.epochs // 3),
        },
        **{"bpr_rate": 0.05, "bpr_epochs": 20 * max(1, config.epochs // 3)},
    }
    plays = {
        name: np.concatenate(part)
        for name, part in (("user", users), ("track", tracks), ("time", times))
    }
    return {**plays, **sizes}, np.stack(held)


if __name__ == "__main__":
    run(main, PeersConfig, __doc__)
