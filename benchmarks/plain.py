"""The definitions, written without any care for speed: baselines of benchmarks, truth of tests."""

from __future__ import annotations

import numpy as np
import rs_metrics
import torch
from torch.nn import functional as F

from bert4rec import BERT4Rec
from dataset import MaskedBatch, PairBatch
from model import ShallowEmbeddingModel
from recommenders.interactions import Split


def shallow_loss(network: ShallowEmbeddingModel, batch: PairBatch) -> torch.Tensor:
    """Pair by pair, as published: four index lists of b x n go through the layer."""
    n = batch.negatives.shape[1]
    users = batch.users.repeat_interleave(n)
    items = batch.items.repeat_interleave(n)
    negatives = batch.negatives.flatten()
    if network.negatives_are_users:
        worse = _cosine(network, negatives, items)
    else:
        worse = _cosine(network, users, negatives)
    return _hinge(network, batch, _cosine(network, users, items).view(-1, n), worse.view(-1, n))


def shallow_loss_positives_once(network: ShallowEmbeddingModel, batch: PairBatch) -> torch.Tensor:
    """As shallow_loss, but the positive of a pair is computed once for its n negatives."""
    n = batch.negatives.shape[1]
    better = _cosine(network, batch.users, batch.items)[:, None]
    negatives = batch.negatives.flatten()
    if network.negatives_are_users:
        anchors = network.layer(network.items[batch.items]).repeat_interleave(n, 0)
        others = network.layer(network.users[negatives])
    else:
        anchors = network.layer(network.users[batch.users]).repeat_interleave(n, 0)
        others = network.layer(network.items[negatives])
    return _hinge(network, batch, better, F.cosine_similarity(anchors, others).view(-1, n))


def _cosine(network, users, items) -> torch.Tensor:
    left, right = network.layer(network.users[users]), network.layer(network.items[items])
    return F.cosine_similarity(left, right)


def _hinge(network, batch, better, worse) -> torch.Tensor:
    hinge = (network.margin - better + worse).clamp(min=0)
    if batch.weights is not None:
        hinge = hinge * batch.weights[:, None]
    return hinge.mean() + network.l2 * sum(p.square().sum() for p in network.parameters())


def bert4rec_loss(network: BERT4Rec, batch: MaskedBatch) -> torch.Tensor:
    """Cross-entropy over logits at every position, ignored where nothing is masked."""
    hidden = network.encode(batch.tokens)
    zero = torch.zeros_like(network.mask)
    table = torch.cat([network.items, torch.stack([network.mask, zero])])
    logits = hidden @ table.T
    labels = torch.full_like(batch.tokens, -100).flatten()
    labels[batch.positions] = batch.targets
    return F.cross_entropy(logits.flatten(0, 1), labels)


def knn(split: Split, vectors: np.ndarray, n: int, k: int = 100, *, partial: bool = False) -> list:
    """One user at a time: mean, cosine with every track, rank, drop what was heard.

    Args:
        partial: rank only the k + |history| nearest (what a nearest-neighbour index returns).
    """
    items = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    lists = []
    for user in split.eval_users[:n]:
        history = split.train.of(user)
        heard = set(history.tolist())
        mean = vectors[history].mean(axis=0)
        scores = items @ (mean / np.linalg.norm(mean))
        if partial:
            length = min(k + len(heard), len(scores))
            near = np.argpartition(-scores, length - 1)[:length]
            near = near[np.lexsort((near, -scores[near]))]
        else:
            near = np.argsort(-scores, kind="stable")
        lists.append([item for item in near.tolist() if item not in heard][:k])
    return lists


def knn_index(split: Split, vectors: np.ndarray, n: int, k: int = 100) -> list:
    """As published: an exact index, asked for one user's k + |history| nearest, then a filter.

    Raises:
        ImportError: faiss is not installed; requirements-dev.txt names it.
    """
    import faiss

    items = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    lists = []
    for user in split.eval_users[:n]:
        history = split.train.of(user)
        heard = set(history.tolist())
        mean = vectors[history].mean(axis=0)
        length = min(k + len(heard), len(items))
        near = index.search((mean / np.linalg.norm(mean))[None], length)[1][0]
        lists.append([item for item in near.tolist() if item not in heard][:k])
    return lists


def metrics(truth: dict, lists: dict, k: int) -> dict:
    """The study's metrics as rs_metrics computes them, per user."""
    functions = {
        "HitRate": rs_metrics.hitrate,
        "MRR": rs_metrics.mrr,
        "Precision": rs_metrics.precision,
        "Recall": rs_metrics.recall,
        "NDCG": rs_metrics.ndcg,
    }
    return {name: f(truth, lists, k, 1, False) for name, f in functions.items()}
