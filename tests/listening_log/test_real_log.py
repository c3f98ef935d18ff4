"""The real log of Music4All-Onion through every stage to a table."""

import numpy as np
import pandas as pd
import pytest
from conftest import forked

from core.splits import read_split


@pytest.mark.parametrize("repeated", [False, True])
def test_the_real_log_goes_through_every_stage_to_a_table(shared, tmp_path, repeated):
    log = shared / "music4all" / "userid_trackid_timestamp.tsv"
    root = tmp_path / "sample"
    root.mkdir()
    ids = (shared / "music4all" / "trackid_sorted.csv").read_text()
    (root / "trackid_sorted.csv").write_text(ids)
    if repeated:  # the log holds one play a pair: without this, counts are never seen
        plays = pd.read_csv(log, sep="\t")
        times = np.random.default_rng(0).integers(1, 6, len(plays))
        plays = plays.loc[plays.index.repeat(times)]
        later = plays.groupby(level=0).cumcount() * pd.Timedelta("7min")
        plays["timestamp"] = pd.to_datetime(plays.timestamp) + later
        log = tmp_path / "repeated.tsv"
        plays.to_csv(log, sep="\t", index=False)
    commands = [
        f"python 0_get_plays_pqt.py --root sample --log {log}",
        "python 1_train_test_split.py --root sample --train-from 2019-02-01 --test-from 2019-02-15",
        "python knn.py --root sample --embedding noise",
        "python train.py --root sample --embedding random --epochs 2",
        "python train_bert.py --root sample --embedding random --epochs 1 --max-length 50",
        "python table.py --root sample",
    ]
    for line in commands:
        done = forked(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
    split = read_split(root)
    held_out = len(split["val"]) + len(split["test"])
    users = split["val"].user_id.nunique() + split["test"].user_id.nunique()
    assert (len(split["train"]), held_out, users) == (25_030, 12_069, 1_529)
    assert (split["train"]["count"].max() > 1) == repeated
    table = pd.read_csv(root / "tables" / "results.csv")
    assert set(table.recommender) == {"knn", "shallow", "bert4rec"}
