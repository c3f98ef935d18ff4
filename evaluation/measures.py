"""HitRate, MRR, Precision, Recall and NDCG of lists, per user and with 95 % intervals.

Definitions, for a user with the list L (cut at k) and the held-out tracks T, as rs_metrics has
them (the tests compare): HitRate = 1 if L and T share a track; MRR = 1 / rank of the first track
of T in L, else 0; Precision = |L and T| / |L|; Recall = |L and T| / |T|; NDCG = DCG / IDCG with
gain 1 / log2(rank + 1) at each hit, the ideal over min(|T|, k) hits. A user without a list is
an error (`user_lists`); of an empty list `list_metrics` gives Precision NaN, the rest 0. Lists rank
all candidates: nothing is sampled. Segments: `segment_metrics`; their groups: beyond.py, warmup.py,
artists.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from core.artifacts import write_json, write_table
from core.options import InputError
from evaluation import artists, beyond, warmup, yambda
from evaluation.finished import COMPLETE, FILES, fingerprints
from evaluation.metric_options import check_lengths

HEADLINE = ("HitRate", "NDCG")  # what the table's page, the report and the figures show first
STATED = 50  # the k they are shown at: the study's
OF_SEGMENTS = ("HitRate", "Recall", "NDCG")


def evaluate(
    folder: Path,
    recs: pd.DataFrame,
    split: dict,
    ks,
    results: dict,
    artist_of=None,
    held_out: pd.DataFrame | None = None,
) -> dict:
    """Write per_user_*.pqt, segments_*.pqt and, last, metrics.json with all files' fingerprints.

    Args:
        folder: the run's.
        recs: user_id, track_idx, rank.
        split: tables by name; all have user_id and track_idx.
        ks: list lengths, beside those that results tells of already.
        results: what metrics.json holds beside `val`, `test`, `lists` and `files`, which are put
            in; those it has are replaced.
        artist_of: int64 (n_tracks,) as artists.read_artists returns it, for segments by artist.
        held_out: held_out.pqt, of a split that has it: results then hold `yambda` (yambda.py).
    """
    ks = sorted({*ks, *known_lengths(results)})
    results["lists"] = {}
    for part in ("val", "test"):
        users = np.unique(split[part].user_id)
        lists = user_lists(users, recs, ks)
        table = per_user_metrics(split[part], recs, ks)
        write_table(folder / f"per_user_{part}.pqt", table)
        segments = segment_metrics(split["train"], split[part], lists, ks, artist_of)
        write_table(folder / f"segments_{part}.pqt", segments)
        results["lists"][part] = _statistics(split["train"], lists, ks)
        results[part] = summarize(table)
    if held_out is not None:
        results["yambda"] = yambda.of_parts(held_out, split, recs)
    results[FILES] = fingerprints(folder)
    write_json(folder / COMPLETE, results)
    return results


def known_lengths(results: dict) -> set[int]:
    """Return the list lengths of the metrics that a metrics.json holds."""
    names = (name for part in ("val", "test") for name in results.get(part, {}))
    return {int(name.partition("@")[2]) for name in names if name.partition("@")[2].isdigit()}


def _statistics(train: pd.DataFrame, lists: np.ndarray, ks) -> dict:
    users_of_track = np.bincount(train.track_idx)
    return {
        f"{name}@{k}": value
        for k in ks
        for name, value in beyond.list_statistics(
            lists, users_of_track, train.user_id.nunique(), k
        ).items()
    }


def user_lists(users: np.ndarray, recs: pd.DataFrame, ks=(50,)) -> np.ndarray:
    """Return the lists of the users as rows, int64 (n, longest) of track_idx, -1 after their end.

    Args:
        users: user_id, ascending.
        recs: user_id, track_idx, rank (from 1) of the lists; those of others are left out.
        ks: list lengths that are asked for.

    Raises:
        InputError: k < 1 or beyond the length of list that is kept, or a user without a list.
    """
    check_lengths(ks)
    at = np.searchsorted(users, recs.user_id).clip(max=len(users) - 1)
    mine = users[at] == recs.user_id.to_numpy()
    ranks = recs["rank"].to_numpy()
    lists = np.full((len(users), int(ranks.max(initial=0))), -1, dtype=np.int64)
    lists[at[mine], ranks[mine] - 1] = recs.track_idx.to_numpy()[mine]
    without = ~(lists >= 0).any(axis=1)
    if without.any():
        user = users[without.argmax()]
        raise InputError(f"user {user} has held-out tracks but no list; make the run again")
    return lists


@dataclass(frozen=True)
class Hits:
    """Where the lists of some users hit, cut at k.

    Attributes:
        at: bool (n, at most k) whether the track at each place is held out.
        listed: int64 (n,) tracks in each list.
        wanted: int64 (n,) held-out tracks of each user, at least 1.
        k: where the lists are cut; they may all be shorter.
    """

    at: np.ndarray
    listed: np.ndarray
    wanted: np.ndarray
    k: int

    @property
    def found(self) -> np.ndarray:
        """int64 (n,): hits of each list."""
        return self.at.sum(axis=1)


def hit_rate(hits: Hits) -> np.ndarray:
    return (hits.found > 0).astype(float)


def reciprocal_rank(hits: Hits) -> np.ndarray:
    return np.where(hits.found > 0, 1 / (hits.at.argmax(axis=1) + 1), 0.0)


def precision(hits: Hits) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return hits.found / hits.listed


def recall(hits: Hits) -> np.ndarray:
    return hits.found / hits.wanted


def ndcg(hits: Hits) -> np.ndarray:
    gains = 1 / np.log2(np.arange(2, hits.k + 2))
    ideal = np.concatenate([[0], np.cumsum(gains)])[np.minimum(hits.wanted, hits.k)]
    return hits.at @ gains[: hits.at.shape[1]] / ideal


# Every metric there is, in the order of tables: a new one is a function of Hits and a line here.
METRICS = {
    "HitRate": hit_rate,
    "MRR": reciprocal_rank,
    "Precision": precision,
    "Recall": recall,
    "NDCG": ndcg,
}


def per_user_metrics(truth: pd.DataFrame, recs: pd.DataFrame, ks=(50,)) -> pd.DataFrame:
    """Return one row for each user of truth: user_id, ascending, and a column for each metric.

    Args:
        truth: user_id, track_idx of the held-out interactions.
        recs: user_id, track_idx, rank (from 1) of the lists.
        ks: list lengths at which the lists are cut.

    Raises:
        InputError: as user_lists, or a list holds a track twice.
    """
    users, lengths, tracks = _held_out(truth)
    lists = user_lists(users, recs, ks)
    columns = {"user_id": users}
    for k in ks:
        for name, values in list_metrics(lists, lengths, tracks, k).items():
            columns[f"{name}@{k}"] = values
    return pd.DataFrame(columns)


def segment_metrics(
    train: pd.DataFrame, truth: pd.DataFrame, lists: np.ndarray, ks, artist_of=None
):
    """Return HitRate, Recall and NDCG by activity of users, popularity, plays and artist of tracks.

    Args:
        train, truth: user_id, track_idx; the users of truth are in train. Train's `count` is
            plays; without it there is nothing by plays.
        lists: int64 (n, m) track_idx, a row for each user of truth, ascending.
        ks: list lengths.
        artist_of: int64 (n_tracks,) as artists.read_artists returns it, or None.

    Returns:
        A row for each user with by = `activity`, and one for each user and group of which the user
        has held-out tracks with by = `popularity`, `plays` (warmup.py) and, where artists are
        known, `artist` (artists.py): user_id, by, group, metrics.
    """
    users = np.unique(truth.user_id)
    known, tracks_of_user = np.unique(train.user_id, return_counts=True)
    active = beyond.activity_groups(tracks_of_user)[np.searchsorted(known, users)]
    popular = beyond.popularity_groups(np.bincount(train.track_idx))[truth.track_idx]
    names = np.array(beyond.GROUPS)
    parts = [("activity", names[active], truth)]
    parts += [("popularity", names[g], truth[popular == g]) for g in range(len(names))]
    if "count" in train:
        binned = warmup.bin_of(np.bincount(train.track_idx, train["count"])[truth.track_idx])
        parts += [(warmup.PLAYS, warmup.names()[g], truth[binned == g]) for g in np.unique(binned)]
    if artist_of is not None:
        known = artists.novelty(train, truth, artist_of)
        parts += [
            (artists.ARTIST, name, truth[known == g])
            for g, name in enumerate(artists.GROUPS)
            if (known == g).any()
        ]
    frames = []
    for by, group, wanted in parts:
        own, lengths, tracks = _held_out(wanted)
        columns = {
            "user_id": own,
            "by": np.full(len(own), by),
            "group": np.broadcast_to(group, len(own)).astype(object),
        }
        for k in ks:
            found = list_metrics(lists[np.searchsorted(users, own)], lengths, tracks, k)
            columns |= {f"{name}@{k}": found[name] for name in OF_SEGMENTS}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _held_out(truth: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return users, ascending, how many tracks each has, and the tracks, user by user."""
    users, row, lengths = np.unique(truth.user_id, return_inverse=True, return_counts=True)
    return users, lengths, truth.track_idx.to_numpy()[np.argsort(row, kind="stable")]


def list_metrics(lists: np.ndarray, lengths: np.ndarray, tracks: np.ndarray, k: int) -> dict:
    """Return every metric of METRICS for every user, as the module's docstring defines them.

    Args:
        lists: int64 (n, m) track_idx, best first; -1 from the end of a shorter list on.
        lengths: int64 (n,) number of held-out tracks of each user, at least 1.
        tracks: int64 (sum of lengths,) the held-out track_idx, one user after the other.
        k: where lists are cut.

    Returns:
        {name: float64 (n,)}. Precision of an empty list is NaN, the other metrics are 0.

    Raises:
        InputError: a list holds a track twice.
    """
    lists = lists[:, :k]
    n = len(lists)
    listed = lists >= 0
    ordered = np.sort(lists, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise InputError("a list holds one track twice; make the run again with --overwrite")

    # A pair (user, track) as one number, so that one sorted search finds all hits.
    span = max(tracks.max(initial=0), lists.max(initial=0)) + 1
    wanted = np.sort(np.repeat(np.arange(n), lengths) * span + tracks)
    keys = np.arange(n)[:, None] * span + lists
    at = np.searchsorted(wanted, keys).clip(max=len(wanted) - 1)
    hits = (wanted[at] == keys) & listed

    known = Hits(hits, listed.sum(axis=1), np.asarray(lengths), k)
    return {name: measure(known) for name, measure in METRICS.items()}


def mean_metric(name: str, lists: np.ndarray, lengths: np.ndarray, tracks: np.ndarray) -> float:
    """Return the mean over users of a metric such as `NDCG@50`; arguments as of list_metrics."""
    metric, k = name.split("@")
    return float(list_metrics(lists, lengths, tracks, int(k))[metric].mean())


def mean_and_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % t-interval (0 for a single value).

    Source: Student's t, n - 1 degrees of freedom, standard error s / sqrt(n).
    """
    mean, half = means_and_intervals(np.asarray(values)[:, None])
    return float(mean[0]), float(half[0])


def means_and_intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean_and_interval of every column of (n, columns), float64 (columns,) each."""
    n, columns = len(values), np.ascontiguousarray(values.T)
    mean = columns.mean(axis=1)
    if n < 2:
        return mean, np.zeros(len(columns))
    return mean, columns.std(axis=1, ddof=1) / np.sqrt(n) * stdtrit(n - 1, 0.975)


def summarize(per_user: pd.DataFrame) -> dict:
    """Return {"users": n, metric: {"mean": m, "ci95": half width}} as metrics.json holds it."""
    summary: dict = {"users": len(per_user)}
    for name in per_user.columns.drop("user_id"):
        mean, half = mean_and_interval(per_user[name].to_numpy())
        summary[name] = {"mean": mean, "ci95": half}
    return summary


def describe(results: dict) -> str:
    """Return val and test of a metrics.json as aligned lines for a terminal."""
    ks = sorted({int(name.split("@")[1]) for name in results["test"] if "@" in name})
    told = [f"{part:<5}{yambda.described(n)}" for part, n in results.get("yambda", {}).items()]
    lines = ["         users     @k" + "".join(name.rjust(16) for name in METRICS)]
    for part in ("val", "test"):
        for k in ks:
            found = (results[part][f"{name}@{k}"] for name in METRICS)
            cells = "".join(f"{x['mean']:.4f} ±{x['ci95']:.4f}".rjust(16) for x in found)
            lines.append(f"{part:<5}{results[part]['users']:>9,}{k:>7}{cells}")
    return "\n".join([*lines, *told])
