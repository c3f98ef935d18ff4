"""Shallow Net: learn a layer under which users are near the tracks they play.

    python train.py --root sample --embedding mfcc
    python train.py --root sample --embedding mfcc --sample user --seeds 1,2,3
    python train.py --root sample --embedding mfcc --as-published    # what the published code ran

Reads   data/{train,val,test}.pqt, trackid_sorted.csv, embeddings/NAME.npy, model.yaml
Writes  runs/shallow-NAME[-TAG]-sSEED/   config.yaml, best.pt, last.pt, log.jsonl, TensorBoard
        events, recs.pqt, per_user_{val,test}.pqt, metrics.json

Users start as the mean of their tracks' vectors. By default the tracks stay as the audio model
made them and the users and the layer learn; vectors that start random are learned as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import core.start  # noqa: F401  before what is heavy
import training.threads  # noqa: F401  before torch

from core.late import options_are_read
from core.options import InputError, at_least, option, run
from recommenders.run_options import EmbeddingOptions, each_run
from training.fit_options import FitOptions

if options_are_read(__name__):
    import numpy as np
    import torch

    from dataset import InteractionDataset, InteractionDatasetItems
    from model import ShallowEmbeddingModel
    from recommenders.interactions import Split, pair_keys
    from recommenders.vectors import mean_vectors
    from training import parallel
    from training.epochs import autocast, derived_seed
    from training.recipe import train_and_recommend

PUBLISHED_RANGE = 17_052  # the published code drew from so many, whatever there were


@dataclass(frozen=True, kw_only=True)
class ShallowConfig(FitOptions, EmbeddingOptions):
    section: ClassVar[str] = "shallow"

    sample: Literal["item", "user"] = option(
        "item", "negatives are users for each track (item) or tracks for each user (user)"
    )
    n_negatives: int = option(20, "random negatives for each pair")
    negatives: Literal["unheard", "any", "published"] = option(
        "unheard",
        f"unheard: never a known pair; any: as drawn; published: of the first {PUBLISHED_RANGE:,} "
        "users, or tracks, alone",
    )
    margin: float = option(0.2, "of the hinge loss")
    confidence: bool = option(False, "weight a pair by 1 + 2 log(1 + plays)")
    l2: float = option(0.0, "weight of the sum of squares of all that is learned")
    hidden: int = option(0, "width of the layer's output; 0: the width of the embedding")
    train_tracks: bool | None = option(None, "learn the tracks' vectors; auto: only random ones")
    train_users: bool = option(True, "learn the users' vectors")
    sparse_adam: bool = option(
        False, "SparseAdam for learned vectors: a step moves those of its batch, not the catalogue"
    )
    user_start: Literal["mean", "random"] | None = option(
        None, "users start as mean of their tracks or from N(0, 1); auto: random for random tracks"
    )

    def __post_init__(self):
        super().__post_init__()
        at_least(self, n_negatives=1, hidden=0, l2=0)
        if self.sparse_adam and self.l2 > 0:
            raise InputError("--l2 moves every vector in each step; it needs --sparse-adam false")


def main(config: ShallowConfig) -> None:
    train_and_recommend(ShallowConfig.section, config, build, batches, scorer)


def build(config: ShallowConfig, split: Split, vectors: np.ndarray | None) -> ShallowEmbeddingModel:
    """Return the network before training; the seed decides all that starts random."""
    if config.sparse_adam and parallel.world_size() > 1:
        raise InputError("--sparse-adam is for one process; leave it away for several")
    seed = derived_seed(config.seed)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    random = vectors is None
    if random:
        vectors = rng.standard_normal((split.n_items, config.width), dtype=np.float32)
    start = config.user_start or ("random" if random else "mean")
    if start == "mean":
        users = mean_vectors(split.train, vectors)
    else:
        users = rng.standard_normal((split.n_users, vectors.shape[1]), dtype=np.float32)
    return ShallowEmbeddingModel(
        users,
        vectors,
        config.hidden or vectors.shape[1],
        train_users=config.train_users,
        train_tracks=random if config.train_tracks is None else config.train_tracks,
        negatives_are_users=config.sample == "item",
        margin=config.margin,
        l2=config.l2,
        sparse=config.sparse_adam,
    )


def batches(config: ShallowConfig, split: Split, device: str):
    """Return train and validation batches as functions of a seed, and their number in train.

    A negative of train is a pair that train does not hold; one of validation is in neither.
    """
    kind = InteractionDatasetItems if config.sample == "item" else InteractionDataset
    few = PUBLISHED_RANGE if config.negatives == "published" else max(split.n_users, split.n_items)
    common = {
        "n_users": min(few, split.n_users) if config.sample == "item" else split.n_users,
        "n_items": min(few, split.n_items) if config.sample == "user" else split.n_items,
        "n_negatives": config.n_negatives,
        "unheard": config.negatives == "unheard",
        "confidence": config.confidence,
        "device": device,
    }
    heard = pair_keys(split.train, n_items=split.n_items)
    either = pair_keys(split.train, split.val, n_items=split.n_items)
    train, val = kind(split.train, heard, **common), kind(split.val, either, **common)
    size = config.batch_size
    return (
        lambda seed: train.batches(size, seed, shuffle=True),
        lambda seed: val.batches(size, seed, shuffle=False),
        train.n_batches(size),
    )


def scorer(config: ShallowConfig, network: ShallowEmbeddingModel, split: Split, device: str):
    """Return what makes the function user_idx (b,) -> cosines (b, n) of the network as it is then.

    It takes the candidates' vectors, float32 (n, width), or None for the train tracks.
    """

    def now(candidates: np.ndarray | None = None):
        with autocast(config.precision, device), torch.no_grad():
            users, items = network.unit_vectors()
            if candidates is not None:
                items = network.unit(torch.as_tensor(candidates, device=device))
        return lambda rows: users[torch.as_tensor(rows, device=device)] @ items.T

    return now


if __name__ == "__main__":
    run(each_run(main), ShallowConfig, __doc__)
