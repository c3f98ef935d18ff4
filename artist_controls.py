"""Is it the sound, or just who plays? Embeddings in which only the artist is left, or mixed.

    python artist_controls.py --root R --embedding mert --artists R/downloads/id_information.csv

Reads   embeddings/NAME.npy, trackid_sorted.csv, data/train.pqt, the table of artists
Writes  embeddings/NAME_artist_mean.npy      each track is the mean of its artist's tracks of train;
                                             that of all tracks of train where it is the only one
        embeddings/NAME_artist_shuffle.npy   the tracks of an artist have each other's rows

and a json beside each. Recommenders take them as any embedding, and the table compares them with
NAME: what NAME gains over NAME_artist_mean is what the sound says beyond the artist, and what it
gains over NAME_artist_shuffle, what it says of one track of an artist rather than another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

from core.artifacts import exclusive, sha256, write_json, write_npy
from core.late import options_are_read
from core.names import WITHOUT_FILE, check_name
from core.options import InputError, at_least, option, run

if options_are_read(__name__):
    import numpy as np

    from core.splits import read_trackids
    from evaluation.artists import read_artists
    from recommenders.artist_vectors import artist_means, exchanged
    from recommenders.embedding_files import read_matrix
    from recommenders.interactions import load_split
    from recommenders.vectors import BESIDE, load_item_vectors


@dataclass(frozen=True)
class ArtistConfig:
    embedding: str = option(help="name of ROOT/embeddings/NAME.npy")
    artists: Path = option(help="id_information.csv, or json {track: artist}")
    root: Path = option(Path("."), "folder of all that is read and written")
    seed: int = option(1, "decides who gets whose row")

    def __post_init__(self):
        at_least(self, seed=0)


def main(config: ArtistConfig) -> None:
    split = load_split(config.root)
    artist_of = read_artists(config.artists, read_trackids(config.root))
    if config.embedding in WITHOUT_FILE or BESIDE in config.embedding:
        raise InputError(f"--embedding {config.embedding} is no file; name one of ROOT/embeddings")
    controls = ("artist_mean", "artist_shuffle")
    stems = {n: check_name("embedding", f"{config.embedding}_{n}") for n in controls}
    source = read_matrix(config.root, config.embedding)
    same = {"missing": "mean", "fingerprint": source.sha256}
    vectors = load_item_vectors(config.root, config.embedding, split, **same)
    own = artist_of[split.track_idx]
    for name, rows in (
        ("artist_mean", artist_means(vectors, own)),
        ("artist_shuffle", exchanged(vectors, own, config.seed)),
    ):
        matrix = source.vectors.astype(np.float32)
        matrix[split.track_idx] = rows
        stem = stems[name]
        path = config.root / "embeddings" / f"{stem}.npy"
        with exclusive(path.with_name(f".{stem}.lock"), str(path)):
            path.with_suffix(".json").unlink(missing_ok=True)  # it tells of the matrix before
            write_npy(path, matrix)
            facts = {
                "name": stem,
                "made_from": source.sha256,
                "artists": sha256(config.artists),
                "seed": config.seed,
                "trackids_sha256": sha256(config.root / "trackid_sorted.csv"),
                "sha256": sha256(path),
            }
            write_json(path.with_suffix(".json"), facts)
        print(f"{path}: {matrix.shape[0]:,} rows of {matrix.shape[1]:,} numbers")


if __name__ == "__main__":
    run(main, ArtistConfig, __doc__)
