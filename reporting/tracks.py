"""What is known of the tracks beside their sound: plays, style or genre, artist and title."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.artifacts import read_json, read_sealed
from core.options import InputError

KINDS = 8  # colours that can be told apart; what is rarer is `other`
OTHER = "other"
COLUMNS = ("artist", "song", "genres")  # of Music4All's id_information.csv, id_genres.csv


@dataclass(frozen=True)
class Tracks:
    """Facts of every track, by track_idx.

    Attributes:
        ids: the track ids.
        plays: int64 (n_tracks,) plays in train.
        kinds: names of the styles or genres, the most frequent first, `other` last.
        kind: int64 (n_tracks,) place in kinds; -1 where nothing is known.
        what: what a kind is: `style`, `genre`, or '' when nothing is known of any track.
        titles: {track id: "artist: song"}.
    """

    ids: list[str]
    plays: np.ndarray
    kinds: list[str]
    kind: np.ndarray
    what: str
    titles: dict[str, str]


def read_tracks(root: Path, ids: list[str], train: pd.DataFrame, about: tuple[Path, ...]) -> Tracks:
    """Return the tracks' facts.

    Args:
        ids: of trackid_sorted.csv.
        train: track_idx and count of the train interactions.
        about: tables with a header, as read_about takes them; none: what get_data.py --about wrote.
    """
    plays = np.bincount(train.track_idx, weights=train["count"], minlength=len(ids)).astype(int)
    known = read_about(about or found_about(root))
    titles = {
        track: ": ".join(filter(None, (facts.get("artist"), facts.get("song"))))
        for track, facts in known.items()
    }
    genres = {track: _first(facts["genres"]) for track, facts in known.items() if "genres" in facts}
    what, names = "genre", genres
    if not genres and (root / "sample.json").exists():
        what, names = "style", styles(root / "sample.json")
    found = [names.get(track, "") for track in ids]
    counts = Counter(filter(None, found))
    # By frequency, then by name, so that colours do not depend on the order of a file.
    kinds = sorted(counts, key=lambda name: (-counts[name], name))
    if len(kinds) > KINDS:
        kinds = [*kinds[: KINDS - 1], OTHER]
    place = {name: at for at, name in enumerate(kinds)}
    rest = place.get(OTHER, -1)
    kind = np.array([place.get(name, rest) if name else -1 for name in found])
    titles = {track: title for track, title in titles.items() if title}
    return Tracks(ids, plays, kinds, kind, what if kinds else "", titles)


def styles(path: Path) -> dict[str, str]:
    """Return the style of each track of a sample.

    Raises:
        InputError: sample.json is damaged.
    """
    return read_json(path, "python make_sample.py --overwrite", ("tracks",))["tracks"]


def found_about(root: Path) -> tuple[Path, ...]:
    """Return what get_data.py --about wrote of the tracks, if it did.

    Raises:
        InputError: it is another file than was written.
    """
    path, remedy = root / "about.tsv", "python get_data.py --about"
    if path.with_suffix(".json").exists():
        digest = read_json(path.with_suffix(".json"), remedy, ("sha256",))["sha256"]
        read_sealed(path, digest, f"make it with {remedy}, or remove about.json if it is meant")
    return (path,) if path.exists() else ()


def read_about(paths: tuple[Path, ...]) -> dict[str, dict[str, str]]:
    """Return {track id: {column: text}} of tables with a column `id` and some of COLUMNS.

    Raises:
        InputError: a table cannot be read or lacks these columns.
    """
    known: dict[str, dict[str, str]] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8", newline="") as file:
                first = file.readline()
                separator = "\t" if "\t" in first else ","
                names = next(csv.reader([first], delimiter=separator), [])
                quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
                rows = list(csv.DictReader(file, names, delimiter=separator, quoting=quoting))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"--about {path} cannot be read: {error}") from error
        names = [name.strip() for name in names]
        if "id" not in names or not set(COLUMNS) & set(names):
            raise InputError(
                f"--about {path} must have a column 'id' and one of {', '.join(COLUMNS)} "
                f"(tab or comma separated), got {', '.join(names)[:80]!r}"
            )
        for row in rows:
            facts = {name: row[name].strip() for name in COLUMNS if row.get(name)}
            known.setdefault(row["id"].strip(), {}).update(facts)
    return known


def _first(genres: str) -> str:
    """Return the first of a track's genres, which Music4All separates by commas."""
    return genres.split(",")[0].strip().lower()
