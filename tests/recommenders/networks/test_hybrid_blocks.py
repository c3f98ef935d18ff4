"""Hybrid's tower over many tracks, block by block: the same vectors and gradients."""

import numpy as np
import torch

from recommenders.interactions import load_split
from recommenders.networks import hybrid
from recommenders.networks.histories import HistoryDataset


def test_a_tower_in_blocks_has_the_same_loss_gradients_and_vectors(toy_root, monkeypatch):
    split = load_split(toy_root())
    content = np.random.default_rng(0).normal(size=(split.n_items, 5)).astype(np.float32)
    batch = next(HistoryDataset(split.train, device="cpu").batches(8, 0, shuffle=False))
    found = []
    for many in (1 << 16, 32):
        monkeypatch.setattr(hybrid, "MANY", many)
        torch.manual_seed(0)
        network = hybrid.Hybrid(content, split.n_items, 6)
        loss = network.loss(batch)
        loss.backward()
        found.append([loss, network.vectors(), *(p.grad for p in network.parameters())])
    for whole, blocks in zip(*found, strict=True):
        torch.testing.assert_close(whole, blocks, rtol=1e-4, atol=1e-7)
