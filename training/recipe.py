"""What every recommender that learns does, in one function: from its options to a finished run.

    train_and_recommend("shallow", config, build, batches, scorer)

A script gives its name in the registry and three functions; the rest (devices and processes, the
split, vectors, cold tracks, each seed's run, lists, numbers) is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch

from core.names import NONE
from core.registry import ALL
from recommenders.cold import cold_vectors, load_cold
from recommenders.interactions import Split, load_split
from recommenders.run_options import EmbeddingOptions, each_seed
from recommenders.runs import Run
from recommenders.vectors import embedding_hash, load_item_vectors
from training import parallel
from training.device_lists import recommend_on
from training.fit_options import FitOptions
from training.loop import fit, parameters, pick_device, validation_metric


def train_and_recommend(
    name: str,
    config: FitOptions,
    build: Callable[[FitOptions, Split, np.ndarray | None], torch.nn.Module],
    batches: Callable[[FitOptions, Split, str], tuple],
    scorer: Callable[[FitOptions, torch.nn.Module, Split, str], Callable],
    others: Mapping[str, Callable] | None = None,
    inputs: Callable[[FitOptions, Split], dict] | None = None,
) -> None:
    """Train the network of every seed that is asked for, and close its run.

    Args:
        name: of the recommender, as in the registry.
        config: its options. Where they have an embedding, its vectors are read and cold tracks
            are ranked by theirs, those of embeddings alone: what a network learned of the
            tracks of train it has not learned of them.
        build: (options, split, vectors float32 (n_items, width), or None where nothing is heard or
            vectors are learned from nothing) -> network. It has `loss(batch)` and `width`, numbers
            a vector.
        batches: (options, split, device) -> what training.loop.fit takes: train and validation
            batches as functions of a seed, and the number of train's.
        scorer: (options, network, split, device) -> a function from candidates' vectors, float32
            (n, width), or None for the tracks of train, to the function from user_idx (b,) to
            scores (b, n) of the network as it is then.
        others: scorers of more recommenders that rank by the same training, by name; each has a
            run of its own, without the files of the training.
        inputs: (options, split) -> fingerprints of what else a run is made from, by name.
    """
    device = parallel.start(pick_device(config.device))
    split = load_split(config.root)
    hears = isinstance(config, EmbeddingOptions)
    cold, vectors, fingerprint = None, None, NONE
    if hears:
        cold = load_cold(config.root, split)
        fingerprint = embedding_hash(config.root, config.embedding, config.width)
        same = {"missing": config.missing, "width": config.width, "fingerprint": fingerprint}
        vectors = load_item_vectors(config.root, config.embedding, split, **same)
    made_from = {"split_hash": split.fingerprint, "embedding_hash": fingerprint}
    scorers = {name: scorer, **(others or {})}
    once = not cold and len(config.seeds or ()) < 2  # else the vectors are asked for again
    for options in each_seed(parallel.own(config)):
        also = inputs(options, split) if inputs else {}
        with ExitStack() as opened:
            runs = {
                each: opened.enter_context(
                    parallel.one_run(Run(each, options, **made_from, also=also))
                )
                for each in scorers
            }
            if all(each.finished for each in runs.values()):
                continue
            own = options.arranged(vectors, overwrite=once) if hears else None
            network = build(options, split, own).to(device)
            scores = scorer(options, network, split, device)
            result = fit(
                network,
                *batches(options, split, device),
                partial(_validate, options.select, scores, split, device),
                runs[name],
            )
            if parallel.rank() > 0:
                continue
            width = network.width if vectors is None else options.heard_width(vectors)
            measured = {"width": width, **parameters(network), **result, "device": device}
            if others:
                measured["trained_in"] = runs[name].name
            for each, this_run in runs.items():
                if this_run.finished:
                    continue
                scores = scorers[each](options, network, split, device)
                if cold and vectors is not None and ALL[each].ranks_cold:
                    if learned_tracks(network):
                        measured["cold_vectors"] = "as the audio model made them"
                    score = scores(cold_vectors(options, cold, vectors, fingerprint))
                    this_run.add_cold(recommend_on(device, score, cold), cold)
                this_run.finish(recommend_on(device, scores(None), split), split, **measured)


def learned_tracks(network: torch.nn.Module) -> bool:
    """Say whether a network learned the vectors of tracks, so that cold ones have others."""
    items = getattr(network, "items", None)
    return items is not None and items.requires_grad


def _validate(select: str, scores: Callable, split: Split, device: str) -> float:
    return validation_metric(select, split, scores(None), device)
