"""A table of vectors as an embedding: rows by the order of trackid_sorted.csv.

    python import_embedding.py --root R --table R/downloads/id_maest.tsv.bz2 --name maest_onion
    python import_embedding.py --root R --table vectors.parquet --name clap --id-column track_id
    python import_embedding.py --root R --table vectors.npy --ids ids.txt --name mine
    python import_embedding.py --root R --table folder_of_npy --name mine --missing nan
    python import_embedding.py --root yambda --table embeddings.parquet --name audio \\
        --vector-column normalized_embed --missing nan

Reads   --table               .tsv or .csv with a header, plain or as .gz, .bz2, .zst; .parquet with
                              columns of numbers or a column of lists; .npy beside --ids; a folder
                              of TRACKID.npy; an id and numbers for each track, in any order
        trackid_sorted.csv    the tracks and their order
        data/train.pqt        where it is there: how many of its plays have a vector
Writes  embeddings/NAME.npy   float32 (n_tracks, width), NaN for tracks that the table lacks
        embeddings/NAME.json  the table's sha256 and licence, coverage, columns that say nothing;
                              written last

`--embedding NAME` then takes it like one that was extracted. Rows of other tracks are counted and
left out; a track that stands twice is an error unless both rows are equal. Memory does not grow
with the table (docs/open-data.md has the figures).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive, read_json, sha256, write_json
from core.downloads import read_download
from core.late import options_are_read
from core.names import check_new_embedding
from core.options import InputError, WorkError, option, outcome_options, refuse_special, run
from core.trackids import read_trackids

if options_are_read(__name__):
    import numpy as np
    from tqdm import tqdm

    from core.splits import read_split
    from listening_log.large_tables import thread_count
    from open_data.placement import Found, Matrix
    from open_data.vector_tables import open_table

SHOWN = 8  # names of columns that are printed
MOST_NAMED = 100_000  # tracks without a vector that the json names; its coverage counts all


@dataclass(frozen=True)
class ImportConfig:
    table: Path = option(help="the table of vectors, or a folder of TRACKID.npy", outcome=False)
    name: str = option(help="of the embedding: lower-case letters, digits and _")
    root: Path = option(Path("."), "folder of trackid_sorted.csv and embeddings/", outcome=False)
    id_column: str | None = option(
        None, "column of track ids; auto: id, track_id, trackid, item_id"
    )
    vector_column: str | None = option(None, "of a parquet file with several columns of lists")
    ids: Path | None = option(None, "of a .npy table: a file with a track id a line, or a .npy")
    missing: Literal["error", "nan"] = option(
        "error", "tracks that the table lacks: error, or rows of NaN", outcome=False
    )
    licence: str | None = option(None, "of the table; auto: as get_data.py recorded it")
    threads: int | None = option(None, "to unpack bz2; auto: one a core", outcome=False)
    overwrite: bool = option(False, "import a finished one again", outcome=False)


def main(config: ImportConfig) -> None:
    check_new_embedding(config.name)
    threads = thread_count(config.threads)
    ids = read_trackids(config.root)
    if config.ids:
        refuse_special(config.ids, f"--ids {config.ids}")
    if not config.table.exists():
        raise InputError(f"--table {config.table} is missing; get_data.py --list names open ones")
    folder = config.root / "embeddings"
    matrix = folder / f"{config.name}.npy"
    made_from = {
        "options": outcome_options(config),
        "source": source_of(config),
        "trackids_sha256": sha256(config.root / "trackid_sorted.csv"),
    }
    with exclusive(folder / f".{config.name}.lock", str(matrix)):
        if not config.overwrite and is_finished(matrix, made_from):
            print(f"{matrix} is finished; --overwrite imports it again")
            return
        started = time.perf_counter()
        with atomic_path(matrix) as temporary:
            found, names = place_all(config, ids, temporary, threads)
            width = len(found.low)
            lacking = int((~found.has).sum())
            if lacking and config.missing == "error":
                raise WorkError(
                    f"--table {config.table} lacks {lacking:,} of the {len(ids):,} tracks, for "
                    f"example '{ids[int((~found.has).argmax())]}'; --missing nan leaves their rows "
                    "NaN, and recommenders then take --missing mean"
                )
            matrix.with_suffix(".json").unlink(missing_ok=True)
        facts = describe(config, found, names, ids)
        write_json(
            matrix.with_suffix(".json"),
            {
                **{"embedding": config.name, "width": width, "n_tracks": len(ids)},
                **{**made_from, **facts, "sha256": sha256(matrix)},
                "seconds": round(time.perf_counter() - started, 1),
            },
        )
    report(config, found, facts, len(ids))


def source_of(config: ImportConfig) -> dict:
    """Return the table's name, its sha256 (of a folder: of all files) and its licence.

    Raises:
        InputError: get_data.py fetched it, and it is another file now.
    """
    told = {}
    if config.table.is_dir():
        digest = sha256(*sorted(config.table.glob("*.npy")))
    else:
        digest = sha256(config.table)
        told = read_download(config.table, digest)
        digest = sha256(config.table, config.ids) if config.ids else digest
    licence = told.get("licence") if config.licence is None else config.licence
    return {"file": config.table.name, "sha256": digest, "licence": licence or "unknown"}


def is_finished(matrix: Path, made_from: dict) -> bool:
    """Say whether the embedding is there; one of another table is an InputError."""
    record = matrix.with_suffix(".json")
    if not (record.exists() and matrix.exists()):
        return False
    made = read_json(record, "python import_embedding.py --overwrite", (*made_from, "sha256"))
    words = {"source": "--table", "trackids_sha256": "trackid_sorted.csv"}
    changed = [words.get(n, n) for n, value in made_from.items() if made.get(n) != value]
    if made.get("sha256") != sha256(matrix):
        changed.append("the matrix itself")
    if changed:
        raise InputError(
            f"{matrix} is finished, but other than now were: {', '.join(changed)}; choose another "
            "--name, or --overwrite"
        )
    return True


def place_all(
    config: ImportConfig, ids: list[str], target: Path, threads: int
) -> tuple[Found, list[str]]:
    """Write the matrix; return what was found, and the names of the columns, if they have any."""
    with open_table(
        config.table, config.id_column, config.vector_column, config.ids, threads
    ) as table:
        matrix = Matrix(target, ids, config.table, table.where)
        try:
            with tqdm(total=table.size, unit="B", unit_scale=True, disable=None) as bar:
                for block in table.blocks():
                    matrix.place(block)
                    bar.update(table.position - bar.n)
            matrix.finish()
        finally:
            matrix.close()
        return matrix.found, list(table.names)


def describe(config: ImportConfig, found: Found, names: list[str], ids: list[str]) -> dict:
    """Return rows, coverage and the columns that say nothing, for the json."""
    zero, same, never = (
        [names[at] if names else str(at) for at in places] for places in found.constant()
    )
    train = config.root / "data" / "train.pqt"
    share = None
    if train.exists():
        pairs = read_split(config.root)["train"]
        plays = np.bincount(pairs["track_idx"], weights=pairs["count"], minlength=len(ids))
        share = float(plays[found.has].sum() / plays.sum())
    return {
        "rows": found.rows,
        "rows_of_unknown_tracks": found.unknown,
        "rows_repeated": found.repeated,
        "rows_with_missing_values": found.incomplete,
        "rows_of_zeros": found.zeros,
        "coverage": {
            "tracks": int(found.has.sum()),
            "share_of_tracks": float(found.has.mean()),
            "share_of_train_plays": share,
        },
        "failed": {
            ids[at]: "the table has no row of it"
            for at in np.flatnonzero(~found.has)[:MOST_NAMED].tolist()
        },
        "columns": names,
        "columns_of_zeros": zero,
        "columns_of_one_number": same,
        "columns_without_numbers": never,
    }


def report(config: ImportConfig, found: Found, facts: dict, n_tracks: int) -> None:
    """Print what was read, what it covers, and what a user should look at."""
    covered = facts["coverage"]
    share = covered["share_of_train_plays"]
    plays = "no split yet" if share is None else f"{share:.2%} of the plays of train"
    print(f"rows     {found.rows:>12,}   {found.unknown:,} of unknown tracks, left out")
    print(f"tracks   {covered['tracks']:>12,} of {n_tracks:,} have a vector; {plays}")
    print(f"width    {len(found.low):>12,}")
    for count, what in (
        (found.repeated, "rows stand again, with equal numbers"),
        (found.incomplete, "rows lack some values: recommenders call them missing"),
        (found.zeros, "rows hold only zeros: recommenders call them missing"),
    ):
        if count:
            print(f"note     {count:>12,} {what}")
    for key, what in (
        ("columns_of_zeros", "are always zero"),
        ("columns_of_one_number", "are always the same number"),
        ("columns_without_numbers", "have no number at all"),
    ):
        if facts[key]:
            some = ", ".join(facts[key][:SHOWN]) + (", ..." if len(facts[key]) > SHOWN else "")
            print(f"note     {len(facts[key]):>12,} columns {what}: {some}")


if __name__ == "__main__":
    run(main, ImportConfig, __doc__)
