"""The listening page's data: neighbours of tracks under each embedding, users and their lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.names import row_label
from core.registry import CONTROLS, label
from evaluation.finished import read_table
from reporting.similarity import nearest
from reporting.study import Study
from reporting.tracks import Tracks

NEIGHBOURS = 8  # of a track, shown for each embedding
SHOWN = 20  # of a list's 100 tracks
HISTORY = 50  # of a user's tracks


@dataclass
class Shelf:
    """The tracks that the page mentions, each once; `place` puts one there and says where."""

    tracks: Tracks
    audio: dict[str, str]  # suffix of the file, by track id
    rows: dict[int, int]

    def place(self, track_idx: int) -> int:
        return self.rows.setdefault(int(track_idx), len(self.rows))

    def table(self) -> list[list]:
        """Return [id, title, kind, plays, suffix of its audio or ''] of every track, in order."""
        known = self.tracks
        return [
            [
                known.ids[row],
                known.titles.get(known.ids[row], ""),
                int(known.kind[row]),
                int(known.plays[row]),
                self.audio.get(known.ids[row], ""),
            ]
            for row in self.rows
        ]


def listening_data(
    study: Study,
    tracks: Tracks,
    split: dict[str, pd.DataFrame],
    audio: dict[str, str],
    *,
    n_tracks: int,
    n_users: int,
    seed: int,
) -> dict:
    """Return what the listening page shows, ready for json.

    Args:
        split: of splits.read_split.
        audio: {track id: suffix} of the audio files; tracks without one have no player.
        n_tracks, n_users: at most so many to choose from, drawn by the seed.
    """
    rng = np.random.default_rng(seed)
    candidates = np.unique(split["train"].track_idx)
    chosen = candidates
    if audio:
        heard = np.array([tracks.ids[row] in audio for row in candidates])
        chosen = candidates[heard] if heard.any() else candidates
    chosen = sample(chosen, n_tracks, rng)
    users = sample(np.unique(split["test"].user_id), n_users, rng)

    shelf = Shelf(tracks, audio, {})
    queries = [shelf.place(row) for row in chosen]
    neighbours = {}
    for name in study.embeddings:
        found = nearest(
            study.vectors(name, candidates), np.searchsorted(candidates, chosen), NEIGHBOURS
        )
        neighbours[name] = [[shelf.place(candidates[i]) for i in row if i >= 0] for row in found]
    lists, people = _people(study, split, users, shelf)
    return {
        "kinds": tracks.kinds,
        "what": tracks.what,
        "queries": queries,
        "embeddings": [
            {"name": name, "width": facts["width"]} for name, facts in study.embeddings.items()
        ],
        "neighbours": neighbours,
        "lists": lists,
        "users": people,
        "candidates": len(candidates),
        "test_users": int(split["test"].user_id.nunique()),
        "tracks": shelf.table(),
    }


def sample(values: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n of the values, or all of them when there are no more, in their order."""
    if len(values) <= n:
        return values
    return np.sort(rng.choice(values, n, replace=False))


def _people(study: Study, split: dict, users: np.ndarray, shelf: Shelf) -> tuple[list, list]:
    """Return the lists' names, and of every user history, held-out tracks and lists."""
    lists, recommended = [], []
    for run in _first_seeds(study):
        recs = _read_lists(study.root / "runs" / run["folder"], run, users)
        name = run["recommender"]
        group = "Controls" if name in CONTROLS else label(name)
        title = label(name) if name in CONTROLS else row_label(run["embedding"], run["tag"] or "")
        lists.append({"group": group, "name": title, "run": run["folder"]})
        recommended.append(recs)
    train = split["train"][split["train"].user_id.isin(users)]
    train = train.sort_values(["user_id", "timestamp", "track_idx"], ascending=[True, False, True])
    histories = dict(list(train.groupby("user_id")))
    truth = dict(list(split["test"][split["test"].user_id.isin(users)].groupby("user_id")))
    people = []
    for user in users:
        own, wanted = histories[user], truth[user].track_idx.to_numpy()
        listed = [recs.get(user, np.array([], dtype=int)) for recs in recommended]
        newest = own.head(HISTORY)
        days = newest.timestamp.dt.strftime("%Y-%m-%d")
        people.append(
            {
                "id": int(user),
                "history": [
                    [shelf.place(row), int(count), day]
                    for row, count, day in zip(newest.track_idx, newest["count"], days, strict=True)
                ],
                "heard": len(own),
                "truth": [shelf.place(row) for row in wanted],
                "lists": [[shelf.place(row) for row in rows[:SHOWN]] for rows in listed],
                "hits": [int(np.isin(rows[: study.k], wanted).sum()) for rows in listed],
            }
        )
    return lists, people


def _first_seeds(study: Study) -> list[dict]:
    """Return one run of each row of the table, that of the lowest seed, in the table's order."""
    first: dict[tuple, dict] = {}
    for run in study.runs:
        key = run["recommender"], run["embedding"], run["tag"] or ""
        if key not in first or run["seed"] < first[key]["seed"]:
            first[key] = run
    rows = zip(study.results.recommender, study.results.embedding, study.results.tag, strict=True)
    return [first[row] for row in rows if row in first]


def _read_lists(folder: Path, run: dict, users: np.ndarray) -> dict[int, np.ndarray]:
    """Return {user_id: track_idx, best first} of some users."""
    recs = read_table(folder, "recs.pqt", run)
    recs = recs[recs.user_id.isin(users)].sort_values(["user_id", "rank"])
    return {user: own.track_idx.to_numpy() for user, own in recs.groupby("user_id")}


def audio_files(folder: Path, ids: list[str], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Return {track id: suffix} of the audio files of the folder, for the ids that have one."""
    wanted = set(ids)
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in suffixes and path.stem in wanted:
            found.setdefault(path.stem, path.suffix)
    return found
