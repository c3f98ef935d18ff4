"""Genres and artists of the tracks from open tables, as one small table for the report."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.artifacts import atomic_path, sha256, write_json
from core.options import InputError
from core.trackids import read_trackids
from open_data.sources import Source
from open_data.text_tables import TextTable

ARTISTS = "artists_json"  # folder of the archive, or beside it, with a json an artist
IDS = "music4all_onion_id"


def write_about(root: Path, folder: Path, sources: dict[str, Source], threads: int) -> str:
    """Write ROOT/about.tsv: id, artist, genres of the tracks that are known; return what to print.

    Its fingerprint is in about.json, written last.

    Args:
        folder: of downloads; what is not there is left out.
        sources: of the list, by name: `genres` and `artists`.
        threads: to unpack bz2.

    Raises:
        InputError: a file is not what it is called.
    """
    known: dict[str, dict[str, str]] = {}
    genres = folder / sources["genres"].file if "genres" in sources else None
    if genres and genres.exists():
        for track, genre in largest_weights(genres, threads):
            known.setdefault(track, {})["genres"] = genre
    artists = folder / sources["artists"].file if "artists" in sources else folder / ARTISTS
    if artists.exists() or (folder / ARTISTS).is_dir():
        for track, artist in artists_of(folder / ARTISTS, artists):
            known.setdefault(track, {}).setdefault("artist", artist)
    if (root / "trackid_sorted.csv").exists():
        known = {track: known[track] for track in read_trackids(root) if track in known}
    path = root / "about.tsv"
    path.with_suffix(".json").unlink(missing_ok=True)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("id\tartist\tgenres\n")
        for track in sorted(known):
            facts = known[track]
            fields = (track, facts.get("artist", ""), facts.get("genres", ""))
            file.write("\t".join(" ".join(field.split()) for field in fields) + "\n")
    write_json(path.with_suffix(".json"), {"sha256": sha256(path)})
    counts = {name: sum(name in facts for facts in known.values()) for name in ("genres", "artist")}
    return (
        f"{path}: {len(known):,} tracks, {counts['genres']:,} with a genre, "
        f"{counts['artist']:,} with an artist"
    )


def largest_weights(path: Path, threads: int) -> Iterator[tuple[str, str]]:
    """Yield (track id, name of the column with the largest weight); rows of zeros are left out."""
    with TextTable(path, None, threads) as table:
        for block in table.blocks():
            weights = np.nan_to_num(block.vectors)
            best = weights.argmax(axis=1)
            for track, at, row in zip(block.ids, best, weights, strict=True):
                if row[at] > 0:
                    yield track, table.names[at]


def artists_of(folder: Path, archive: Path) -> Iterator[tuple[str, str]]:
    """Yield (track id, artist), by the names of the files, of the folder or else of the archive."""
    found = 0
    where = folder if folder.is_dir() else archive
    for name, content in sorted(_from_folder(folder) if folder.is_dir() else _from_zip(archive)):
        try:
            about = json.loads(content)
            artist = _artist(about)
            tracks = [str(track) for track in about.get(IDS) or []]
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{where}, {name}: no json of an artist: {error}") from error
        for track in tracks if artist else []:
            found += 1
            yield track, artist
    if not found:
        raise InputError(
            f"{where} holds no {ARTISTS}/*.json with a name and '{IDS}'; unpack the archive so "
            f"that {folder} is that folder"
        )


def _artist(about: dict) -> str:
    """Return the artist's name, however deep the file holds it."""
    within = about.get("artist_info") or about
    within = within.get("artist") or within
    return within if isinstance(within, str) else str(within.get("name") or "")


def _from_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.glob("*.json"):
        yield path.name, path.read_bytes()


def _from_zip(archive) -> Iterator[tuple[str, bytes]]:
    """Yield the artists' files of an archive, also of archives within it."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            for name in zipped.namelist():
                if name.endswith(".zip"):
                    with zipped.open(name) as inner:
                        yield from _from_zip(inner)
                elif f"{ARTISTS}/" in name and name.endswith(".json"):
                    yield name, zipped.read(name)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{archive} is no zip archive, or damaged: {error}") from error
