"""ELSA: learn vectors of tracks from listening alone; the strongest baseline that hears nothing.

    python train_elsa.py --root sample --config sample.yaml
    python train_elsa.py --root sample --config sample.yaml --factors 32 --tag factors_32
    python train_elsa.py --root R --as-published          # NAdam, rate .1, 10 epochs, no choice

Reads   data/{train,val,test}.pqt, trackid_sorted.csv, elsa.yaml
Writes  runs/elsa-none[-TAG]-sSEED/   config.yaml, best.pt, last.pt, log.jsonl, TensorBoard events,
        recs.pqt, per_user_{val,test}.pqt, metrics.json

`python baselines.py --only elsa` makes the same run by default options. An epoch takes three
products of users, tracks and factors, and memory for four arrays of tracks x factors.
"""

from __future__ import annotations

import core.start  # noqa: F401  before what is heavy
import training.threads  # noqa: F401  before torch

from core.late import options_are_read
from core.options import run
from recommenders.run_options import each_run
from training.elsa_options import ElsaConfig

if options_are_read(__name__):
    from training import elsa


class TrainElsaConfig(ElsaConfig):
    """ELSA's own options."""


def main(config: TrainElsaConfig) -> None:
    elsa.train_elsa(config)


if __name__ == "__main__":
    run(each_run(main), TrainElsaConfig, __doc__)
