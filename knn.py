"""KNN: recommend the tracks nearest to the mean of a user's tracks, by cosine.

    python knn.py --root sample --embedding mfcc
    python knn.py --root sample --embedding noise --seeds 1,2,3
    python knn.py --root sample --embedding mfcc --scale none --tag raw
    python knn.py --root sample --embedding mfcc --shuffle       # control: knn-mfcc-shuffled-s1

Reads   data/{train,val,test}.pqt, trackid_sorted.csv, embeddings/NAME.npy
Writes  runs/knn-NAME[-TAG]-sSEED/   config.yaml, recs.pqt, per_user_{val,test}.pqt, metrics.json

A user's vector is the mean of the vectors of the tracks of the train history, each once, whatever
its plays, in the unit of --scale. Nothing but --shuffle is random: runs of several seeds are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import core.start  # noqa: F401  before what is heavy

from core.late import options_are_read
from core.options import option, run
from recommenders.run_options import EmbeddingOptions, each_run, each_seed

if options_are_read(__name__):
    from recommenders.cold import cold_vectors, load_cold
    from recommenders.interactions import load_split
    from recommenders.nearest import recommend_nearest
    from recommenders.runs import Run
    from recommenders.vectors import embedding_hash, knn_scorer, load_item_vectors


@dataclass(frozen=True, kw_only=True)
class KnnConfig(EmbeddingOptions):
    section: ClassVar[str] = "knn"

    config: Path | None = option(None, "yaml of options", outcome=False)


def main(config: KnnConfig) -> None:
    split = load_split(config.root)
    cold = load_cold(config.root, split)
    embedding = embedding_hash(config.root, config.embedding, config.width)
    hashes = {"split_hash": split.fingerprint, "embedding_hash": embedding}
    for options in each_seed(config):
        with Run(KnnConfig.section, options, **hashes) as this_run:
            if this_run.finished:
                continue
            vectors = load_item_vectors(
                options.root,
                options.embedding,
                split,
                missing=options.missing,
                width=options.width,
                fingerprint=embedding,
            )
            others = cold_vectors(options, cold, vectors, embedding) if cold else None
            width = options.heard_width(vectors)
            vectors = options.arranged(vectors, overwrite=True)
            if cold:
                score = knn_scorer(split.train, vectors, others)
                this_run.add_cold(recommend_nearest(score, cold), cold)
            lists = recommend_nearest(knn_scorer(split.train, vectors, overwrite=True), split)
            this_run.finish(lists, split, width=width, device="cpu", parameters=0)


if __name__ == "__main__":
    run(each_run(main), KnnConfig, __doc__)
