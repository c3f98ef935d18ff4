"""A training in two processes has the losses of one with the same batches."""

import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import HERE, call_main, make_root

from core.registry import ALL
from dataset import MaskedBatch, PairBatch

COMMANDS = {
    "bert4rec": "train_bert.py --dropout 0 --batch-size 7 --epochs 4",
    "shallow": "train.py --batch-size 50 --epochs 4 --l2 0.0001 --confidence true",
    "elsa": "train_elsa.py --batch-size 7 --epochs 4 --factors 8",
    "hybrid": "train_hybrid.py --batch-size 7 --epochs 4 --hidden 8",
    "bimodal_average": "train_bimodal.py --batch-size 30 --epochs 4 --hidden 8 --loss sdcl "
    "--weighted true --select train_loss",
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def train(root, name, processes, *flags):
    """Run a training in so many processes; return them, ended, and what they said."""
    heard = ("--embedding", "toy") if ALL[name].hears else ()
    words = [*COMMANDS[name].split(), "--root", root, *heard, "--device", "cpu"]
    world = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    started = []
    for rank in range(processes):
        told = {**world, "RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
        started.append(
            subprocess.Popen(
                [sys.executable, *map(str, words), *flags],
                cwd=HERE,
                env={**os.environ, **{key: str(value) for key, value in told.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate(timeout=300) for process in started]
    return started, said


def curve(root, name) -> np.ndarray:
    """Return train and validation loss of every epoch."""
    heard = "toy" if ALL[name].hears else "none"
    lines = (root / "runs" / f"{name}-{heard}-s1" / "log.jsonl").read_text().splitlines()
    return np.array([[e["train_loss"], e.get("val_loss", 0)] for e in map(json.loads, lines)])


@pytest.mark.parametrize("name", COMMANDS)
def test_two_processes_have_the_loss_curve_of_one(name, tmp_path):
    roots = [make_root(tmp_path / which, users=30, tracks=60) for which in ("one", "two")]
    if name.startswith("bimodal"):
        elsa = ("--epochs", 2, "--factors", 8, "--device", "cpu")
        call_main("train_elsa", "--root", roots[0], *elsa)
        shutil.copytree(roots[0] / "runs", roots[1] / "runs")
    for root, processes in zip(roots, (1, 2), strict=True):
        started, said = train(root, name, processes)
        assert all(process.returncode == 0 for process in started), said
    assert "epoch" in said[0][0] and said[1][0] == "", "the first alone prints"
    one, two = (curve(root, name) for root in roots)
    assert one.shape == (4, 2) and np.ptp(one[:, 0]) > 1e-3
    np.testing.assert_allclose(two, one, rtol=2e-5)


def test_parts_of_a_batch_of_pairs_are_all_of_it():
    batch = PairBatch(
        torch.arange(7), torch.arange(7) + 10, torch.arange(14).view(7, 2), torch.rand(7)
    )
    parts = [batch.part(i, 3) for i in range(3)]
    assert [part.size for part in parts] == [2, 2, 3]
    for name in ("users", "items", "negatives", "weights"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(batch, name))
    assert PairBatch(*(t[:1] for t in vars(batch).values())).part(0, 2).size == 0


def test_parts_of_a_masked_batch_point_at_the_same_places():
    mask = 99
    tokens = torch.tensor([[mask, 1, 2], [3, 4, 5], [6, mask, mask]])
    positions = (tokens == mask).flatten().nonzero()[:, 0]
    batch = MaskedBatch(tokens, positions, torch.tensor([7, 8, 9]))
    parts = [batch.part(i, 3) for i in range(3)]
    assert [part.size for part in parts] == [1, 0, 2]
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    for part in parts:
        assert (part.tokens.flatten()[part.positions] == mask).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "cuda:0"], "cuda:0"),
        (["--sparse-adam"], "--sparse-adam is for one process"),
    ],
)
def test_what_several_processes_cannot_have_is_refused(flags, message, tmp_path):
    started, said = train(make_root(tmp_path / "root"), "shallow", 2, *flags, "--l2", "0")
    assert [process.returncode for process in started] == [2, 2]
    assert all(message in text and "Traceback" not in text for _, text in said)
