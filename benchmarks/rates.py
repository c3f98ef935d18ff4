"""Seconds a track and seconds a pair, for the estimates of --dry-run: study/rates.csv.

    python -m benchmarks.rates --root sample --where "two cores, the sample"

Reads   ROOT/embeddings/*.json, ROOT/runs/*/metrics.json, ROOT/data/train.pqt of a finished study
Writes  study/rates.csv: what (recommender or embedding), unit, seconds, where

A row that is there already is replaced, others stay: so several roots, and several machines, come
together in one table. A pair is a user and a track of train; a run's seconds include its lists.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from core.artifacts import atomic_path
from core.options import InputError, option, run
from study.forecast import RATES, rates_of


@dataclass(frozen=True, kw_only=True)
class RatesConfig:
    root: Path = option(Path("sample"), "folder of a finished study")
    where: str = option(help="machine and data, for whoever reads the table")
    out: Path = option(RATES, "the table")


def main(config: RatesConfig) -> None:
    found = rates_of(config.root)
    if not found:
        raise InputError(f"{config.root} has no finished embedding and no run; finish one first")
    rows = {}
    if config.out.exists():
        with open(config.out, encoding="utf-8", newline="") as file:
            rows = {row["what"]: row for row in csv.DictReader(file)}
    for what, (unit, seconds) in found.items():
        rows[what] = {
            "what": what,
            "unit": unit,
            "seconds": f"{seconds:.3g}",
            "where": config.where,
        }
    with atomic_path(config.out) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, ["what", "unit", "seconds", "where"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[what] for what in sorted(rows))
    print(f"{config.out}: {len(found)} rates of {config.root}, {len(rows)} in all")


if __name__ == "__main__":
    run(main, RatesConfig, __doc__)
