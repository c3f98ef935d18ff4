"""Hybrid: ELSA whose tracks' vectors are computed from sound, so that it ranks cold tracks too.

    python train_hybrid.py --root sample --embedding musicnn --config sample.yaml
    python train_hybrid.py --root sample --embedding musicnn --config sample.yaml --shuffle
    python train_hybrid.py --root R --embedding mert --as-published

Reads   data/{train,val,test}.pqt, trackid_sorted.csv, embeddings/NAME.npy, hybrid.yaml
Writes  runs/hybrid-NAME[-TAG]-sSEED/   config.yaml, best.pt, last.pt, log.jsonl, TensorBoard
        events, recs.pqt, cold_recs.pqt (where the split has cold tracks), per_user_*.pqt,
        metrics.json

A = unit(g(C)) of the tracks of train in training, with a tower g of two linear layers; of all in
prediction. A user is the mean of A's rows over the history, ranked by inner product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import core.start  # noqa: F401  before what is heavy
import training.threads  # noqa: F401  before torch

from core.late import options_are_read
from core.options import at_least, option, run
from recommenders.run_options import EmbeddingOptions, each_run
from training.fit_options import FitOptions

if options_are_read(__name__):
    import numpy as np
    import torch

    from recommenders.cold import cold_vectors, load_cold
    from recommenders.interactions import Split
    from recommenders.networks.histories import Ragged
    from recommenders.networks.hybrid import Hybrid
    from recommenders.networks.ranking import mean_scorer
    from recommenders.vectors import load_item_vectors
    from training.elsa import history_batches
    from training.epochs import autocast, derived_seed
    from training.recipe import train_and_recommend


@dataclass(frozen=True, kw_only=True)
class HybridConfig(FitOptions, EmbeddingOptions):
    section: ClassVar[str] = "hybrid"

    epochs: int = option(200, "at most so many passes over train")
    batch_size: int = option(128, "users a step")
    learning_rate: float = option(0.01, "of Adam, at the start")
    select: str = option("NDCG@50", "what the best epoch is best in; see train.py")
    hidden: int = option(768, "width of the tower and of a track's vector")
    validation: Literal["history", "held_out"] = option(
        "history",
        "the validation loss finds held-out tracks from the history, or from themselves, as "
        "published",
    )
    cold_in_training: bool = option(
        False, "cold tracks take part in training as tracks nobody heard, as published"
    )

    def __post_init__(self):
        super().__post_init__()
        at_least(self, hidden=1)


def main(config: HybridConfig) -> None:
    train_and_recommend(HybridConfig.section, config, build, batches, scorer)


def build(config: HybridConfig, split: Split, vectors: np.ndarray) -> Hybrid:
    """Return the network before training; the seed decides where it starts."""
    torch.manual_seed(derived_seed(config.seed))
    cold = load_cold(config.root, split) if config.cold_in_training else None
    content = vectors
    if cold:
        raw = load_item_vectors(
            config.root, config.embedding, split, missing=config.missing, width=config.width
        )
        content = np.concatenate([vectors, cold_vectors(config, cold, raw)])
    return Hybrid(content, split.n_items, config.hidden)


def batches(config: HybridConfig, split: Split, device: str):
    """Return train and validation batches as functions of a seed, and their number in train."""
    held_out = config.validation == "held_out"
    return history_batches(config, split, device, from_held_out=held_out)


def scorer(config: HybridConfig, network: Hybrid, split: Split, device: str):
    """Return what makes the function user_idx (b,) -> scores (b, n) of the network as it is then.

    It takes the candidates' vectors, float32 (n, width), or None for the train tracks.
    """
    heard = Ragged.of(split.train, device)

    def now(candidates: np.ndarray | None = None):
        with autocast(config.precision, device):
            vectors = network.vectors().float()
            if candidates is not None:
                candidates = network.vectors(torch.as_tensor(candidates, device=device)).float()
        return mean_scorer(heard, vectors, candidates)

    return now


if __name__ == "__main__":
    run(each_run(main), HybridConfig, __doc__)
