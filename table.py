"""Merge the runs into the study's table: embeddings down, recommenders across.

    python table.py --root sample
    python table.py --root sample --runs 'bert4rec-*'

Reads   runs/*/{metrics.json,config.yaml,per_user_test.pqt}
Writes  tables/results.csv, tables/results.md   a row for each recommender and embedding: width,
                                                seeds, mean and 95 % interval of each metric
        tables/RECOMMENDER.csv                  the same for one recommender

Runs of several seeds are averaged for each user first; the interval is over users (t, 95 %).
Numbers are of the test users.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from artifacts import atomic_path, read_json, read_record
from config import InputError, option, run
from metrics import mean_and_interval

LABELS = {"knn": "KNN", "shallow": "Shallow Net", "bert4rec": "BERT4Rec"}
CONTROLS = {"popular": "most popular tracks", "random_lists": "random lists (chance)"}
RECORDED = ("options", "split", "embedding_hash", "changed")  # what a run's config.yaml must hold
UNTRAINED = ("noise", "random")  # below the audio representations in every table


@dataclass(frozen=True)
class TableConfig:
    root: Path = option(Path("."), "folder of all that is read and written")
    runs: str = option("*", "which folders under ROOT/runs, as a glob")


def main(config: TableConfig) -> None:
    runs = read_runs(config.root, config.runs)
    table = summarize_runs(runs)
    folder = config.root / "tables"
    _write_csv(table, folder / "results.csv")
    for recommender, part in table.groupby("recommender"):
        _write_csv(part, folder / f"{recommender}.csv")
    page = render(table, runs)
    with atomic_path(folder / "results.md") as temporary:
        temporary.write_text(page + "\n" + full_table(table), encoding="utf-8")
    print(page)
    print(f"{folder / 'results.md'}, {folder / 'results.csv'}: {len(runs)} runs")


def read_runs(root: Path, glob: str) -> list[dict]:
    """Return what is known of every finished run, and refuse to mix splits.

    Raises:
        InputError: no finished run matches, two runs were made from different splits, or two
            seeds of one recommender and embedding from different options or vectors.
    """
    pattern = glob.removeprefix("runs/").strip("/") or "*"
    finished = sorted((root / "runs").glob(f"{pattern}/metrics.json"))
    if not finished:
        raise InputError(f"no finished run matches {root / 'runs' / glob}; train one first")
    runs = []
    for path in finished:
        known = read_record(path.parent / "config.yaml", RECORDED, "make it again with --overwrite")
        per_user = pd.read_parquet(path.parent / "per_user_test.pqt").set_index("user_id")
        results = read_json(path, "the command of this run")
        runs.append({**known, **results, "folder": path.parent.name, "per_user": per_user})
    for each in runs:
        _refuse_to_mix(runs[0], each, ("split",))
        first = next(r for r in runs if _row(r) == _row(each))
        _refuse_to_mix(first, each, ("embedding_hash", "options"))
    return runs


def _row(run: dict) -> tuple:
    """Return what stands in one row of the table: a recommender, an embedding and a tag."""
    return run["recommender"], run["embedding"], run["tag"] or ""


def _refuse_to_mix(one: dict, other: dict, what: tuple[str, ...]) -> None:
    made_from = [{**run, "options": {**run["options"], "seed": None}} for run in (one, other)]
    for key in what:
        if made_from[0][key] != made_from[1][key]:
            name = {"split": "splits", "embedding_hash": "embeddings"}.get(key, key)
            raise InputError(
                f"{one['folder']} and {other['folder']} were made from different {name}; choose "
                "with --runs, or make the older ones again with --overwrite"
            )


def summarize_runs(runs: list[dict]) -> pd.DataFrame:
    """Return a row for each recommender, embedding and tag, audio representations first."""
    groups: dict[tuple, list[dict]] = {}
    for each in runs:
        groups.setdefault(_row(each), []).append(each)
    rows = []
    for (recommender, embedding, tag), members in groups.items():
        row = {
            "recommender": recommender,
            "embedding": embedding,
            "tag": tag,
            "width": members[0].get("width", 0),
            "seeds": len(members),
            "users": len(members[0]["per_user"]),
        }
        shared = [c for c in members[0]["per_user"] if all(c in m["per_user"] for m in members)]
        mean = sum(m["per_user"][shared] for m in members) / len(members)
        for name in shared:
            row[name], row[f"{name}_ci95"] = mean_and_interval(mean[name].to_numpy())
        rows.append(row)
    order = [*LABELS, *CONTROLS]
    table = pd.DataFrame(rows)
    place = table.recommender.map(lambda r: order.index(r) if r in order else len(order))
    table = table.assign(place=place, untrained=table.embedding.isin(UNTRAINED))
    table = table.sort_values(["place", "recommender", "untrained", "embedding", "tag"])
    return table.drop(columns=["place", "untrained"]).reset_index(drop=True)


def render(table: pd.DataFrame, runs: list[dict]) -> str:
    """Return the page people look at: one grid a metric, the controls, what was not default."""
    parts = []
    for metric in ("HitRate@50", "NDCG@50"):
        if metric in table:
            parts += [f"{metric} on the test users, mean ± 95 % interval:", "", grid(table, metric)]
    return "\n".join(parts + notes(table, runs))


def grid(table: pd.DataFrame, metric: str) -> str:
    """Return a markdown grid: embeddings down, recommenders across, controls below."""
    models = table[~table.recommender.isin(CONTROLS)]
    recommenders = list(dict.fromkeys(models.recommender))
    lines = [["", "width", *(LABELS.get(r, r) for r in recommenders)]]
    keys = models[["embedding", "tag"]].drop_duplicates().itertuples(index=False)
    for key in sorted(keys, key=lambda k: (k.embedding in UNTRAINED, k.embedding, k.tag)):
        rows = models[(models.embedding == key.embedding) & (models.tag == key.tag)]
        cells = {row["recommender"]: _cell(row, metric) for _, row in rows.iterrows()}
        label = f"{key.embedding} ({key.tag})" if key.tag else key.embedding
        width = str(rows.width.iloc[0])
        lines.append([label, width, *(cells.get(r, "-") for r in recommenders)])
    parts = [_markdown(lines)] if len(models) else []
    controls = table[table.recommender.isin(CONTROLS)]
    parts += [f"{CONTROLS[r['recommender']]}: {_cell(r, metric)}" for _, r in controls.iterrows()]
    return "\n\n".join(parts) + "\n"  # a line without a gap would be a row of the grid


def notes(table: pd.DataFrame, runs: list[dict]) -> list[str]:
    """Return what a reader must know of the numbers: users, seeds, options that were changed."""
    users, seeds = sorted(set(table.users)), sorted(set(table.seeds))
    lines = [f"Test users: {', '.join(f'{n:,}' for n in users)}. Seeds: {_span(seeds)}."]
    said = {}
    for each in runs:
        changed = ", ".join(f"{k}={v}" for k, v in each["changed"].items() if k != "embedding")
        source = each.get("options_file")
        if changed:
            tag = f" ({each['tag']})" if each["tag"] else ""
            name = LABELS.get(each["recommender"], each["recommender"]) + tag
            said[f"{name}: {changed}" + (f", options from {source}" if source else "")] = None
    if said:
        lines += ["Not the study's defaults:", *(f"- {line}" for line in said)]
    return [*lines, ""]


def full_table(table: pd.DataFrame) -> str:
    """Return every metric of every row as a markdown grid."""
    metrics = [c for c in table if "@" in c and not c.endswith("_ci95")]
    lines = [["recommender", "embedding", "tag", "width", "seeds", *metrics]]
    for _, row in table.iterrows():
        head = [str(row[c]) for c in ("recommender", "embedding", "tag", "width", "seeds")]
        lines.append(head + [_cell(row, metric) for metric in metrics])
    return _markdown(lines) + "\n"


def _span(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _cell(row: pd.Series, metric: str) -> str:
    return f"{row[metric]:.3f} ± {row[f'{metric}_ci95']:.3f}"


def _markdown(lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = (
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        text.append("| " + " | ".join(cells) + " |")
    rule = "|" + "|".join(
        "-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)
    )
    return "\n".join([text[0], rule + "|", *text[1:]])


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f")


if __name__ == "__main__":
    run(main, TableConfig, __doc__)
