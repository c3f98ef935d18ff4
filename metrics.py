"""HitRate, MRR, Precision, Recall and NDCG of saved lists, per user and with 95 % intervals.

    python metrics.py --root sample --run knn-mfcc-s1                  # again from the saved lists
    python metrics.py --root sample --run knn-mfcc-s1 --k 5,50
    python metrics.py --root sample --run all --k 5,50                 # of every finished run
    python metrics.py --root sample --run all --artists id_information.csv
    python metrics.py --root sample --run knn-mfcc-s1 --export lists.csv

Reads   runs/RUN/{metrics.json,config.yaml,recs.pqt}, data/{train,val,test}.pqt, trackid_sorted.csv
Writes  runs/RUN/per_user_{val,test}.pqt   user_id and one column for each metric, as HitRate@50
        runs/RUN/segments_{val,test}.pqt   user_id, by, group and HitRate, Recall and NDCG: of each
                                           user and, by popularity, plays and artist, of
                                           the tracks of each group
        runs/RUN/metrics.json              mean and half width of the 95 % interval of each metric,
                                           and Coverage, Gini, Popularity, Novelty of the lists
        FILE.csv                           user_id, track_id, rank, score (--export), both ids as
                                           the log has them

What each metric is: evaluation/measures.py; segments and what is said of the lists as a whole:
evaluation/beyond.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive, read_json
from core.late import options_are_read
from core.options import InputError, option, run
from evaluation.metric_options import KS, check_lengths

if options_are_read(__name__):
    import numpy as np
    import pandas as pd

    from core.splits import read_split, read_trackids
    from core.users import original_users
    from evaluation.artists import read_artists
    from evaluation.finished import (
        AGAIN,
        COMPLETE,
        read_finished,
        read_table,
        refuse_other_split,
        run_folder,
    )
    from evaluation.measures import describe, evaluate


@dataclass(frozen=True)
class MetricsConfig:
    run: str = option(help="name of a finished run under ROOT/runs, or all")
    root: Path = option(Path("."), "folder of all that is read and written")
    k: tuple[int, ...] = option(KS, "list lengths, at most 100, as 10,50")
    artists: Path | None = option(
        None, "id_information.csv, or json {track: artist}: segments by artist too"
    )
    export: Path | None = option(None, "csv file for the lists with original track ids")

    def __post_init__(self):
        check_lengths(self.k)


def main(config: MetricsConfig) -> None:
    names = [config.run]
    if config.run == "all":
        if config.export:
            raise InputError("--export takes the lists of one run; name it with --run")
        names = sorted(path.parent.name for path in (config.root / "runs").glob("*/metrics.json"))
        if not names:
            raise InputError(f"{config.root / 'runs'} holds no finished run; train one first")
    split = read_split(config.root)
    artist_of = None
    if config.artists:
        artist_of = read_artists(config.artists, read_trackids(config.root))
    for name in names:
        if len(names) > 1:
            print(name)
        measure_again(config, name, split, artist_of)


def measure_again(config: MetricsConfig, name: str, split, artist_of=None) -> None:
    """Compute a run's metrics again from its lists, and export these if that is asked for."""
    folder = run_folder(config.root, name, "--run")
    with exclusive(folder / ".lock", str(folder)):
        known = read_finished(folder)
        refuse_other_split(config.root, [{**known, "folder": name}], split.fingerprint)
        recs = read_table(folder, "recs.pqt", known)
        if config.export:
            named = recs.assign(user_id=original_users(config.root, recs.user_id.to_numpy()))
            export_lists(named, read_trackids(config.root), config.export)
            print(f"{config.export}: {len(recs):,} rows")
        results = read_json(folder / COMPLETE, AGAIN)
        print(describe(evaluate(folder, recs, split, config.k, results, artist_of, split.held_out)))


def export_lists(recs: pd.DataFrame, trackids: np.ndarray, path: Path) -> None:
    """Write user_id, track_id, rank, score as csv, in order of user and rank."""
    table = recs.sort_values(["user_id", "rank"])
    table = table.assign(track_id=np.asarray(trackids)[table.track_idx])
    with atomic_path(path) as temporary:
        table[["user_id", "track_id", "rank", "score"]].to_csv(temporary, index=False)


if __name__ == "__main__":
    run(main, MetricsConfig, __doc__)
