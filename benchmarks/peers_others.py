"""Train one recommender of another library, in its own environment, for bench_peers.py.

    peers/bin/python -m benchmarks.peers_others --name bert4rec --data DATA.npz --out OUT.npz

Imports the reading of options alone of this project: it is another environment. Reads the plays
(user, track, time) and sizes of DATA.npz; writes the lists, (n_users, k), the seconds of the
training and of the lists, and the peak memory above that before the training, in bytes.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from core.options import option, run


@dataclass(frozen=True)
class PeerConfig:
    name: Literal["bert4rec", "bpr"] = option(
        help="of the library's model; bpr stands beside our Shallow Net"
    )
    data: Path = option(help="plays and sizes, as bench_peers.py writes them")
    out: Path = option(help="where lists, seconds and memory are written")


def main(config: PeerConfig) -> None:
    plays = dict(np.load(config.data))
    prepare = {"bert4rec": rectools_bert4rec, "bpr": implicit_bpr}[config.name]
    fit, recommend = prepare(plays)
    before = peak()
    started = time.perf_counter()
    fit()
    trained = time.perf_counter()
    lists = recommend()
    done = time.perf_counter()
    seconds = np.array([trained - started, done - trained])
    np.savez(config.out, lists=lists, seconds=seconds, peak=peak() - before)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rectools_bert4rec(plays: dict):
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import BERT4RecModel

    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(plays["time"], unit="D")
    table = {
        Columns.User: plays["user"],
        Columns.Item: plays["track"],
        Columns.Weight: 1.0,
        Columns.Datetime: days,
    }
    dataset = Dataset.construct(pd.DataFrame(table))
    model = BERT4RecModel(
        n_blocks=2,
        n_heads=2,
        n_factors=int(plays["width"]),
        dropout_rate=0.1,
        mask_prob=0.2,
        session_max_len=int(plays["length"]),
        loss="softmax",
        lr=float(plays["rate"]),
        batch_size=int(plays["batch"]),
        epochs=int(plays["epochs"]),
        recommend_torch_device="cpu",
    )
    users, k = np.arange(plays["user"].max() + 1), int(plays["k"])

    def recommend() -> np.ndarray:
        found = model.recommend(users, dataset, k=k, filter_viewed=True)
        return found[Columns.Item].to_numpy().reshape(len(users), k)

    return lambda: model.fit(dataset), recommend


def implicit_bpr(plays: dict):
    from implicit.bpr import BayesianPersonalizedRanking
    from scipy.sparse import csr_matrix

    one = np.ones(len(plays["user"]), np.float32)
    histories = csr_matrix((one, (plays["user"], plays["track"])))
    model = BayesianPersonalizedRanking(
        factors=int(plays["width"]),
        learning_rate=float(plays["bpr_rate"]),
        iterations=int(plays["bpr_epochs"]),
        random_state=1,
    )
    users = np.arange(histories.shape[0])
    return (
        lambda: model.fit(histories, show_progress=False),
        lambda: model.recommend(users, histories, N=int(plays["k"]))[0],
    )


if __name__ == "__main__":
    run(main, PeerConfig, __doc__)
