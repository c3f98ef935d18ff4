"""The tables of a root: what table.py writes, how they are sealed, and how they are read.

    from evaluation.tables import read_tables
    tables = read_tables(root)          # {"results": frame, "comparisons": frame, ...}

ROOT/tables holds, written by table.py (a metric M stands as HitRate@50, NDCG@10, ...; a row is a
recommender, an embedding and a tag; its seeds are averaged for each user before anything else):

    results.csv      recommender, embedding, tag, width, seeds, users; for each metric M its mean,
                     M_ci95 (half the 95 % t-interval over users) and M_seed_sd (deviation of the
                     seeds' means; empty for one seed)
    comparisons.csv  every two rows under one recommender, shuffled controls left out:
                     recommender, embedding_a, tag_a, embedding_b, tag_b, metric, users, mean_a,
                     mean_b, difference (a - b), ci_low, ci_high (paired bootstrap, 95 %), p (paired
                     permutation test, two-sided), p_holm (over the pairs of a recommender and
                     metric), effect_size (Cohen's d of the differences), better_a, better_b (shares
                     of users)
                     Further: unit (`users`, or `users and seeds` where every row that is random
                     has three seeds or more: p and interval are then those of crossed.py), seeds_a,
                     seeds_b, detectable: the smallest true difference that the test would find 8
                     times in 10, at Holm's first step. Rows as published are compared with each
                     other only
    groups.csv       recommender, embedding, tag, metric (at every k), mean, letters: rows of a
                     recommender that share a letter cannot be told apart (p_holm >= 0.05 over its
                     pairs in that metric and k); `a` is with the best; unit, the least of the
                     pairs': `users` of networks that were trained says it of these networks only
    shuffled.csv     every row that has a shuffled control, against it: recommender, embedding,
                     tag, metric, users, mean, shuffled_mean, difference, ci_low, ci_high, change,
                     change_low, change_high (in % of the control's mean, paired bootstrap), p,
                     p_holm (over the rows of a recommender and metric), effect_size,
                     beats_shuffled, unit, shuffles (seeds of the control)
    beyond.csv       recommender, embedding, tag, k, Coverage, Gini, Popularity, Novelty: of the
                     lists of the test users, mean over seeds; beyond.py defines them
    segments.csv     recommender, embedding, tag, by (`activity` of users, `popularity` of tracks,
                     `plays` of tracks in train, or `artist`), group (head, middle, tail; 1, 2, 3-5,
                     ...; of artists see artists.py), users, and M, M_ci95
    crossings.csv    recommender, embedding, tag, against (a recommender that hears nothing),
                     metric, users, plays, plays_low, plays_high: up to how many plays of a track in
                     train the row is ahead (0: never; inf: always), 95 %; first, last: the
                     differences for the least and the most played tracks; warmup.py
    chance.csv       metric, chance: what random lists are expected to reach, exactly
    cold.csv         as results.csv, of lists of cold tracks (only where the split has some), with
                     cold_shuffled.csv and cold_chance.csv as those above
    journal_hot.csv, journal_cold.csv    with table.py --layout journal; see journal.py
    published.csv    recommender, backbone, metric, published, embedding, tag, ours, ours_ci95,
                     seeds; `ours` is empty where there is no such run
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd

from core.artifacts import read_json, read_sealed, sha256, shared, write_json
from core.options import InputError
from evaluation.measures import STATED

TEXTS = {  # columns of tables that are texts; all others are numbers, or one of FLAGS
    *("section", "recommender", "embedding", "tag", "embedding_a", "tag_a", "embedding_b", "tag_b"),
    *(
        "metric",
        "letters",
        "by",
        "group",
        "backbone",
        "sampler",
        "pruner",
        "chosen",
        "unit",
        "against",
    ),
}
FLAGS = {"beats_shuffled", "pretrained"}
HEADS = {  # first columns of what table.py writes
    *(("recommender", "embedding", "tag"), ("recommender", "embedding_a", "tag_a")),
    *(("metric", "chance"), ("recommender", "backbone", "metric")),
    *(("section", "recommender", "embedding"), ("",)),
}
SEAL = "tables.json"  # written last
LOCK = ".lock"  # held by table.py, and together by those who read
ELSEWHERE = {"search": "its last python sweep.py"}  # tables of others, and what makes them
METRIC = re.compile(r"\w+@\d+")
KEYS = ["recommender", "embedding", "tag"]


def read_tables(root: Path) -> dict[str, pd.DataFrame]:
    """Return what table.py wrote under root/tables, by name, with the types it was written with.

    A name is text, whatever it looks like: an embedding may be called `64` or `nan`. Texts may be
    empty, numbers may be missing.

    Raises:
        InputError: there is no tables/results.csv, or a table cannot be read; the message names
            table.py.
    """
    folder = Path(root) / "tables"
    with shared(folder / LOCK, str(folder)):
        return _read_together(folder, f"python table.py --root {root}")


def _read_together(folder: Path, again: str) -> dict[str, pd.DataFrame]:
    if not (folder / "results.csv").exists():
        raise InputError(f"{folder / 'results.csv'} is missing; make it with {again}")
    sealed = _sealed(folder / SEAL, again)
    for name, remedy in ELSEWHERE.items():
        sealed |= _sealed(folder / f"{name}.json", remedy)
    paths = {path.stem: path for path in sorted(folder.glob("*.csv"))}
    for name in sealed:
        paths.setdefault(name, folder / f"{name}.csv")
    return {
        name: read_csv(path, ELSEWHERE.get(name, again), sealed.get(name))
        for name, path in paths.items()
    }


def read_results(root: Path) -> pd.DataFrame:
    """Return root/tables/results.csv alone, as read_tables does."""
    folder, again = Path(root) / "tables", f"python table.py --root {root}"
    with shared(folder / LOCK, str(folder)):
        sealed = _sealed(folder / SEAL, again)
        return read_csv(folder / "results.csv", again, sealed.get("results"))


def seal_tables(folder: Path, runs: dict[str, str | None]) -> None:
    """Write tables.json: the fingerprints of the tables, which are all there, and of one time.

    Args:
        runs: the fingerprint of each run that they were made of, by its folder's name.
    """
    made = [path for path in sorted(folder.glob("*.csv")) if path.stem not in ELSEWHERE]
    sealed = {"sha256": {path.stem: sha256(path) for path in made}, "runs": runs}
    write_json(folder / SEAL, sealed)


def runs_of_tables(root: Path) -> dict[str, str | None]:
    """Return the runs that the tables were made of, as seal_tables has them.

    Nothing of tables without a seal, or from before it told of runs.
    """
    path, again = Path(root) / "tables" / SEAL, f"python table.py --root {root}"
    with shared(path.with_name(LOCK), str(path.parent)):
        told = read_json(path, again).get("runs", {}) if path.exists() else {}
    if not isinstance(told, dict):
        raise InputError(f"{path} is damaged; make it again with {again}")
    return told


def remove_tables(folder: Path) -> None:
    """Remove the tables that are there, results.csv first: none stays of runs that are gone.

    Tables that table.py does not make are left: they do not begin as one of its tables does.
    """
    (folder / SEAL).unlink(missing_ok=True)
    for path in [folder / "results.csv", *folder.glob("*.csv")]:
        if path.exists() and path.stem not in ELSEWHERE:
            with open(path, encoding="utf-8", errors="replace") as file:
                head = file.readline().rstrip("\n").split(",")
            if path.stem == "results" or tuple(head[:3]) in HEADS:
                path.unlink()


def _sealed(path: Path, again: str) -> dict:
    """Return {name: sha256} as tables.json has it; nothing without one."""
    if not path.exists():
        return {}
    sealed = read_json(path, again, ("sha256",))["sha256"]
    if not isinstance(sealed, dict):
        raise InputError(f"{path} is damaged; make it again with {again}")
    return sealed


def read_csv(path: Path, again: str, digest: str | None = None) -> pd.DataFrame:
    """Return one of these tables with its types.

    Args:
        again: the command that makes it.
        digest: its sha256, where that is known; another file is an InputError.
    """
    content = read_sealed(path, digest, f"make it again with {again}")
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8")
        for name in set(table) - TEXTS:
            if name in FLAGS:
                table[name] = table[name] == "True"
            else:
                table[name] = pd.to_numeric(table[name].where(table[name] != ""))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it again with {again}") from error
    return table


def metric_names(table: pd.DataFrame) -> list[str]:
    """Return the columns that hold metrics, as HitRate@50, in order."""
    return [name for name in table if METRIC.fullmatch(name)]


def stated_k(table: pd.DataFrame) -> int:
    """Return the k that is tested and shown: the study's, or the largest there is."""
    ks = {int(name.split("@")[1]) for name in metric_names(table)}
    return STATED if STATED in ks else max(ks, default=STATED)
