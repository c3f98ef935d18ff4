"""Train one of our recommenders as peers_others.py trains another library's, for bench_peers.py.

python -m benchmarks.peers_ours --name bert4rec --data DATA.npz --out OUT.npz
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import training.threads  # noqa: F401  before torch

import numpy as np
import torch

from benchmarks.peers_others import PeerConfig, peak
from bert4rec import BERT4Rec
from core.options import run
from dataset import InteractionDatasetItems, SequenceDataset
from model import ShallowEmbeddingModel
from recommenders.interactions import Interactions, Split, pair_keys
from training.device_lists import recommend_on
from training.epochs import optimizers_of, train_epoch

MARGIN = 0.5


def main(config: PeerConfig) -> None:
    plays = dict(np.load(config.data))
    torch.manual_seed(1)
    split = split_of(plays)
    prepare = {"bert4rec": bert4rec, "bpr": shallow}[config.name]
    network, batches, n_batches, scorer = prepare(plays, split)
    own = "" if config.name == "bert4rec" else "shallow_"
    optimizers = optimizers_of(network, float(plays[f"{own}rate"]))
    options = SimpleNamespace(seed=1, precision="float32")
    before, started = peak(), time.perf_counter()
    for epoch in range(int(plays[f"{own}epochs"])):
        train_epoch(network, optimizers, batches, epoch, n_batches, options)
    trained = time.perf_counter()
    network.eval()
    lists = recommend_on("cpu", scorer(), split, k=int(plays["k"])).matrix()
    done = time.perf_counter()
    seconds = np.array([trained - started, done - trained])
    np.savez(config.out, lists=lists, seconds=seconds, peak=peak() - before)


def split_of(plays: dict) -> Split:
    """Return all plays as train, and every user as one who gets a list."""
    order = np.lexsort([plays["track"], plays["user"]])
    users = plays["user"][order]
    ids, starts = np.unique(users, return_index=True)
    train = Interactions(
        ids,
        np.append(starts, len(users)),
        plays["track"][order],
        plays["time"][order],
        np.ones(len(users), np.int64),
    )
    tracks = np.arange(int(plays["tracks"]))
    return Split(ids, tracks, len(tracks), train, train, train)


def bert4rec(plays: dict, split: Split):
    length, width = int(plays["length"]), int(plays["width"])
    start = np.random.default_rng(1).standard_normal((split.n_items, width), dtype=np.float32)
    network = BERT4Rec(
        start * 0.02, train_tracks=True, max_length=length + 1, ffn=4 * width, dropout=0.1
    )
    data = SequenceDataset(split.train, split.n_items, length, "cpu")
    batch = int(plays["batch"])

    def scorer():
        def score(users: np.ndarray) -> torch.Tensor:
            return network.scores(*data.with_final_mask(torch.as_tensor(users), length + 1))

        return score

    batches = lambda seed: data.masked_batches(batch, seed, mask_share=0.2, shuffle=True)  # noqa: E731
    return network, batches, data.n_batches(batch), scorer


def shallow(plays: dict, split: Split):
    width, rng = int(plays["width"]), np.random.default_rng(1)
    users, tracks = (
        rng.standard_normal((n, width), dtype=np.float32) for n in (split.n_users, split.n_items)
    )
    network = ShallowEmbeddingModel(
        users,
        tracks,
        width,
        train_users=True,
        train_tracks=True,
        negatives_are_users=True,
        margin=MARGIN,
    )
    data = InteractionDatasetItems(
        split.train,
        pair_keys(split.train, n_items=split.n_items),
        split.n_users,
        split.n_items,
        n_negatives=20,
        unheard=True,
        confidence=False,
        device="cpu",
    )
    size = int(plays["pairs_a_batch"])

    def scorer():
        own, items = network.unit_vectors()
        return lambda rows: own[torch.as_tensor(rows)] @ items.T

    batches = lambda seed: data.batches(size, seed, shuffle=True)  # noqa: E731
    return network, batches, data.n_batches(size), scorer


if __name__ == "__main__":
    run(main, PeerConfig, __doc__)
