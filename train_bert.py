"""BERT4Rec: learn to fill masked places of a listening history, over an embedding's vectors.

    python train_bert.py --root sample --embedding mfcc
    python train_bert.py --root sample --embedding random --seeds 1,2,3
    python train_bert.py --root sample --embedding mfcc --as-published     # what the study ran

Reads   data/{train,val,test}.pqt, trackid_sorted.csv, embeddings/NAME.npy, bert4rec.yaml
Writes  runs/bert4rec-NAME[-TAG]-sSEED/   config.yaml, best.pt, last.pt, log.jsonl, TensorBoard
        events, recs.pqt, per_user_{val,test}.pqt, metrics.json

A sequence is a user's tracks in order of first play, then track. Validation fills masked places
of the held-out sequences. A list is the best tracks at a mask after the end of the history.
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

    from bert4rec import BERT4Rec
    from dataset import SequenceDataset
    from recommenders.interactions import Split
    from recommenders.networks.sampled_softmax import ClassSampler
    from training.epochs import autocast, derived_seed
    from training.recipe import train_and_recommend

PREDICTED_TOGETHER = 128  # users


@dataclass(frozen=True, kw_only=True)
class BertConfig(FitOptions, EmbeddingOptions):
    section: ClassVar[str] = "bert4rec"

    batch_size: int = option(128, "users a step")
    max_length: int = option(300, "newest tracks of a history that are seen in training")
    predict_length: int | None = option(
        None, "tokens a list is made from, the mask included; auto: max_length"
    )
    mask_share: float = option(0.2, "probability that a track is masked")
    layers: int = option(2, "of the transformer")
    heads: int = option(2, "of attention; zeros widen vectors they do not divide")
    ffn: int = option(256, "width inside a layer's feed-forward part")
    dropout: float = option(0.1, "of vectors, layers and attention")
    softmax: Literal["full", "sampled"] = option(
        "full", "the loss compares a track with all others, or with a sample of them", before="full"
    )
    classes: int = option(8192, "draws of a sample, one for each step", before=8192)
    train_tracks: bool | None = option(None, "learn the tracks' vectors; auto: only random ones")
    val_min_tracks: int = option(
        1, "held-out tracks a user needs to count in the validation loss; published: 10"
    )

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.mask_share < 1 or not 0 <= self.dropout < 1:
            raise InputError("--mask-share must be between 0 and 1, --dropout from 0 to below 1")
        at_least(self, layers=1, heads=1, ffn=1, classes=2)
        if self.max_length < 2 or not 2 <= (self.predict_length or 2) <= self.max_length:
            raise InputError("--max-length must be at least 2, --predict-length from 2 to it")


def main(config: BertConfig) -> None:
    train_and_recommend(BertConfig.section, config, build, batches, scorer)


def build(config: BertConfig, split: Split, vectors: np.ndarray | None) -> BERT4Rec:
    """Return the network before training; the seed decides all that starts random."""
    seed = derived_seed(config.seed)
    torch.manual_seed(seed)
    random = vectors is None
    if random:
        rng = np.random.default_rng(seed)
        vectors = 0.02 * rng.standard_normal((split.n_items, config.width), dtype=np.float32)
    return BERT4Rec(
        vectors,
        train_tracks=random if config.train_tracks is None else config.train_tracks,
        max_length=config.max_length,
        layers=config.layers,
        heads=config.heads,
        ffn=config.ffn,
        dropout=config.dropout,
        logit_scale=1.0 if random or config.scale == "none" else vectors.shape[1] ** -0.5,
    )


def batches(config: BertConfig, split: Split, device: str):
    """Return train and validation batches as functions of a seed, and their number in train."""
    held_out = split.val.at_least(config.val_min_tracks)
    if not len(held_out.users):
        raise InputError(f"no validation user has --val-min-tracks {config.val_min_tracks} tracks")
    size, share = config.batch_size, config.mask_share
    train = SequenceDataset(split.train, split.n_items, config.max_length, device)
    val = SequenceDataset(held_out, split.n_items, config.max_length, device)
    more = {"mask_share": share}
    if config.softmax == "sampled":
        more["sampler"] = ClassSampler(train.tokens, split.n_items, config.classes)
    return (
        lambda seed: train.masked_batches(size, seed, shuffle=True, **more),
        lambda seed: val.masked_batches(size, seed, shuffle=False, **more),
        train.n_batches(size),
    )


def scorer(config: BertConfig, network: BERT4Rec, split: Split, device: str):
    """Return what makes the function user_idx (b,) -> scores (b, n) of the network as it is then.

    It takes the candidates' vectors, float32 (n, width), or None for the train tracks.
    """
    history = SequenceDataset(split.train, split.n_items, config.max_length, device)
    length = config.predict_length or config.max_length

    def now(candidates: np.ndarray | None = None):
        if candidates is not None:
            candidates = torch.as_tensor(candidates, device=device)

        def score(users: np.ndarray) -> torch.Tensor:
            parts = torch.as_tensor(users, device=device).split(PREDICTED_TOGETHER)
            with autocast(config.precision, device):
                return torch.cat(
                    [
                        network.scores(*history.with_final_mask(rows, length), candidates)
                        for rows in parts
                    ]
                )

        return score

    return now


if __name__ == "__main__":
    run(each_run(main), BertConfig, __doc__)
