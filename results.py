"""The finished runs under a root as data frames: what table.py writes and a report reads.

    from results import read_tables
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
    groups.csv       recommender, embedding, tag, metric, mean, letters: rows of a recommender that
                     share a letter cannot be told apart (p_holm >= 0.05); `a` is with the best
    shuffled.csv     recommender, embedding, tag, metric, users, mean, shuffled_mean, difference,
                     ci_low, ci_high, p, p_holm, effect_size, beats_shuffled (True or False): a row
                     against the same recommender over the embedding with its rows permuted
    beyond.csv       recommender, embedding, tag, k, Coverage, Gini, Popularity, Novelty: of the
                     lists of the test users; beyond.py defines them
    segments.csv     recommender, embedding, tag, by (`activity` of users or `popularity` of
                     tracks), group (head, middle, tail), users, and M, M_ci95
    chance.csv       metric, chance: what random lists are expected to reach, exactly
    cold.csv         as results.csv, of lists of cold tracks (only where the split has some)
    published.csv    recommender, backbone, metric, published, ours, ours_ci95, data
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TABLES = (
    *("results", "comparisons", "groups", "shuffled", "beyond", "segments"),
    *("chance", "cold", "published"),
)


def read_runs(root: Path, pattern: str = "*") -> list[dict]:
    """Return what is known of every finished run, by folder name; refuse to mix splits.

    Returns:
        dicts with the keys of config.yaml and metrics.json (recommender, embedding, tag, seed,
        options, changed, versions, commit, device, width, seconds, val, test, ...), `folder` (name)
        and `per_user` (frame of the test users, index user_id ascending, a column a metric).
    """
    raise NotImplementedError


def read_tables(root: Path) -> dict[str, pd.DataFrame]:
    """Return the tables that table.py wrote under root/tables, by name; absent ones are left out.

    Raises:
        InputError: there is no tables/results.csv; the message names table.py.
    """
    raise NotImplementedError


def row_label(embedding: str, tag: str) -> str:
    """Return the name of a row for people: `musicnn`, or `musicnn (shuffled)`."""
    raise NotImplementedError
