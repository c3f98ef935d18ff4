"""Stage 1's work: plays to (user, track) pairs, and pairs to the parts of a split.

Of the plays from `train_from` on, a pair has the time of its first one. A pair that was played
before `test_from` is in train, with its plays before that day. A pair whose first play comes later
is held out if its user is in train, with all its plays until `test_until`; it is hot if its track
is in train too, else cold. Hot pairs are val or test by their user, cold ones are left out, or kept
apart by a protocol that asks for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.options import InputError
from listening_log.large_tables import TableFile
from listening_log.pairs import PlaysTable, read_pairs
from listening_log.rules import PARTS as PARTS
from listening_log.rules import PROTOCOLS as PROTOCOLS
from listening_log.rules import Rule as Rule
from listening_log.rules import moment
from listening_log.split_files import PAIRS, Part, contains

BATCH = 1 << 17  # rows handed over at a time


def split_plays(
    plays: Path,
    rule: Rule,
    targets: dict[str, Path],
    scratch: Path,
    *,
    memory: int,
    threads: int,
) -> dict[str, dict]:
    """Write the parts of the split, each with the schema `PAIRS`, ordered by user_id, track_idx.

    Args:
        plays: parquet with user_id, track_idx, timestamp; in any order, read once.
        targets: the files to write, by part.
        scratch: an empty folder.
        memory, threads: see pairs.read_pairs.

    Returns:
        what `Part.counts` says, by part.

    Raises:
        InputError: a part is empty.
    """
    late, parts = scratch / "late.pqt", {name: Part(path) for name, path in targets.items()}
    table = PlaysTable(plays)
    dates = (rule.train_from, rule.test_from, rule.test_until)
    with parts["train"] as train, TableFile(late, PAIRS) as later:
        for pairs in read_pairs(table, *dates, scratch, memory=memory, threads=threads):
            early = pairs["early"]
            pairs = pairs.drop_columns("early")
            train.append(pairs.filter(early))
            later.append(pairs.filter(pc.invert(early)))

    with_hot, with_cold = [], []
    for pairs, hot in _held_out(late, train):
        users = pairs["user_id"].to_numpy()
        with_hot.append(np.unique(users[hot]))
        with_cold.append(np.unique(users[~hot]))
    users = np.unique(np.concatenate([*with_hot, np.zeros(0, np.int64)]))
    if rule.cold:
        users = np.setdiff1d(users, np.concatenate([*with_cold, np.zeros(0, np.int64)]))
    validating = np.setdiff1d(users, test_users(users, rule.val_share, rule.seed))

    with ExitStack() as files:
        for name in rule.parts[1:]:
            files.enter_context(parts[name])
        for pairs, hot in _held_out(late, train):
            validates = contains(validating, pairs["user_id"].to_numpy())
            parts["val"].append(pairs.filter(pa.array(hot & validates)))
            parts["test"].append(pairs.filter(pa.array(hot & ~validates)))
            if rule.cold:
                parts["cold_test"].append(pairs.filter(pa.array(~hot)))
    empty = [name for name, part in parts.items() if not part.rows]
    if empty:
        raise InputError(f"{' and '.join(empty)} would be empty: {_why_empty(table, rule, users)}")
    return {name: part.counts() for name, part in parts.items()}


def _why_empty(table: PlaysTable, rule: Rule, users: np.ndarray) -> str:
    """Return why a part has nothing, and what helps: other dates only where those are why.

    Args:
        users: those with held-out tracks, who validate or test.
    """
    first, last = table.ends()
    if first is None:
        return f"{table.path} holds no plays; make it with python 0_get_plays_pqt.py --overwrite"
    from_to = [rule.said(end) if rule.relative else end for end in (first, last)]
    known = f"the log has plays from {from_to[0]} to {from_to[1]}, the dates are {rule}; "
    start, test = moment(rule.train_from or first), moment(rule.test_from)
    inside = last >= start and (rule.test_until is None or first < moment(rule.test_until))
    if not (first < test <= last and inside):
        return f"{known}choose others with --train-from, --test-from and --test-until"
    if len(users):
        return (
            f"{known}{len(users):,} users have held-out tracks and can validate, a share of "
            f"{rule.val_share:g} does; choose another with --val-share, or take a log of more users"
        )
    cold = ", or none without cold tracks, who alone may validate" if rule.cold else ""
    return (
        f"{known}no user of train first plays a track of train later{cold}; take a log of more "
        "users or more time"
    )


def test_users(users: np.ndarray, val_share: float, seed: int) -> np.ndarray:
    """Return the users who test: of n users ceil((1 - val_share) n); the others validate.

    Args:
        users: distinct ids, ascending.
        val_share: between 0 and 1, taken as the decimal number it is written as: of 10 users a
            share of 0.7 leaves 3 for the test, where float arithmetic gives 4.
        seed: of the permutation whose first users test.

    Source:
        train_test_split of scikit-learn with test_size = 1 - val_share, which the study used.
    """
    count = math.ceil((1 - Decimal(str(val_share))) * len(users))
    # The legacy generator, because the published split was drawn from it.
    order = np.random.RandomState(seed).permutation(len(users))  # noqa: NPY002
    return users[order[:count]]


def _held_out(late: Path, train: Part) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yield (pairs whose user is in train, whether their track is too)."""
    with pq.ParquetFile(late, pre_buffer=False) as file:
        for batch in file.iter_batches(BATCH):
            known = contains(train.users, batch["user_id"].to_numpy())
            pairs = pa.Table.from_batches([batch]).filter(pa.array(known))
            yield pairs, contains(train.tracks, pairs["track_idx"].to_numpy())
