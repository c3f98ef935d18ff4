"""Lists of cold tracks: those that train does not know, where the split keeps them apart.

The journal's protocol leaves data/cold_test.pqt, users of train with tracks that are not in it.
Such lists rank cold tracks only, all of them, from the users' train histories and the embedding's
vectors. Where a network learned its tracks' vectors, cold ones go through the rest of it as the
embedding has them, as in the extended study, and the run's config.yaml says so (`cold_vectors`);
vectors learned from nothing, or from listening alone, have none for a cold track and make no list.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from recommenders.interactions import Interactions, Split
from recommenders.vectors import load_item_vectors


def load_cold(root: Path, split: Split) -> Split | None:
    """Return the cold tracks as candidates and their plays as test; None where there are none.

    Returns:
        a Split over the same users, whose items are the cold tracks in order of track_idx; train
        and val hold no interactions, so nothing is filtered from a list.
    """
    table = split.cold_table
    if table is None:
        return None
    track_idx = np.unique(table.track_idx)
    user = np.searchsorted(split.user_ids, table.user_id)
    users, lengths = np.unique(user, return_counts=True)
    test = Interactions(
        users,
        np.concatenate([[0], np.cumsum(lengths)]),
        np.searchsorted(track_idx, table.track_idx),
        table.timestamp.to_numpy(),
        table["count"].to_numpy(),
    )
    nothing = dataclasses.replace(
        test,
        users=np.arange(split.n_users),
        offsets=np.zeros(split.n_users + 1, dtype=np.int64),
        **{name: getattr(test, name)[:0] for name in ("items", "timestamps", "counts")},
    )
    none = dataclasses.replace(nothing, users=users[:0], offsets=np.zeros(1, dtype=np.int64))
    return Split(split.user_ids, track_idx, split.n_tracks, train=nothing, val=none, test=test)


def cold_vectors(
    options, cold: Split, vectors: np.ndarray, fingerprint: str | None = None
) -> np.ndarray:
    """Return the embedding's vectors of the cold tracks as a run of these options has them.

    Args:
        vectors: float32 (n_items, width), of the tracks of train, as loaded. All that is known of
            an embedding is known from them: `--missing mean` fills with their mean, and `--scale`
            measures them.
        fingerprint: of the embedding they were loaded from, which must still be the same.

    Returns:
        float32 (n_cold, width). `--shuffle` exchanges cold tracks' vectors among each other.
    """
    others = load_item_vectors(
        options.root,
        options.embedding,
        cold,
        missing=options.missing,
        width=options.width,
        known=vectors,
        fingerprint=fingerprint,
    )
    return options.arranged(vectors, others, overwrite=True)
