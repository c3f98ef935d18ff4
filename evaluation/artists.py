"""Artists: is it the sound, or just who plays?

A held-out pair is of an artist whom the user played in train (`user`: exploit), whom only others
played (`train`), or whom train does not know (`new`): discovery. A pair whose track has no artist
in the file is in none of the groups.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from core.options import InputError

ARTIST = "artist"  # what segments call it
GROUPS = ("user", "train", "new")
ID_COLUMNS = ("id", "trackid", "track_id")


def read_artists(path: Path, trackids: list[str]) -> np.ndarray:
    """Return the artist of every track, int64 (n_tracks,), from 0; -1 where the file has none.

    Args:
        path: Music4All's id_information.csv (tabs; id, artist, ...), any csv with a column of ids
            and one named artist, or a json {track id: artist}.
        trackids: track ids by index.

    Raises:
        InputError: it cannot be read, has no such columns, or knows none of the tracks.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--artists {path} cannot be read ({error})") from error
    known = _of_json(path, text) if Path(path).suffix == ".json" else _of_csv(path, text)
    found = [known.get(str(each), "") for each in trackids]
    if not any(found):
        raise InputError(
            f"--artists {path} has an artist for none of the {len(found):,} tracks of "
            "trackid_sorted.csv; give the table of the same data"
        )
    codes = np.unique([name for name in found if name])
    at = np.searchsorted(codes, found)
    return np.where(np.array(found) == "", -1, at).astype(np.int64)


def _of_json(path: Path, text: str) -> dict[str, str]:
    pairs = []
    try:
        content = json.loads(text, object_pairs_hook=lambda found: pairs.append(found) or found)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--artists {path} is no json ({error})") from error
    if not pairs or content is not pairs[-1]:  # the outermost comes last
        raise InputError(f"--artists {path} must hold {{track id: artist}}")
    for track, artist in content:
        if not isinstance(artist, str | int | None):
            raise InputError(f"--artists {path}: '{track}' must have a name, got {artist!r:.60}")
    return _once(path, ((track, str(artist or "").strip()) for track, artist in content))


def _of_csv(path: Path, text: str) -> dict[str, str]:
    # A quote in a table of tabs is a letter: the song "Heroes" would end no field, and hide rows.
    tabs = "\t" in text.partition("\n")[0]
    quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    delimiter = "\t" if tabs else ","
    try:
        file = io.StringIO(text, newline="")
        reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting, strict=True)
        rows, names = list(reader), reader.fieldnames or ()
    except csv.Error as error:
        raise InputError(f"--artists {path} cannot be read as a table ({error})") from error
    heads = {name.strip().lower(): name for name in names}
    ids = next((heads[name] for name in ID_COLUMNS if name in heads), None)
    if ids is None or ARTIST not in heads:
        raise InputError(
            f"--artists {path} needs a column {' or '.join(ID_COLUMNS)} and one named {ARTIST}, "
            f"has {', '.join(heads) or 'none'}"
        )
    return _once(path, ((row[ids], (row[heads[ARTIST]] or "").strip()) for row in rows))


def _once(path: Path, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return {track: artist} of those that have one; a track of two artists is an InputError."""
    known: dict[str, str] = {}
    for track, artist in pairs:
        if artist and known.setdefault(track, artist) != artist:
            raise InputError(
                f"--artists {path}: '{track}' stands twice, as of '{known[track]}' and of "
                f"'{artist}'; expected one artist a track"
            )
    return known


def novelty(train: pd.DataFrame, truth: pd.DataFrame, artist_of: np.ndarray) -> np.ndarray:
    """Return the index into GROUPS of every held-out pair, int64 (n,); -1 without an artist.

    Args:
        train, truth: user_id, track_idx.
        artist_of: as read_artists returns it.
    """
    span = int(artist_of.max()) + 1
    heard = artist_of[train.track_idx]
    pairs = np.unique(train.user_id.to_numpy()[heard >= 0] * span + heard[heard >= 0])
    own = artist_of[truth.track_idx]
    to_train = np.isin(own, heard)
    to_user = np.isin(truth.user_id.to_numpy() * span + own, pairs)
    return np.where(own < 0, -1, np.where(to_user, 0, np.where(to_train, 1, 2)))
