"""The listening page's data: neighbours of tracks under each embedding, users and their lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from core.audio_folder import scan
from core.days import days_in_words, has_dates
from core.names import WITHOUT_FILE, row_label
from core.registry import CONTROLS, label
from core.users import original_users
from evaluation.finished import read_table
from reporting.beside import write_lists, write_map, write_neighbours
from reporting.neighbours import BLOCK
from reporting.study import Study
from reporting.tracks import Tracks

NEIGHBOURS = 8  # of a track, shown for each embedding
HISTORY = 50  # of a user's tracks


@dataclass
class Shelf:
    """The tracks that the page mentions, each once; `place` puts one there and says where."""

    tracks: Tracks
    audio: dict[str, str]  # ending of the file, by track id
    rows: dict[int, int]

    def place(self, track_idx: int) -> int:
        return self.rows.setdefault(int(track_idx), len(self.rows))

    def table(self) -> list[list]:
        """Return [id, title, kind, plays, ending of its audio or ''] of every track, in order."""
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
    n_map: int,
    of_all: bool,
    seed: int,
    folder: Path,
) -> tuple[dict, list[Path]]:
    """Return what the listening page shows, ready for json, and the files written beside it.

    `mentioned` are the places of what is heard without a search: of the tracks to draw from, their
    neighbours, and the users' tracks.

    Args:
        split: of splits.read_split.
        audio: {track id: ending} of audio_files; tracks without one have no player.
        n_tracks, n_users: at most so many to draw from by the seed when a random one is asked for,
            of users also to choose from.
        n_map: at most so many tracks decide on a map's axes; all are on it.
        of_all: look for the neighbours of every track, and not only of those to draw from.
        folder: of the files beside the page, see reporting.beside.
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
    for row in candidates:  # all stand there to be found, and in the order of their files
        shelf.place(row)
    queries = np.searchsorted(candidates, chosen)
    places = np.arange(len(candidates))
    on_map = sample(places, n_map, np.random.default_rng(seed))
    files, mentioned = [], set(queries.tolist())
    for name in tqdm(study.embeddings, "neighbours", unit=" embeddings", disable=None, leave=False):
        vectors = study.vectors(name, candidates)
        written, near = write_neighbours(
            folder, name, vectors, NEIGHBOURS, None if of_all else queries
        )
        files += written
        mentioned |= set(near[queries].ravel().tolist()) - {-1, -2}
        if name not in WITHOUT_FILE:
            files.append(write_map(folder, name, vectors, on_map))
    lists, people = _people(study, split, users, shelf)
    for user in people:
        mentioned.update(place for place, _, _ in user["history"])
        mentioned.update(place for places in (user["truth"], *user["lists"]) for place in places)
    files.append(write_lists(folder, [user.pop("lists") for user in people], study.k))
    return {
        "kinds": tracks.kinds,
        "what": tracks.what,
        "queries": queries.tolist(),
        "first": {"track": int(rng.integers(len(queries))), "user": int(rng.integers(len(users)))},
        "embeddings": [
            {"name": name, "width": facts["width"], "map": name not in WITHOUT_FILE}
            for name, facts in study.embeddings.items()
        ],
        "near": {"k": min(NEIGHBOURS, len(candidates) - 1), "block": BLOCK},
        "lists": lists,
        "users": people,
        "candidates": len(candidates),
        "test_users": int(split["test"].user_id.nunique()),
        "tracks": shelf.table(),
        "mentioned": sorted(mentioned),
    }, files


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
        lists.append(
            {"group": group, "name": title, "run": run["folder"], "mean": _mean(study, run)}
        )
        recommended.append(recs)
    train = split["train"][split["train"].user_id.isin(users)]
    train = train.sort_values(["user_id", "timestamp", "track_idx"], ascending=[True, False, True])
    histories = dict(list(train.groupby("user_id")))
    truth = dict(list(split["test"][split["test"].user_id.isin(users)].groupby("user_id")))
    people, dates = [], has_dates(study.root)
    names = original_users(study.root, users)
    for user, called in zip(users, names, strict=True):
        own, wanted = histories.get(user, train[:0]), truth[user].track_idx.to_numpy()
        listed = [recs.get(user, np.array([], dtype=int)) for recs in recommended]
        newest = own.head(HISTORY)
        days = days_in_words(newest.timestamp, dates)
        people.append(
            {
                "id": str(called),  # JavaScript's numbers end at 2^53
                "history": [
                    [shelf.place(row), int(count), day]
                    for row, count, day in zip(newest.track_idx, newest["count"], days, strict=True)
                ],
                "heard": len(own),
                "truth": [shelf.place(row) for row in wanted],
                "lists": [[shelf.place(row) for row in rows[: study.k]] for rows in listed],
                "hits": [int(np.isin(rows[: study.k], wanted).sum()) for rows in listed],
            }
        )
    return lists, people


def _mean(study: Study, run: dict) -> dict:
    """Return the means over all test users of a run's row: `HitRate`, and `hits` in a list."""
    means = {}
    rate, share = (run["test"].get(f"{name}@{study.k}") for name in ("HitRate", "Precision"))
    if rate:
        means["HitRate"] = round(rate["mean"], 4)
    if share:
        means["hits"] = round(share["mean"] * study.k, 2)
    return means


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


def audio_files(folder: Path, ids: list[str], pattern: str | None = None) -> dict[str, str]:
    """Return {track id: ending} of the files that extraction takes, for the ids that have one.

    An ending is what stands after the id, with the file's folder before it: `.mp3`, or `00/.mp3`.

    Raises:
        InputError: the folder cannot be read, or one of the ids has two files.
    """
    found = scan(folder, pattern)
    found.require_one_each(set(ids))
    endings = {}
    for track_id in ids:
        if path := found.files.get(track_id):
            inside = path.parent.relative_to(folder)
            endings[track_id] = (inside / path.suffix).as_posix()
    return endings


def file_name(track_id: str, ending: str) -> str:
    """Return the name of a track's file below the folder: `00/ID.mp3` of `00/.mp3`."""
    folder, slash, suffix = ending.rpartition("/")
    return f"{folder}{slash}{track_id}{suffix}"
