"""The study's sizes, made-up data of them, and the arithmetic of one training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from bert4rec import BERT4Rec
from dataset import InteractionDatasetItems, MaskedBatch, PairBatch, SequenceDataset
from model import ShallowEmbeddingModel
from recommenders.interactions import Interactions, Split, pair_keys


@dataclass(frozen=True)
class Size:
    users: int = 17_053
    tracks: int = 56_512
    pairs: int = 5_122_221
    width: int = 200
    batch: int = 10_000
    negatives: int = 20
    sequences: int = 32
    length: int = 200
    listed: int = 2_000  # users who get lists
    measured: int = 10_000  # users whose lists are measured
    many_tracks: int = 1_000_000  # of a catalogue far larger than the study's


def zipf(n: int) -> np.ndarray:
    weights = 1 / (np.arange(n) + 10) ** 0.8
    return weights / weights.sum()


def vectors_of(n: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)


def train_part(size: Size, seed: int) -> Interactions:
    """Return histories of the study's mean length, of tracks of uneven popularity."""
    rng = np.random.default_rng(seed)
    lengths = rng.poisson(size.pairs / size.users, size.users).clip(min=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = rng.choice(size.tracks, offsets[-1], p=zipf(size.tracks))
    items = items[np.lexsort((items, np.repeat(np.arange(size.users), lengths)))]
    return Interactions(np.arange(size.users), offsets, items, items, items)


def split_of(size: Size, seed: int) -> Split:
    train = train_part(size, seed)
    chosen = np.random.default_rng(seed).choice(size.users, size.listed, replace=False)
    held_out = replace(train, users=np.sort(chosen))
    users, tracks = np.arange(size.users), np.arange(size.tracks)
    return Split(users, tracks, size.tracks, train, held_out, held_out)


def shallow_network(size: Size, seed: int) -> ShallowEmbeddingModel:
    return ShallowEmbeddingModel(
        vectors_of(size.users, size.width, seed),
        vectors_of(size.tracks, size.width, seed + 1),
        size.width,
        train_users=True,
        train_tracks=False,
        negatives_are_users=True,
    )


def shallow_data(
    train: Interactions, size: Size, device: str, known: np.ndarray | None = None
) -> InteractionDatasetItems:
    """Return the pairs with unheard users as negatives; known: keys of pairs that are none."""
    return InteractionDatasetItems(
        train,
        pair_keys(train, n_items=size.tracks) if known is None else known,
        size.users,
        size.tracks,
        n_negatives=size.negatives,
        unheard=True,
        confidence=False,
        device=device,
    )


def shallow_step(size: Size, seed: int) -> tuple[nn.Module, PairBatch]:
    rng = np.random.default_rng(seed)
    batch = PairBatch(
        torch.as_tensor(rng.integers(size.users, size=size.batch)),
        torch.as_tensor(rng.choice(size.tracks, size.batch, p=zipf(size.tracks))),
        torch.as_tensor(rng.integers(size.users, size=(size.batch, size.negatives))),
        None,
    )
    return shallow_network(size, seed), batch


def shallow_cost(network: ShallowEmbeddingModel, batch: PairBatch) -> tuple[float, float]:
    """Return the operations of the step's matrix products and the bytes it must read and write.

    Users learn, tracks are frozen. A vector through the layer: its output, the layer's gradient,
    and, of users, their own. A pair: the cosine and both sides' gradient. Bytes: each vector of
    the batch is read once and its output written and read again by each pass, and Adam reads four
    numbers and writes three for each of the users'. What fits a cache is not counted.
    """
    width, hidden = network.width, network.layer[0].out_features
    tracks = len(batch.items.unique())
    users = len(torch.cat([batch.users, batch.negatives.flatten()]).unique())
    pairs = len(batch.users) * (1 + batch.negatives.shape[1])
    flops = 2 * width * hidden * (3 * users + 2 * tracks) + 6 * pairs * hidden
    moved = (users + tracks) * (width + 3 * hidden) + users * width + 7 * network.users.numel()
    return flops, 4 * moved


def bert_network(size: Size, seed: int) -> BERT4Rec:
    return BERT4Rec(
        vectors_of(size.tracks, size.width, seed), train_tracks=False, max_length=size.length
    )


def bert_step(size: Size, seed: int) -> tuple[nn.Module, MaskedBatch]:
    rng = np.random.default_rng(seed)
    rows = [rng.choice(size.tracks, size.length, replace=False) for _ in range(size.sequences)]
    lengths = [len(row) for row in rows]
    times = np.concatenate([np.arange(n) for n in lengths])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    histories = Interactions(np.arange(len(rows)), offsets, np.concatenate(rows), times, times)
    data = SequenceDataset(histories, size.tracks, size.length, "cpu")
    batch = next(data.masked_batches(size.sequences, seed, mask_share=0.2, shuffle=False))
    return bert_network(size, seed), batch


def bert_cost(network: BERT4Rec, batch: MaskedBatch) -> tuple[float, float]:
    """Return the operations of the step's matrix products and the bytes it must read and write.

    Tracks are frozen. A layer: four products of width x width, two of the feed-forward part, two
    of attention, each with two more for its gradients; the output: logits and the gradient of
    the hidden states. Bytes: 20 arrays of tokens x width for each layer (what is written by one
    operation and read by the next), the table for each of the output's two products.
    """
    d, blocks = network.width, network.transformer.encoder.layer
    layers, ffn = len(blocks), blocks[0].intermediate.dense.out_features
    lengths = (batch.tokens <= network.n_items).sum(dim=1)  # padding is left out
    tokens, pairs = int(lengths.sum()), int((lengths**2).sum())
    layer = tokens * (8 * d * d + 4 * d * ffn) + 4 * pairs * d
    flops = 3 * layers * layer + 4 * batch.size * d * network.n_items
    return flops, 4 * (20 * layers * tokens * d + 2 * network.n_items * d)


def step(network: nn.Module, batch, loss: Callable | None = None) -> None:
    """One step of Adam; its state is made once and kept with the network."""
    if not hasattr(network, "adam"):
        trained = [p for p in network.parameters() if p.requires_grad]
        network.adam = torch.optim.Adam(trained, fused=True)
    network.adam.zero_grad(set_to_none=True)
    (loss(network, batch) if loss else network.loss(batch)).backward()
    network.adam.step()
