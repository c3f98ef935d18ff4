"""The listening page's data: tracks to hear, users and the lists made for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.audio_folder import scan
from core.cores import by_parts
from core.days import days_in_words, has_dates
from core.names import WITHOUT_FILE, row_label
from core.registry import CONTROLS, label
from core.users import original_users
from evaluation.finished import read_table
from reporting.beside import write_lists
from reporting.compared import SHOWN
from reporting.neighbours import BLOCK
from reporting.study import Study
from reporting.tracks import Tracks

HISTORY = 50  # of a user's tracks


class Shelf:
    """The tracks that the page mentions, each once, in the order in which they were put there."""

    def __init__(self, tracks: Tracks, audio: dict[str, str]):
        self.tracks, self.audio = tracks, audio  # track ids' audio: the ending of the file
        self.rows: list[int] = []
        self._places = np.full(len(tracks.ids), -1)

    def places(self, track_idx: np.ndarray) -> np.ndarray:
        """Return the tracks' places; those that are not there yet are put there."""
        new = np.asarray(track_idx, int)
        new = new[self._places[new] < 0]
        new = new[np.sort(np.unique(new, return_index=True)[1])]
        self._places[new] = len(self.rows) + np.arange(len(new))
        self.rows += new.tolist()
        return self._places[np.asarray(track_idx, int)]

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


@dataclass(frozen=True)
class Drawn:
    """What is drawn by the seed.

    Attributes:
        candidates: track_idx of train, ascending.
        queries: places among them to draw from when a random track is asked for.
        users: user_id to choose and to draw from.
        on_map: places among the candidates of the sample that maps and similarities are of.
        first: places of the query and of the user that the page begins with.
    """

    candidates: np.ndarray
    queries: np.ndarray
    users: np.ndarray
    on_map: np.ndarray
    first: dict[str, int]


def draw(
    ids: list[str],
    split: dict[str, pd.DataFrame],
    audio: dict[str, str],
    *,
    n_tracks: int,
    n_users: int,
    n_map: int,
    seed: int,
) -> Drawn:
    """Draw tracks and users.

    Args:
        split: of splits.read_split.
        audio: {track id: ending} of audio_files; if some of the tracks can be heard, only such are
            drawn from.
        n_tracks, n_users, n_map: so many at most.
    """
    rng = np.random.default_rng(seed)
    candidates = np.unique(split["train"].track_idx)
    chosen = candidates
    if audio:
        heard = np.array([ids[row] in audio for row in candidates])
        chosen = candidates[heard] if heard.any() else candidates
    chosen = sample(chosen, n_tracks, rng)
    users = sample(np.unique(split["test"].user_id), n_users, rng)
    on_map = sample(np.arange(len(candidates)), n_map, np.random.default_rng(seed))
    first = {"track": int(rng.integers(len(chosen))), "user": int(rng.integers(len(users)))}
    return Drawn(candidates, np.searchsorted(candidates, chosen), users, on_map, first)


def listening_data(
    study: Study, tracks: Tracks, split: dict[str, pd.DataFrame], audio: dict[str, str],
    drawn: Drawn, folder: Path,
) -> tuple[dict, Path]:  # fmt: skip
    """Return what the listening page shows, ready for json, and the file written beside it.

    `mentioned` are the places of what is heard without a search, but for neighbours: of the tracks
    to draw from, and of the users' tracks.

    Args:
        audio: as `draw` takes it; tracks without one have no player.
        folder: of the files beside the page, see reporting.beside.

    Raises:
        InputError: a run's lists are gone, or not what was written.
    """
    shelf = Shelf(tracks, audio)
    shelf.places(drawn.candidates)  # all stand there to be found, and in the order of their files
    lists, people, listed = _people(study, split, drawn.users, shelf)
    mentioned = set(drawn.queries.tolist()) | set(listed[listed >= 0].tolist())
    for user in people:
        mentioned.update(place for place, _, _ in user["history"])
        mentioned.update(user["truth"])
    return {
        "kinds": tracks.kinds,
        "what": tracks.what,
        "queries": drawn.queries.tolist(),
        "first": drawn.first,
        "embeddings": [
            {"name": name, "width": facts["width"], "map": name not in WITHOUT_FILE}
            for name, facts in study.embeddings.items()
        ],
        "near": {"k": min(SHOWN, len(drawn.candidates) - 1), "block": BLOCK},
        "lists": lists,
        "users": people,
        "candidates": len(drawn.candidates),
        "test_users": int(split["test"].user_id.nunique()),
        "tracks": shelf.table(),
        "mentioned": mentioned,
    }, write_lists(folder, listed)


def sample(values: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n of the values, or all of them when there are no more, in their order."""
    if len(values) <= n:
        return values
    return np.sort(rng.choice(values, n, replace=False))


def _people(
    study: Study, split: dict, users: np.ndarray, shelf: Shelf
) -> tuple[list, list, np.ndarray]:
    """Return the lists' names, every user's history and held-out tracks, and places of the lists.

    Places are int (users, lists, k), -1 after a list's end.
    """
    lists, runs = [], _first_seeds(study)
    for run in runs:
        name = run["recommender"]
        group = "Controls" if name in CONTROLS else label(name)
        title = label(name) if name in CONTROLS else row_label(run["embedding"], run["tag"] or "")
        lists.append(
            {"group": group, "name": title, "run": run["folder"], "mean": _mean(study, run)}
        )
    listed = _read_lists(study, runs, users)
    train = split["train"][split["train"].user_id.isin(users)]
    train = train.sort_values(["user_id", "timestamp", "track_idx"], ascending=[True, False, True])
    histories = dict(list(train.groupby("user_id")))
    truth = dict(list(split["test"][split["test"].user_id.isin(users)].groupby("user_id")))
    people, dates = [], has_dates(study.root)
    names = original_users(study.root, users)
    for user, called, own_lists in zip(users, names, listed, strict=True):
        own, wanted = histories.get(user, train[:0]), truth[user].track_idx.to_numpy()
        newest = own.head(HISTORY)
        heard = zip(
            shelf.places(newest.track_idx).tolist(),
            newest["count"].tolist(),
            days_in_words(newest.timestamp, dates),
            strict=True,
        )
        people.append(
            {
                "id": str(called),  # JavaScript's numbers end at 2^53
                "history": [list(each) for each in heard],
                "heard": len(own),
                "truth": shelf.places(wanted).tolist(),
                "hits": np.isin(own_lists, wanted).sum(axis=1).tolist(),
            }
        )
    there = listed >= 0
    listed[there] = shelf.places(listed[there])
    return lists, people, listed


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


def _read_lists(study: Study, runs: list[dict], users: np.ndarray) -> np.ndarray:
    """Return the first k tracks of the users' lists, int64 (users, runs, k) of track_idx or -1."""
    listed = np.full((len(users), len(runs), study.k), -1)
    wanted = ["user_id", "track_idx", "rank"]

    def read(part: slice) -> None:
        for at in range(part.start, part.stop):
            folder = study.root / "runs" / runs[at]["folder"]
            recs = read_table(folder, "recs.pqt", runs[at], columns=wanted)
            recs = recs[(recs["rank"] <= study.k).to_numpy()]
            recs = recs[recs.user_id.isin(users).to_numpy()]
            places = np.searchsorted(users, recs.user_id), at, recs["rank"] - 1
            listed[places] = recs.track_idx

    by_parts(read, len(runs))
    return listed


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
