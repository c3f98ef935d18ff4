"""Merge the runs into the study's tables, and say which differences are real.

    python table.py --root sample
    python table.py --root sample --runs 'bert4rec-*'
    python table.py --root sample --layout journal   # the extended study, hot and cold

Reads   runs/*/{metrics.json,config.yaml,per_user_test.pqt,segments_test.pqt}, sample.json,
        data/split.json
Writes  tables/results.csv               a row for each recommender, embedding and tag: width,
                                         seeds, mean, 95 % interval, spread of seeds of each metric
        tables/RECOMMENDER.csv           the same for one recommender
        tables/results.md, results.tex   for people and for papers
        tables/compare_published.md      ours beside the published numbers, the data of both named
        tables/journal_{hot,cold}.{csv,md,tex}    with --layout journal, in that study's order
        tables/{comparisons,groups,shuffled,beyond,segments,crossings,chance,cold,published}.csv
                                         evaluation/tables.py names their columns

Runs of several seeds are averaged for each user first; the interval is over users (t, 95 %), the
spread of seeds is reported apart. Numbers are of the test users, over full rankings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive
from core.late import options_are_read
from core.options import InputError, at_least, option, run
from core.registry import label

if options_are_read(__name__):
    import pandas as pd

    from core.splits import split_hash
    from evaluation import grids, journal
    from evaluation.comparisons import against_shuffled, compare, groups
    from evaluation.finished import made_of, refuse_other_split
    from evaluation.measures import HEADLINE, METRICS
    from evaluation.published import beside_published, compare_page, describe_data
    from evaluation.results import (
        average_seeds,
        chance_levels,
        find_crossings,
        finished_runs,
        read_runs,
        summarize_lists,
        summarize_rows,
        summarize_segments,
        unfinished_runs,
    )
    from evaluation.tables import LOCK, metric_names, remove_tables, seal_tables, stated_k
    from evaluation.words import certainty, leading, warm_up


MOST_RESAMPLES = 10_000_000  # whose draws take gigabytes


@dataclass(frozen=True)
class TableConfig:
    root: Path = option(Path("."), "folder of all that is read and written")
    runs: str = option("*", "which folders under ROOT/runs, as a glob")
    layout: Literal["study", "journal"] = option(
        "study", "journal: the tables of the extended study as well, and its numbers beside ours"
    )
    resamples: int = option(10_000, "of the bootstrap; the permutation test makes at least as many")
    seed: int = option(0, "of bootstrap and permutation test")

    def __post_init__(self):
        at_least(self, resamples=100, seed=0)
        if self.resamples > MOST_RESAMPLES:
            raise InputError(
                f"--resamples must be at most {MOST_RESAMPLES:,}, got {self.resamples:,}"
            )


def main(config: TableConfig) -> None:
    finished_runs(config.root, config.runs)  # refuses before there is a folder
    folder = config.root / "tables"
    with exclusive(folder / LOCK, str(folder)):
        write_tables(config, folder)


def write_tables(config: TableConfig, folder: Path) -> None:
    """Write every file of the module docstring, the seal of all last, and print the page."""
    runs = read_runs(config.root, config.runs)
    of = describe_data(config.root)[0]
    if (config.root / "data" / "train.pqt").exists():  # the page names what the data are
        refuse_other_split(config.root, runs, split_hash(config.root))
    tables = make_tables(runs, config.resamples, config.seed)
    remove_tables(folder)
    for recommender, part in tables["results"].groupby("recommender"):
        _write_csv(part, folder / f"{recommender}.csv")
    for name, table in reversed(tables.items()):  # results.csv, without which nothing is read, last
        if len(table) or name in ("results", "comparisons", "groups", "shuffled"):
            _write_csv(table, folder / f"{name}.csv")
    page = render(tables, runs, config.root)
    _write(folder / "results.md", page + "\n" + full_table(tables["results"]))
    caption = f"on the test users of {of}, mean and 95 % interval. {_seeds(tables['results'])}"
    _write(folder / "results.tex", grids.tex(tables, shown(tables["results"]), caption))
    if config.layout == "journal":
        page = write_journal(tables, runs, config.root)
    else:
        _write(folder / "compare_published.md", compare_page(tables["published"], config.root))
    seal_tables(folder, {run["folder"]: made_of(run) for run in runs})
    print(page)
    for name in unfinished_runs(config.root, config.runs):
        print(f"left out: runs/{name} is not finished; its own command goes on")
    print(f"{folder / 'results.md'}, {folder / 'results.csv'}: {len(runs)} runs")


def make_tables(runs: list[dict], resamples: int = 10_000, seed: int = 0) -> dict:
    """Return every table that evaluation.tables describes, as frames, from read_runs' runs."""
    rows = average_seeds(runs)
    tables = {"results": summarize_rows(rows)}
    k = stated_k(tables["results"])
    metrics = [f"{name}@{k}" for name in METRICS if f"{name}@{k}" in tables["results"]]
    tables["comparisons"] = compare(rows, metrics, resamples=resamples, seed=seed)
    others = [name for name in metric_names(tables["results"]) if name not in metrics]
    more = compare(rows, others, resamples=resamples, seed=seed, letters_alone=True)
    tables["groups"] = groups(pd.concat([tables["comparisons"], more]))
    tables["shuffled"] = against_shuffled(rows, metrics, resamples=resamples, seed=seed)
    tables["beyond"] = summarize_lists(rows)
    tables["segments"], curves = summarize_segments(rows, f"NDCG@{k}")
    tables["crossings"] = find_crossings(curves, f"NDCG@{k}")
    tables["chance"] = chance_levels(runs)
    cold = average_seeds(runs, "per_user_cold.pqt")
    tables["cold"] = summarize_rows(cold)
    tables["cold_chance"] = chance_levels(runs, "cold")
    found = [name for name in metrics if name in tables["cold"]]
    tables["cold_shuffled"] = against_shuffled(cold, found, resamples=resamples, seed=seed)
    tables["published"] = beside_published(tables["results"])
    return tables


def write_journal(tables: dict, runs: list[dict], root: Path) -> str:
    """Write the extended study's tables and the page beside its numbers; return the tables."""
    folder, pages, ours = root / "tables", [], {}
    data, same = describe_data(root, journal.read_journal())
    for part, prefix in (("hot", ""), ("cold", "cold_")):
        results = tables[{"hot": "results", "cold": "cold"}[part]]
        if not len(results):
            continue
        pretrained = [run for run in runs if part == "cold" and "cold_vectors" in run]
        pretrained = {(r["recommender"], r["embedding"], r["tag"] or "") for r in pretrained}
        own = journal.journal_table(part, results, tables[f"{prefix}shuffled"], pretrained)
        exact = tables[f"{prefix}chance"]
        exact = dict(zip(exact.metric, exact.chance, strict=True))
        pages.append(journal.in_markdown(own, part, exact))
        _write_csv(own, folder / f"journal_{part}.csv")
        _write(folder / f"journal_{part}.md", f"Data: {data}.\n\n{pages[-1]}")
        _write(folder / f"journal_{part}.tex", journal.in_tex(own, part, exact, f"of {data}."))
        ours[part] = own
    _write(folder / "compare_published.md", journal.compare_page(ours, data, same))
    return "\n".join(pages)


def shown(table: pd.DataFrame) -> list[str]:
    names = [f"{name}@{stated_k(table)}" for name in HEADLINE]
    return [name for name in names if name in table]


def render(tables: dict, runs: list[dict], root: Path) -> str:
    """Return the page people look at: a grid a metric, the controls, what was not default."""
    parts = []
    for metric in shown(tables["results"]):
        parts += [f"{metric} on the test users, mean ± 95 % interval:", ""]
        lines = grids.grid(tables, metric, grids.in_markdown, " ± ")
        if len(lines) > 1:
            parts += [grids.markdown(lines), ""]
        # A line without a gap would be a row of the grid.
        for line in grids.controls(tables["results"], tables["chance"], metric):
            parts += [line, ""]
    return "\n".join(parts + notes(tables, runs, root))


def notes(tables: dict, runs: list[dict], root: Path) -> list[str]:
    """Return what a reader must know of the numbers: data, marks, options that were changed."""
    table = tables["results"]
    users = sorted(set(table.users))
    lines = [
        f"Data: {describe_data(root)[0]}.",
        f"Test users: {', '.join(f'{n:,}' for n in users)}. {_seeds(table)}",
    ]
    if len(tables["groups"]):
        lines += certainty(tables["comparisons"], shown(table))
    lines += [warm_up(row) for row in leading(tables["crossings"], table)]
    if len(tables["shuffled"]):
        lines += ["† does not beat the same recommender on its own rows shuffled."]
    said = {}
    for each in runs:
        changed = ", ".join(f"{k}={v}" for k, v in each["changed"].items() if k != "embedding")
        source = each.get("options_file")
        if changed:
            tag = f" ({each['tag']})" if each["tag"] else ""
            name = label(each["recommender"]) + tag
            said[f"{name}: {changed}" + (f", options from {source}" if source else "")] = None
    if said:
        lines += ["Not the study's defaults:", *(f"- {line}" for line in said)]
    return [*lines, ""]


def full_table(table: pd.DataFrame) -> str:
    """Return every metric of every row as a markdown grid."""
    metrics = metric_names(table)
    lines = [["recommender", "embedding", "tag", "width", "seeds", *metrics]]
    for _, row in table.iterrows():
        head = [str(row[c]) for c in ("recommender", "embedding", "tag", "width", "seeds")]
        lines.append(head + [grids.number(row, metric, " ± ") for metric in metrics])
    return grids.markdown(lines) + "\n"


def _seeds(table: pd.DataFrame) -> str:
    """Return how many seeds a row has; rows that have fewer than the others are named."""
    most = int(table.seeds.max())
    fewer = [
        f"{label(row.recommender)} {row.embedding}{f' ({row.tag})' if row.tag else ''}: {row.seeds}"
        for row in table.itertuples()
        if row.seeds < most
    ]
    return f"Seeds a row: {most}" + (f", but {', '.join(fewer)}." if fewer else ".")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main, TableConfig, __doc__)
