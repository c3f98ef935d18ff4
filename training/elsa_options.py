"""ELSA's options, which three scripts read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from core.names import PUBLISHED
from core.options import at_least, option
from recommenders.as_published import SETS, check_unchanged
from recommenders.run_options import take_published
from training.fit_options import FitOptions


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
        False, f"all that the study's code did, mistakes included; tag {PUBLISHED}"
    )

    def __post_init__(self):
        if self.as_published:
            check_unchanged(self)
            take_published(self, SETS[self.section])
        super().__post_init__()
        at_least(self, factors=1)
