"""How ELSA is trained: its batches and lists; three scripts need it.

`train_elsa.py` and `baselines.py --only elsa` make its run, and `train_bimodal.py` learns from the
vectors of one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from core.names import NONE, run_name
from core.options import InputError, parse_config
from core.splits import split_hash
from evaluation.finished import AGAIN, read_finished
from recommenders.cold import load_cold
from recommenders.interactions import Split
from recommenders.networks.elsa import Elsa
from recommenders.networks.histories import HistoryDataset, Ragged, histories_of
from recommenders.networks.ranking import mean_scorer
from training.checkpoints import load
from training.elsa_options import ElsaConfig
from training.epochs import derived_seed
from training.fit_options import FitOptions
from training.parallel import first, rank
from training.recipe import train_and_recommend


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
