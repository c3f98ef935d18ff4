"""Who gains: every row's metric of every user, beside the page, with what is known of the users.

data/users.js  for each metric and row uint16 (n_users,), 65,535 times the metric; then for each
               grouping uint8 (n_users,), the place of the user's group, 255 where unknown
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.names import row_label
from core.registry import CONTROLS, label
from evaluation.beyond import activity_groups
from evaluation.results import Row
from reporting.beside import write_script
from reporting.tracks import Tracks
from reporting.users import Key

UNKNOWN = 255


def write_gains(
    folder: Path, rows: dict[Key, Row], metrics: list[str], train: pd.DataFrame, tracks: Tracks
) -> tuple[dict, list[Path]]:
    """Write users.js; return what the page has to know of it, and the files.

    Args:
        rows: of users.user_rows.
        metrics: those to write; rows that lack one are left out.
        train: the train interactions.

    Returns:
        `users` (their number), `metrics`, `rows` (names), `groups` ([{name, groups}]); and the
        file. Nothing of both when no run has its users' metrics.
    """
    rows = {key: row for key, row in rows.items() if set(metrics) <= set(row.metrics)}
    if not rows:
        return {}, []
    users = next(iter(rows.values())).users
    arrays = [
        np.round(65535 * np.clip(row.column(metric), 0, 1)).astype("<u2")
        for metric in metrics
        for row in rows.values()
    ]
    groups = groupings(users, train, tracks)
    arrays += [places.astype(np.uint8) for _, _, places in groups]
    path = write_script(folder / "users.js", "users", *arrays)
    about = {
        "users": len(users),
        "metrics": metrics,
        "rows": [row_name(key) for key in rows],
        "groups": [{"name": name, "groups": names} for name, names, _ in groups],
    }
    return about, [path]


def first_pair(gains: dict, told: dict, users: dict[Key, Row]) -> list[int]:
    """Return the places of the rows shown first: the first recommender's best, and listening alone.

    Args:
        gains: of write_gains.
        told: of answer.answer.
        users: the rows that gains was made from.
    """
    names = gains["rows"]
    card = next((card for card in told["cards"] if card["field"].rows), None)
    best = f"{card['label']}: {card['field'].best_first()[0]}" if card else names[0]
    alone = [row_name(key) for key in users if key[0] in CONTROLS]
    other = next((name for name in alone if name in names), names[-1])
    return [names.index(best) if best in names else 0, names.index(other)]


def row_name(key: Key) -> str:
    """Return a row for people: `KNN: musicnn`, or the control that hears nothing."""
    recommender, embedding, tag = key
    if recommender in CONTROLS:
        return label(recommender)
    return f"{label(recommender)}: {row_label(embedding, tag)}"


def groupings(
    users: np.ndarray, train: pd.DataFrame, tracks: Tracks
) -> list[tuple[str, list[str], np.ndarray]]:
    """Return (name, names of the groups, each user's group) of three ways to part users.

    By activity, the number of their tracks, in the thirds of evaluation.beyond; by popularity, the
    thirds of the mean over their tracks of the logarithm of a track's plays; by the style or genre
    that they played most, where it is known.
    """
    known, at, heard = np.unique(train.user_id, return_inverse=True, return_counts=True)
    place = np.searchsorted(known, users)
    active = activity_groups(heard)[place]
    plays = np.log(np.maximum(tracks.plays, 1))[train.track_idx.to_numpy()]
    popular = activity_groups(np.bincount(at, weights=plays) / heard)[place]
    found = [
        ("activity", ["most tracks heard", "middle", "fewest"], active),
        ("popularity", ["hears the popular", "middle", "hears the rare"], popular),
    ]
    if tracks.what:
        kind = tracks.kind[train.track_idx.to_numpy()]
        counts = np.zeros((len(known), len(tracks.kinds)))
        np.add.at(counts, (at[kind >= 0], kind[kind >= 0]), train["count"].to_numpy()[kind >= 0])
        most = np.where(counts.any(axis=1), counts.argmax(axis=1), UNKNOWN)[place]
        found.append((tracks.what, tracks.kinds, most))
    return found
