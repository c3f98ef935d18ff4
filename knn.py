"""KNN: recommend the tracks nearest to the mean of a user's tracks, by cosine.

    python knn.py --root sample --embedding mfcc
    python knn.py --root sample --embedding noise --seeds 1,2,3
    python knn.py --root sample --embedding mfcc --standardize --tag standardized
    python knn.py --root sample --embedding mfcc --shuffle       # control: knn-mfcc-shuffled-s1

Reads   data/{train,val,test}.pqt, trackid_sorted.csv, embeddings/NAME.npy
Writes  runs/knn-NAME[-TAG]-sSEED/   config.yaml, recs.pqt, per_user_{val,test}.pqt, metrics.json

A user's vector is the mean of the raw vectors of the tracks of the train history, each once,
whatever its plays. Nothing but --shuffle is random: runs of several seeds are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from core.options import InputError, option, run
from recommenders.cold import cold_vectors, load_cold
from recommenders.interactions import load_split
from recommenders.lists import recommend
from recommenders.run_options import EmbeddingOptions, each_run, each_seed
from recommenders.runs import Run
from recommenders.vectors import embedding_hash, knn_scorer, load_item_vectors


@dataclass(frozen=True, kw_only=True)
class KnnConfig(EmbeddingOptions):
    section: ClassVar[str] = "knn"

    config: Path | None = option(None, "yaml of options", outcome=False)
    center: bool = option(False, "subtract the mean of the train tracks first")
    standardize: bool = option(False, "center, and divide each dimension by its deviation")


def main(config: KnnConfig) -> None:
    if config.embedding == "random":
        raise InputError("KNN learns nothing, so it has no use for 'random'; try --embedding noise")
    split = load_split(config.root)
    cold = load_cold(config.root, split)
    hashes = {
        "split_hash": split.fingerprint,
        "embedding_hash": embedding_hash(config.root, config.embedding, config.width),
    }
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
            )
            vectors = options.arranged(vectors)
            others = [cold_vectors(options, cold)] if cold else []
            vectors = rescale(vectors, options.center, options.standardize, *others)
            if cold:
                score = knn_scorer(split.train, vectors, *others)
                this_run.add_cold(recommend(score, cold), cold)
            lists = recommend(knn_scorer(split.train, vectors, overwrite=True), split)
            this_run.finish(lists, split, width=vectors.shape[1], device="cpu", parameters=0)


def rescale(
    vectors: np.ndarray, center: bool, standardize: bool, *others: np.ndarray
) -> np.ndarray:
    """Bring the vectors (n_items, width), where they are, to mean 0, or to deviation 1 as well.

    Raw spaces can be ruled by one direction that all tracks share; then cosine sees little else.
    A dimension that never varies becomes 0. The others are moved and scaled by the same numbers.
    """
    if not (center or standardize):
        return vectors
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    for each in (vectors, *others):
        each -= mean
    if standardize:
        squares = np.zeros(vectors.shape[1])
        for rows in np.array_split(vectors, -(-len(vectors) // 4096)):
            squares += np.square(rows, dtype=np.float64).sum(axis=0)
        deviation = np.sqrt(squares / len(vectors))
        for each in (vectors, *others):
            each /= np.where(deviation > 0, deviation, 1).astype(np.float32)
    return vectors


if __name__ == "__main__":
    run(each_run(main), KnnConfig, __doc__)
