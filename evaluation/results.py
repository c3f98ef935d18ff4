"""The finished runs under a root as rows: each user's seeds averaged, and what tables tell of them.

What is written of them: tables.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.cores import by_parts
from core.names import WITHOUT_FILE, is_shuffled
from core.options import InputError
from core.registry import CONTROLS, is_chance, place
from evaluation import artists, warmup
from evaluation.beyond import GROUPS, STATISTICS
from evaluation.finished import COMPLETE, has_table, read_finished, read_table
from evaluation.measures import mean_and_interval, means_and_intervals
from evaluation.tables import KEYS

SEGMENTS = "segments_test.pqt"
SEGMENT_GROUPS = {  # in the order of the table
    **dict.fromkeys(("activity", "popularity"), GROUPS),
    warmup.PLAYS: warmup.names(),
    artists.ARTIST: artists.GROUPS,
}


@dataclass(frozen=True)
class Row:
    """The runs of a recommender, an embedding and a tag, one for each seed, averaged for each user.

    Attributes:
        users: user_id, ascending.
        metrics: names of the columns of values.
        values: float64 (n_users, n_metrics), the mean over seeds.
        seed_means: float64 (n_seeds, n_metrics), each seed's mean over users.
        runs: as read_runs returns them.
        by_seed: float64 (n_seeds, n_users, n_metrics), each seed's values.
    """

    recommender: str
    embedding: str
    tag: str
    users: np.ndarray
    metrics: tuple[str, ...]
    values: np.ndarray
    seed_means: np.ndarray
    runs: list[dict]
    by_seed: np.ndarray

    @property
    def keys(self) -> dict:
        return {name: getattr(self, name) for name in KEYS}

    def column(self, metric: str) -> np.ndarray:
        """Return the metric of every user, float64 (n_users,)."""
        return self.values[:, self.metrics.index(metric)]

    def seeds_of(self, metric: str) -> np.ndarray:
        """Return the metric of every user under each seed, float64 (n_seeds, n_users)."""
        return self.by_seed[:, :, self.metrics.index(metric)]


def read_runs(root: Path, pattern: str = "*") -> list[dict]:
    """Return what is known of every finished run, by folder name; refuse to mix splits.

    Returns:
        dicts with the keys of config.yaml and metrics.json (recommender, embedding, tag, seed,
        options, changed, versions, commit, device, width, seconds, val, test, lists, ...), `path`
        and `folder` (its name).

    Raises:
        InputError: no finished run matches, a pattern that is none, two runs of different splits,
            or two seeds of one recommender and embedding from different options or vectors.
    """
    runs = []
    for path in finished_runs(root, pattern):
        runs.append({**read_finished(path.parent), "folder": path.parent.name, "path": path.parent})
    firsts: dict[tuple, dict] = {}
    for each in runs:
        _refuse_to_mix(runs[0], each, ("split",))
        _refuse_to_mix(firsts.setdefault(_key(each), each), each, ("embedding_hash", "options"))
    return runs


def finished_runs(root: Path, pattern: str = "*") -> list[Path]:
    """Return the metrics.json of every finished run that matches, by folder name.

    Raises:
        InputError: none does, or the pattern is none.
    """
    inner = pattern.removeprefix("runs/").strip("/") or "*"
    try:
        finished = sorted((root / "runs").glob(f"{inner}/metrics.json"))
    except (ValueError, NotImplementedError) as error:
        raise InputError(
            f"--runs takes a pattern such as 'bert4rec-*', got '{pattern}' ({error})"
        ) from error
    if not finished:
        raise InputError(f"no finished run matches {root / 'runs' / pattern}; train one first")
    return finished


def unfinished_runs(root: Path, pattern: str = "*") -> list[str]:
    """Return the names of runs that were begun and are not finished, which no table holds."""
    inner = pattern.removeprefix("runs/").strip("/") or "*"
    begun = (path.parent for path in (root / "runs").glob(f"{inner}/config.yaml"))
    return sorted(folder.name for folder in begun if not (folder / COMPLETE).exists())


def _key(run: dict) -> tuple:
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


def average_seeds(runs: list[dict], file: str = "per_user_test.pqt") -> list[Row]:
    """Return the rows of the table, in its order: recommenders, audio first, controls last.

    Args:
        runs: as read_runs returns them; those without the file are left out.
        file: of a run's folder; user_id and a column a metric.

    Raises:
        InputError: a file cannot be read, or runs that say they are of one split have other users.
    """
    members: dict[tuple, list[dict]] = {}
    for each in runs:
        if has_table(each["path"], file, each):
            members.setdefault(_key(each), []).append(each)
    keys = sorted(members, key=_place)
    all_runs = [run for key in keys for run in members[key]]
    parts = by_parts(lambda of: [_read_per_user(run, file) for run in all_runs[of]], len(all_runs))
    read = iter([table for part in parts for table in part])
    rows, users = [], None
    for key in keys:
        tables = [next(read) for _ in members[key]]
        users = tables[0].index if users is None else users
        for run, table in zip(members[key], tables, strict=True):
            if not table.index.equals(users):
                raise InputError(
                    f"{run['path'] / file} is of other users than the other runs of this split; "
                    f"run python metrics.py --run {run['folder']}"
                )
        metrics = tuple(c for c in tables[0] if all(c in table for table in tables))
        stack = np.stack([table[list(metrics)].to_numpy(np.float64) for table in tables])
        rows.append(
            Row(*key, users.to_numpy(), metrics, stack.mean(0), stack.mean(1), members[key], stack)
        )
    return rows


def _place(key: tuple) -> tuple:
    recommender, embedding, tag = key
    return place(recommender), recommender, embedding in WITHOUT_FILE, embedding, tag


def _read_per_user(run: dict, file: str) -> pd.DataFrame:
    table = read_table(run["path"], file, run, _remedy(run))
    if "user_id" not in table:
        raise InputError(f"{run['path'] / file} lacks the column user_id; {_remedy(run)}")
    return table.set_index("user_id").sort_index()


def _remedy(run: dict) -> str:
    return f"run python metrics.py --run {run['folder']}"


def summarize_rows(rows: list[Row]) -> pd.DataFrame:
    """Return results.csv: for every metric the mean, the users' interval and the seeds' spread."""
    lines = []
    for row in rows:
        line = {
            **row.keys,
            "width": row.runs[0].get("width", 0),
            "seeds": len(row.runs),
            "users": len(row.users),
        }
        for column, name in enumerate(row.metrics):
            line[name], line[f"{name}_ci95"] = mean_and_interval(row.values[:, column])
            several = len(row.runs) > 1
            line[f"{name}_seed_sd"] = row.seed_means[:, column].std(ddof=1) if several else np.nan
        lines.append(line)
    return pd.DataFrame(lines)


def summarize_lists(rows: list[Row]) -> pd.DataFrame:
    """Return beyond.csv: how the lists use the catalogue, for each k."""
    lines = []
    for row in rows:
        found = [run["lists"]["test"] for run in row.runs if "lists" in run]
        shared = [name for name in found[0] if all(name in each for each in found)] if found else []
        for k in sorted({int(name.split("@")[1]) for name in shared}):
            values = {n: np.mean([each[f"{n}@{k}"] for each in found]) for n in STATISTICS}
            lines.append({**row.keys, "k": k, **values})
    return pd.DataFrame(lines, columns=[*KEYS, "k", *STATISTICS])


@dataclass(frozen=True)
class Segments:
    """A row's segments, seeds averaged.

    Attributes:
        users: user_id of each line, int64 (n,); a user has a line in each group.
        lines: {(by, group): int (m,)}, the lines of a group.
        metrics: names of the columns of values.
        values: float64 (n, metrics).
    """

    users: np.ndarray
    lines: dict[tuple[str, str], np.ndarray]
    metrics: tuple[str, ...]
    values: np.ndarray


def read_segments(row: Row) -> Segments | None:
    """Return a row's segments; None where its runs have none."""
    having = [run for run in row.runs if has_table(run["path"], SEGMENTS, run)]
    frames = [read_table(run["path"], SEGMENTS, run, _remedy(run)) for run in having]
    if not frames:
        return None
    metrics = tuple(c for c in frames[0] if "@" in c and all(c in f for f in frames))
    keys = ["by", "group", "user_id"]
    own = frames[0][keys]
    if not all(frame[keys].equals(own) for frame in frames[1:]):  # another order, or other users
        whole = (sum(f.set_index(keys)[list(metrics)] for f in frames) / len(frames)).sort_index()
        own, values = whole.index.to_frame(index=False), whole.to_numpy(np.float64)
    else:
        values = sum(f[list(metrics)].to_numpy(np.float64) for f in frames) / len(frames)
    lines = own.groupby(["by", "group"]).indices
    return Segments(own.user_id.to_numpy(), lines, metrics, values)


def summarize_segments(
    rows: list[Row], metric: str | None = None
) -> tuple[pd.DataFrame, list[tuple[Row, pd.DataFrame]]]:
    """Return segments.csv, the metrics by who listens and by what is listened to; and curves.

    Each row's segments, most of the bytes of its runs, are read once and not kept.

    Args:
        metric: of the curves, a frame for each row that has bins of plays: the metric by bins, a
            row a user, ascending, NaN where a bin has none.
    """
    lines, curves = [], []
    for row in rows:
        own = read_segments(row)
        if own is None:
            continue
        for by, known in SEGMENT_GROUPS.items():
            for group in known:
                if (by, group) not in own.lines:
                    continue
                at = own.lines[by, group]
                line = {**row.keys, "by": by, "group": group, "users": len(at)}
                found = zip(own.metrics, *means_and_intervals(own.values[at]), strict=True)
                for name, mean, half in found:
                    line[name], line[f"{name}_ci95"] = mean, half
                lines.append(line)
        if metric in own.metrics:
            column = own.values[:, own.metrics.index(metric)]
            bins = {name: own.lines.get((warmup.PLAYS, name)) for name in warmup.names()}
            bins = {name: at for name, at in bins.items() if at is not None}
            bins = {name: pd.Series(column[at], own.users[at]) for name, at in bins.items()}
            curves.append((row, pd.DataFrame(bins).sort_index()))
    columns = None if lines else [*KEYS, "by", "group", "users"]
    return pd.DataFrame(lines, columns=columns), curves


def find_crossings(curves: list[tuple[Row, pd.DataFrame]], metric: str) -> pd.DataFrame:
    """Return crossings.csv: every row that hears against every one that does not, but chance.

    Args:
        curves: of summarize_segments.
    """
    curves = [(row, curve) for row, curve in curves if len(curve.columns) > 1]
    controls = [(row, c) for row, c in curves if row.recommender in CONTROLS]
    lines = []
    for row, curve in curves:
        if row.recommender in CONTROLS or is_shuffled(row.tag) or row.embedding in WITHOUT_FILE:
            continue
        for other, against in controls:
            if is_chance(other.recommender) or not curve.index.equals(against.index):
                continue
            places = warmup.centres()[[warmup.names().index(name) for name in curve]]
            found = warmup.crossing((curve - against).to_numpy(), places)
            name = other.recommender + (f" ({other.tag})" if other.tag else "")
            numbers = (found.at, found.low, found.high, found.first, found.last)
            lines.append((*row.keys.values(), name, metric, len(curve), *numbers))
    columns = [*KEYS, "against", "metric", "users", "plays", "plays_low", "plays_high"]
    return pd.DataFrame(lines, columns=[*columns, "first", "last"])


def chance_levels(runs: Iterable[dict], part: str = "test") -> pd.DataFrame:
    """Return chance.csv from what the runs of random lists say; no rows without one.

    Args:
        part: whose lists, test, val or cold.
    """
    levels = next((run["chance"].get(part, {}) for run in runs if "chance" in run), {})
    return pd.DataFrame({"metric": list(levels), "chance": list(levels.values())})
