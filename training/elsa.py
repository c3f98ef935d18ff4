"""How ELSA is trained: its options, batches and lists; three scripts need it.

`train_elsa.py` and `baselines.py --only elsa` make its run, and `train_bimodal.py` learns from the
vectors of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from core.names import NONE, run_name
from core.options import InputError, option, parse_config
from core.splits import split_hash
from evaluation.finished import AGAIN, read_finished
from recommenders.as_published import SETS
from recommenders.cold import load_cold
from recommenders.interactions import Split
from recommenders.networks.elsa import Elsa
from recommenders.networks.histories import HistoryDataset, Ragged, histories_of
from recommenders.networks.ranking import mean_scorer
from recommenders.run_options import take_published
from training.checkpoints import load
from training.epochs import derived_seed
from training.loop import FitOptions
from training.parallel import first, rank
from training.recipe import train_and_recommend


@dataclass(frozen=True, kw_only=True)
class ElsaConfig(FitOptions):
    section: ClassVar[str] = "elsa"

    epochs: int = option(50, "at most so many passes over train")
    batch_size: int = option(128, "users a step")
    learning_rate: float = option(0.003, "of the optimizer, at the start")
    plateau_patience: int = option(
        3, "epochs in a row that may be no better in --select; one more, and the rate is / 10"
    )
    early_stop: int = option(8, "epochs in a row no better in --select that end the training")
    select: str = option("NDCG@50", "what the best epoch is best in; see train.py")
    factors: int = option(768, "numbers of a track's vector")
    nadam: bool = option(False, "NAdam in place of Adam, as published")
    shuffle_users: bool = option(True, "another order of users in each epoch")
    cold_in_training: bool = option(
        False, "cold tracks take part in training as tracks nobody heard, as published"
    )
    as_published: bool = option(
        False, "what the published code ran, where nothing else is asked for; tag published"
    )

    def __post_init__(self):
        if self.as_published:
            take_published(self, SETS[self.section])
        super().__post_init__()
        if self.factors < 1:
            raise InputError(f"--factors must be at least 1, got {self.factors}")


def train_elsa(config: ElsaConfig) -> None:
    """Make the runs of the options."""
    train_and_recommend(ElsaConfig.section, config, build, history_batches, scorer)


def build(config: ElsaConfig, split: Split, vectors: None) -> Elsa:
    """Return the network before training; the seed decides where it starts."""
    torch.manual_seed(derived_seed(config.seed))
    cold = load_cold(config.root, split) if config.cold_in_training else None
    return Elsa(
        split.n_items,
        config.factors,
        never_heard=cold.n_items if cold else 0,
        nadam=config.nadam,
    )


def history_batches(config: FitOptions, split: Split, device: str, *, from_held_out: bool = False):
    """Return train and validation batches as functions of a seed, and their number in train.

    Args:
        from_held_out: validation rebuilds held-out tracks from themselves, as published; else it
            looks for them from the history.
    """
    train = HistoryDataset(split.train, device=device)
    if from_held_out:
        val = HistoryDataset(split.val, device=device)
    else:
        val = HistoryDataset(histories_of(split.train, split.val.users), split.val, device=device)
    size, shuffle = config.batch_size, getattr(config, "shuffle_users", True)
    return (
        lambda seed: train.batches(size, seed, shuffle=shuffle),
        lambda seed: val.batches(size, seed, shuffle=False),
        train.n_batches(size),
    )


def scorer(config: ElsaConfig, network: Elsa, split: Split, device: str):
    """Return what makes the function user_idx (b,) -> scores (b, n) of the network as it is then.

    With u = x A, <u, A_i> is x A A' - x but for what was heard, which is never recommended.
    """
    heard = Ragged.of(split.train, device)
    return lambda candidates=None: mean_scorer(heard, network.vectors())


def elsa_run(root: Path, seed: int, *, run: str | None, config: Path | None, device: str) -> Path:
    """Return the folder of an ELSA run of root's split, which is made if it is missing.

    Args:
        root: where it is.
        seed: of the run that is taken, or made.
        run: name of another one under root/runs, which must be there.
        config, device: of a run that is made.

    Raises:
        InputError: the run that is named is not finished, or one is of another split.
    """
    name = run or run_name(ElsaConfig.section, NONE, seed)
    folder = root / "runs" / name
    if not first((folder / "metrics.json").exists()):
        if run is not None:
            raise InputError(f"{folder} is no finished run; make it: train_elsa.py --root {root}")
        if rank() == 0:
            print(f"{folder} is missing, and made first")
        flags = ["--root", str(root), "--seed", str(seed), "--device", device]
        flags += ["--config", str(config)] if config else []
        train_elsa(parse_config(ElsaConfig, __doc__, flags))
    recorded = read_finished(folder)
    if recorded["split"] != split_hash(root):
        raise InputError(f"{folder} is of another split; make it again with --overwrite")
    return folder


def learned_vectors(folder: Path, split: Split) -> np.ndarray:
    """Return what an ELSA run learned of the tracks of train, float32 (n_items, factors), as it is.

    Raises:
        InputError: the run is none of ELSA's.
    """
    saved = load(folder / "best.pt", "cpu", AGAIN)["model"]
    if "items" not in saved or len(saved["items"]) < split.n_items:
        raise InputError(
            f"{folder} holds no tracks' vectors; --elsa-run takes a run of train_elsa.py"
        )
    return saved["items"][: split.n_items].numpy()
