"""Time stage 0 on one made-up log in several shapes: what another shape costs a row.

    python -m benchmarks.bench_shapes                       # 4 million rows
    python -m benchmarks.bench_shapes --rows 20000000

The same plays as Onion's text, as a parquet file of Yambda's columns, as csv with seconds since
1970 and text users, and as Last.fm-1K's lines. Each is read by a process of its own, in turn; the
fastest of --repeats counts. Prints seconds, processor seconds and peak resident memory; the last
line is one json object: rows, and for each shape its processor seconds a row relative to Onion's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.bench_stages import measure
from benchmarks.make_log import make_plays
from core.options import option, run

OWN = ("--columns", "user=who,track=song,time=at", "--users", "text")
COMMANDS = {
    "onion": ("log.tsv",),
    "yambda": ("log.parquet", "--preset", "yambda"),
    "csv": ("log.csv", *OWN),
    "lastfm1k": ("lines.tsv", "--preset", "lastfm1k"),
}


@dataclass(frozen=True)
class ShapesConfig:
    rows: int = option(4_000_000, "rows of the made-up log")
    seed: int = option(0, "of the made-up log")
    repeats: int = option(2, "runs of each; the fastest counts")
    folder: Path | None = option(None, "where to work; auto: the system's temporary folder")


def main(config: ShapesConfig) -> None:
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        folder = Path(name)
        write_shapes(folder, make_plays(config.rows, config.seed, "2005-02-14"))
        best: dict[str, tuple[float, float, float]] = {}
        for _ in range(config.repeats):
            for shape, (log, *flags) in COMMANDS.items():
                root = folder / shape
                command = ["0_get_plays_pqt.py", "--root", root, "--log", folder / log, *flags]
                found = measure([*command, "--overwrite"])
                best[shape] = min(found, best.get(shape, found), key=lambda one: one[1])
    result: dict = {"rows": config.rows}
    for shape, (seconds, processor, peak) in best.items():
        print(f"{shape:<10}{seconds:>9.2f} s {processor:>9.2f} s of a processor {peak:>7,.0f} MB")
        result[shape] = round(processor / best["onion"][1], 2)
    print(json.dumps(result))


def write_shapes(folder: Path, tables: Iterator[pa.Table]) -> None:
    """Write the plays as every file of COMMANDS; tracks of the parquet file are numbers."""
    numbers: dict[str, int] = {}
    tab = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    writers: dict = {}
    for table in tables:
        users, tracks, written = (column.combine_chunks() for column in table.columns)
        for track in pc.unique(tracks).to_pylist():
            numbers.setdefault(track, len(numbers))
        seconds = written.cast(pa.timestamp("s")).cast(pa.int64())
        coded = tracks.dictionary_encode()
        item = pa.array([numbers[t] for t in coded.dictionary.to_pylist()], pa.uint32())
        start = 1_108_339_200  # 2005-02-14
        yambda = {
            "uid": users.cast(pa.uint32()),
            "item_id": item.take(coded.indices),
            "timestamp": pc.subtract(seconds, start).cast(pa.uint32()),
            "played_ratio_pct": pa.repeat(pa.scalar(80, pa.uint16()), len(users)),
        }
        who = pc.binary_join_element_wise("user_", users.cast(pa.string()), "")
        own = {"who": who, "song": tracks, "at": seconds}
        at = pc.binary_join_element_wise(pc.replace_substring(written, " ", "T"), "Z", "")
        artist = pa.repeat("An Artist of the Time", len(users))
        mbid = pa.repeat("0383dadf-2a4e-4d10-a46a-e9e041da8eb3", len(users))
        lines = [who, at, mbid, artist, tracks, pa.repeat("A title", len(users))]
        lines = pa.table(lines, [str(place) for place in range(6)])
        if not writers:
            log = pa.OSFile(str(folder / "log.tsv"), "wb")
            log.write(b"user_id\ttrack_id\ttimestamp\n")  # Arrow would put it between quotes
            writers = {
                "log.tsv": pyarrow.csv.CSVWriter(log, table.schema, write_options=tab),
                "log.parquet": pq.ParquetWriter(folder / "log.parquet", pa.table(yambda).schema),
                "log.csv": pyarrow.csv.CSVWriter(folder / "log.csv", pa.table(own).schema),
                "lines.tsv": pyarrow.csv.CSVWriter(
                    folder / "lines.tsv", lines.schema, write_options=tab
                ),
            }
        contents = (table, pa.table(yambda), pa.table(own), lines)
        for writer, content in zip(writers.values(), contents, strict=True):
            writer.write_table(content)
    for writer in writers.values():
        writer.close()
    log.close()


if __name__ == "__main__":
    run(main, ShapesConfig, __doc__)
