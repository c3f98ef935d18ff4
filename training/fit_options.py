"""The options of every recommender that learns, and what several of them share; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.options import InputError, at_least, option
from evaluation.metric_options import check_metric
from recommenders.run_options import RunOptions

LOSSES = ("loss", "train_loss", "last")  # what may select beside a metric


@dataclass(frozen=True, kw_only=True)
class FitOptions(RunOptions):
    """What every recommender that learns takes; with EmbeddingOptions beside it, if it hears."""

    config: Path | None = option(
        None, "yaml of options, laid over the recommender's own", outcome=False
    )

    epochs: int = option(100, "at most so many passes over train")
    batch_size: int = option(10_000, "pairs, or users, a step")
    learning_rate: float = option(1e-3, "of Adam, at the start")
    plateau_patience: int = option(
        5, "epochs in a row that may be no better in --select; one more, and the rate is / 10"
    )
    early_stop: int = option(16, "epochs in a row no better in --select that end the training")
    select: str = option(
        "loss",
        "what the best epoch is best in: validation loss, train_loss, or a metric, as NDCG@50; "
        "last: every epoch is better than those before it",
    )
    fresh_validation: bool = option(
        False, "validation draws anew each epoch, so that epochs do not compare, as published"
    )
    max_minutes: float | None = option(
        None, "training ends with the epoch in which they are over, and the best so far is used"
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "of matrix products; bfloat16 (autocast) is for GPUs, and far faster there"
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N", outcome=False)

    def __post_init__(self):
        super().__post_init__()
        at_least(self, epochs=1, batch_size=1, early_stop=1, plateau_patience=0, max_minutes=0)
        check_metric("--select", self.select, LOSSES)
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"--learning-rate must be above 0, got {self.learning_rate}")
