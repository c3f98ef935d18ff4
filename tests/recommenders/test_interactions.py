"""The split under dense ids: which id is which, order, grouping, fingerprints."""

import pandas as pd
import pytest

from core.splits import split_hash
from recommenders.interactions import load_split, pair_keys

PARTS = ("train", "val", "test")


@pytest.fixture
def root(toy_root):
    return toy_root()


def tables(root):
    return {part: pd.read_parquet(root / "data" / f"{part}.pqt") for part in PARTS}


def test_dense_ids_lead_back_to_every_row_of_the_files(root):
    split = load_split(root)
    for part, table in tables(root).items():
        found = getattr(split, part)
        again = pd.DataFrame(
            {
                "user_id": split.user_ids[found.user_of_pair],
                "track_idx": split.track_idx[found.items],
                "timestamp": found.timestamps,
                "count": found.counts,
            }
        )
        assert again.values.tolist() == table[again.columns].values.tolist()


def test_what_is_kept_of_a_frame_keeps_no_other_column_in_memory(root):
    train = load_split(root).train
    assert all(part.flags.owndata for part in (train.items, train.timestamps, train.counts))


def test_users_and_candidates_are_those_of_train_in_ascending_order(root):
    split, train = load_split(root), tables(root)["train"]
    assert split.user_ids.tolist() == sorted(set(train.user_id))
    assert split.track_idx.tolist() == sorted(set(train.track_idx))
    assert split.n_users == len(split.user_ids) and split.n_items == len(split.track_idx)
    assert split.n_items < split.n_tracks == 160, "the toy has tracks nobody played in train"
    assert split.train.users.tolist() == list(range(split.n_users))


def test_lists_are_made_for_every_user_of_val_and_test_once(root):
    split, files = load_split(root), tables(root)
    expected = sorted(set(files["val"].user_id) | set(files["test"].user_id))
    assert split.user_ids[split.eval_users].tolist() == expected


def test_a_users_interactions_are_found_by_its_row(root):
    split, train = load_split(root), tables(root)["train"]
    for row, user_id in enumerate(split.user_ids):
        own = train.track_idx[train.user_id == user_id]
        assert split.track_idx[split.train.of(row)].tolist() == own.tolist()


def test_a_sequence_is_in_order_of_first_play_and_then_of_track(root):
    split, train = load_split(root), tables(root)["train"]
    assert train.duplicated(["user_id", "timestamp"]).any(), "the toy has plays at one time"
    expected = train.sort_values(["user_id", "timestamp", "track_idx"]).track_idx
    assert split.track_idx[split.train.in_order_of_time()].tolist() == expected.tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_users_with_few_interactions_can_be_left_out(root, n):
    split, val = load_split(root), tables(root)["val"]
    kept = val[val.groupby("user_id").track_idx.transform("size") >= n]
    found = split.val.at_least(n)
    assert split.user_ids[found.user_of_pair].tolist() == kept.user_id.tolist()
    assert split.track_idx[found.items].tolist() == kept.track_idx.tolist()
    assert found.counts.tolist() == kept["count"].tolist()
    assert split.user_ids[found.users].tolist() == sorted(set(kept.user_id))
    assert found.offsets[0] == 0 and found.offsets[-1] == len(kept)


def test_pair_keys_hold_each_pair_of_the_parts_once_in_ascending_order(root):
    split = load_split(root)
    keys = pair_keys(split.train, split.val, split.train, n_items=split.n_items)
    pairs = set()
    for part in (split.train, split.val):
        pairs |= set(zip(part.user_of_pair.tolist(), part.items.tolist(), strict=True))
    assert keys.tolist() == sorted(user * split.n_items + item for user, item in pairs)


@pytest.mark.parametrize("file", ["data/train.pqt", "data/val.pqt", "data/test.pqt"])
def test_the_fingerprint_follows_every_file_of_the_split(root, file):
    before = split_hash(root)
    table = pd.read_parquet(root / file)
    table.assign(count=table["count"] + 1).to_parquet(root / file)
    assert split_hash(root) != before


def test_the_fingerprint_follows_the_track_ids(root):
    before = split_hash(root)
    assert split_hash(root) == before
    path = root / "trackid_sorted.csv"
    path.write_text(path.read_text().replace("T000000000000159", "T000000000000160"))
    assert split_hash(root) != before
