"""Which differences between embeddings are real: paired comparisons over users, and groups."""

from __future__ import annotations

import pandas as pd


def compare(runs: list[dict], metrics: tuple[str, ...] = ("HitRate@50", "NDCG@50")) -> pd.DataFrame:
    """Return comparisons.csv (results.py names the columns) of results.read_runs' runs."""
    raise NotImplementedError


def groups(comparisons: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Return groups.csv from comparisons.csv."""
    raise NotImplementedError


def against_shuffled(runs: list[dict], metrics: tuple[str, ...]) -> pd.DataFrame:
    """Return shuffled.csv: every row that has a shuffled control, against it."""
    raise NotImplementedError
