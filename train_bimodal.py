"""Bimodal: a tower for sound and one for listening meet; three recommenders from one training.

    python train_bimodal.py --root sample --embedding musicnn --config sample.yaml
    python train_bimodal.py --root sample --embedding musicnn --config sample.yaml --shuffle
    python train_bimodal.py --root R --embedding mert --loss sdcl --weighted --tag wsdcl
    python train_bimodal.py --root R --embedding mert --as-published

Reads   data/{train,val,test}.pqt, trackid_sorted.csv, embeddings/NAME.npy, bimodal.yaml, and the
        vectors of runs/elsa-none-sSEED, which is made first if it is missing
Writes  runs/bimodal_average-NAME[-TAG]-sSEED/   config.yaml, best.pt, last.pt, log.jsonl,
        TensorBoard events, recs.pqt, per_user_{val,test}.pqt, metrics.json
        runs/bimodal_{content,collaborative}-...  the same but for the training's own files;
        content ranks cold tracks too (cold_recs.pqt, where the split has some)

A contrastive loss brings the two outputs of a track together. A user is the mean of the tracks'
unit outputs over the history, ranked by inner product: of the content tower, the collaborative
one, or the mean of both. The best epoch is that of bimodal_average's lists of validation users.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import core.start  # noqa: F401  before what is heavy
import training.threads  # noqa: F401  before torch

from core.artifacts import sha256
from core.late import options_are_read
from core.options import InputError, at_least, option, run
from recommenders.run_options import EmbeddingOptions, each_run
from training.fit_options import FitOptions

if options_are_read(__name__):
    import numpy as np
    import torch

    from recommenders.interactions import Split
    from recommenders.networks.bimodal import Bimodal, n_batches, track_batches
    from recommenders.networks.histories import Ragged
    from recommenders.networks.ranking import mean_scorer
    from training.elsa import elsa_run, learned_vectors
    from training.epochs import autocast, derived_seed
    from training.recipe import train_and_recommend

TRAINED = "bimodal_average"  # its run's folder holds the training


@dataclass(frozen=True, kw_only=True)
class BimodalConfig(FitOptions, EmbeddingOptions):
    section: ClassVar[str] = TRAINED

    batch_size: int = option(10_000, "tracks a step")
    select: str = option("NDCG@50", "what the best epoch is best in; see train.py")
    loss: Literal["adcl", "dcl", "sdcl"] = option("adcl", "contrastive loss (contrastive.py)")
    weighted: bool = option(False, "nearer pairs of a batch count less")
    temperature: float = option(0.1, "of the loss")
    sigma: float = option(0.5, "of the weights")
    hidden: int = option(768, "width of both towers and of what they return")
    unit_length: bool = option(True, "rank by outputs of length 1, as the loss sees them")
    elsa_run: str | None = option(
        None, "run whose vectors the collaborative tower sees; auto: elsa-none-sSEED"
    )

    def __post_init__(self):
        super().__post_init__()
        at_least(self, hidden=1, batch_size=2)
        if not (self.temperature > 0 and self.sigma > 0):
            raise InputError("--temperature and --sigma must be above 0")
        if self.select == "loss":
            raise InputError("--select loss: Bimodal has no validation loss; use train_loss")


def main(config: BimodalConfig) -> None:
    others = {
        name: partial(scorer, view=name.removeprefix("bimodal_"))
        for name in ("bimodal_content", "bimodal_collaborative")
    }
    train_and_recommend(TRAINED, config, build, batches, scorer, others, inputs)


def elsa_of(config: BimodalConfig) -> Path:
    """Return the folder of the ELSA run whose vectors are seen; it is made if it is missing."""
    more = {"run": config.elsa_run, "config": config.config, "device": config.device}
    return elsa_run(config.root, config.seed, **more)


def inputs(config: BimodalConfig, split: Split) -> dict:
    """Return the fingerprint of ELSA's vectors."""
    return {"collaborative vectors": sha256(elsa_of(config) / "best.pt")}


def build(config: BimodalConfig, split: Split, vectors: np.ndarray) -> Bimodal:
    """Return the network before training; the seed decides where it starts."""
    collaborative = learned_vectors(elsa_of(config), split)
    torch.manual_seed(derived_seed(config.seed))
    return Bimodal(
        vectors,
        collaborative,
        config.hidden,
        loss=config.loss,
        temperature=config.temperature,
        sigma=config.sigma if config.weighted else None,
        unit_length=config.unit_length,
    )


def batches(config: BimodalConfig, split: Split, device: str):
    """Return train batches as a function of a seed, no validation batches, and their number."""
    size = config.batch_size
    return (
        lambda seed: track_batches(split.n_items, size, seed, device),
        None,
        n_batches(split.n_items, size),
    )


def scorer(
    config: BimodalConfig, network: Bimodal, split: Split, device: str, view: str = "average"
):
    """Return what makes the function user_idx (b,) -> scores (b, n) of the network as it is then.

    It takes the vectors of cold candidates, float32 (n, width), which content alone can rank, or
    None for the train tracks.
    """
    heard = Ragged.of(split.train, device)

    def now(candidates: np.ndarray | None = None):
        with autocast(config.precision, device):
            vectors = network.vectors(view).float()
            if candidates is not None:
                candidates = torch.as_tensor(candidates, device=device)
                candidates = network.vectors(content=candidates).float()
        return mean_scorer(heard, vectors, candidates)

    return now


if __name__ == "__main__":
    run(each_run(main), BimodalConfig, __doc__)
