"""Training batches: every pair or sequence once, negatives that are none, masks as asked for."""

import numpy as np
import pytest
import torch

from dataset import InteractionDataset, InteractionDatasetItems, SequenceDataset
from recommenders.interactions import Interactions, load_split, pair_keys
from train import ShallowConfig
from train import batches as batches_of

KINDS = {"user": InteractionDataset, "item": InteractionDatasetItems}


def interactions(histories, days=None, users=None):
    """Return {user: items} as Interactions; days are of the plays, in the order of items."""
    users = np.arange(len(histories)) if users is None else np.array(users)
    lengths = [len(own) for own in histories]
    items = np.concatenate([np.array(own) for own in histories])
    days = np.concatenate(days) if days else np.zeros(len(items))
    times = np.datetime64("2019-03-01", "us") + days.astype("timedelta64[D]")
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Interactions(users, offsets, items, times, np.arange(1, len(items) + 1))


def dataset(sample, data, n_users, n_items, **options):
    known = pair_keys(data, n_items=n_items)
    options = {"n_negatives": 5, "unheard": True, "confidence": False, **options}
    return KINDS[sample](data, known, n_users, n_items, device="cpu", **options)


DATA = interactions([[0, 2], [1, 2, 3], [2], [0, 4]])
PAIRS = [(0, 0), (0, 2), (1, 1), (1, 2), (1, 3), (2, 2), (3, 0), (3, 4)]


@pytest.mark.parametrize("sample", KINDS)
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_an_epoch_sees_every_pair_once_and_in_another_order_each_time(sample, batch_size):
    data = dataset(sample, DATA, 4, 6)
    seen = []
    for seed in (1, 2):
        batches = list(data.batches(batch_size, seed, shuffle=True))
        assert len(batches) == data.n_batches(batch_size)
        assert [batch.size for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        pairs = [
            (u.item(), i.item()) for b in batches for u, i in zip(b.users, b.items, strict=True)
        ]
        assert sorted(pairs) == PAIRS
        seen.append(pairs)
    assert seen[0] != seen[1]


@pytest.mark.parametrize("sample", KINDS)
def test_a_seed_decides_order_and_negatives(sample):
    data = dataset(sample, DATA, 4, 6)
    draws = [
        torch.cat([b.negatives for b in data.batches(3, seed, shuffle=True)]) for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_without_shuffling_pairs_come_in_the_order_of_the_split():
    batches = list(dataset("item", DATA, 4, 6).batches(3, 0, shuffle=False))
    assert [
        (u.item(), i.item()) for b in batches for u, i in zip(b.users, b.items, strict=True)
    ] == PAIRS


@pytest.mark.parametrize(("sample", "n"), [("user", 6), ("item", 4)])
def test_negatives_reach_all_users_or_tracks_uniformly_the_last_included(sample, n):
    data = dataset(sample, DATA, 4, 6, n_negatives=3000, unheard=False)
    batch = next(data.batches(100, 0, shuffle=True))
    assert batch.negatives.shape == (8, 3000)
    shares = torch.bincount(batch.negatives.flatten(), minlength=n) / batch.negatives.numel()
    assert len(shares) == n
    assert (shares - 1 / n).abs().max() < 0.02


@pytest.mark.parametrize("sample", KINDS)
def test_an_unheard_negative_is_never_a_known_pair_and_any_other_can_be_one(sample):
    """Item 2 is known of users 0 to 2 of 4, so only one user in four is a negative of it."""
    data = dataset(sample, DATA, 4, 6, n_negatives=2000)
    batch = next(data.batches(100, 0, shuffle=True))
    possible = {}
    for user, item, negatives in zip(batch.users, batch.items, batch.negatives, strict=True):
        own = {
            (user.item(), n) if sample == "user" else (n, item.item()) for n in negatives.tolist()
        }
        assert not own & set(PAIRS)
        possible[(user.item(), item.item())] = own
    everything = {(u, i) for u in range(4) for i in range(6)} - set(PAIRS)
    for (user, item), own in possible.items():
        assert own == {
            p for p in everything if (p[0] == user if sample == "user" else p[1] == item)
        }


@pytest.mark.parametrize("sample", KINDS)
def test_where_few_candidates_are_left_each_of_them_is_drawn_alike(sample):
    """198 of 200 are known, so that drawing again until one fits would take long."""
    n = 200
    histories = [np.delete(np.arange(n), [user, (user + 1) % n]) for user in range(n)]
    data = dataset(sample, interactions(histories), n, n, n_negatives=50)
    batch = next(data.batches(400, 0, shuffle=True))
    first, total = 0, batch.negatives.numel()
    for user, item, negatives in zip(batch.users, batch.items, batch.negatives, strict=True):
        if sample == "user":
            free = [user.item(), (user.item() + 1) % n]
        else:
            free = [item.item(), (item.item() - 1) % n]
        assert set(negatives.tolist()) <= set(free)
        first += (negatives == free[0]).sum().item()
    assert abs(first / total - 0.5) < 0.02


@pytest.mark.parametrize("sample", KINDS)
def test_collisions_are_kept_where_any_negative_is_asked_for(sample):
    data = dataset(sample, DATA, 4, 6, n_negatives=500, unheard=False)
    batch = next(data.batches(100, 0, shuffle=True))
    left = batch.users[:, None] if sample == "user" else batch.negatives
    right = batch.negatives if sample == "user" else batch.items[:, None]
    pairs = torch.stack(torch.broadcast_tensors(left, right), dim=-1).flatten(0, 1).tolist()
    share = np.mean([tuple(pair) in PAIRS for pair in pairs])
    of_user, of_item = np.bincount([u for u, _ in PAIRS]), np.bincount([i for _, i in PAIRS])
    squares = (of_user**2).sum() / 6 if sample == "user" else (of_item**2).sum() / 4
    assert abs(share - squares / len(PAIRS)) < 0.03


@pytest.mark.parametrize("sample", KINDS)
def test_a_pair_that_leaves_no_candidate_keeps_what_was_drawn(sample):
    data = dataset(sample, interactions([[0, 1], [0, 1]]), 2, 2)
    batch = next(data.batches(10, 0, shuffle=True))
    assert batch.negatives.min() >= 0 and batch.negatives.max() <= 1


def test_confidence_weighs_a_pair_by_its_plays():
    data = dataset("item", DATA, 4, 6, confidence=True)
    weights = {}
    for batch in data.batches(3, 0, shuffle=True):
        for user, item, weight in zip(batch.users, batch.items, batch.weights, strict=True):
            weights[user.item(), item.item()] = weight.item()
    plays = dict(zip(PAIRS, range(1, 9), strict=True))
    assert weights == pytest.approx({p: 1 + 2 * np.log(1 + n) for p, n in plays.items()})


def test_validation_negatives_of_the_command_are_in_neither_part(toy_root):
    split = load_split(toy_root())
    config = ShallowConfig(embedding="toy", config=None, n_negatives=40)
    train_batches, val_batches, n = batches_of(config, split, "cpu")
    heard = set(pair_keys(split.train, n_items=split.n_items).tolist())
    either = set(pair_keys(split.train, split.val, n_items=split.n_items).tolist())
    for batches, known in ((train_batches(0), heard), (val_batches(0), either)):
        for batch in batches:
            keys = batch.negatives * split.n_items + batch.items[:, None]
            assert not known & set(keys.flatten().tolist())
    assert n == 1


# Sequences. Histories of 3, 1, 5 and 2 tracks; days put them into another order than their items.
HISTORIES = [[1, 4, 7], [2], [0, 3, 5, 6, 8], [4, 5]]
DAYS = [[2.0, 1.0, 0.0], [0.0], [1.0, 1.0, 0.0, 2.0, 0.0], [0.0, 0.0]]
ORDERED = [[7, 4, 1], [2], [5, 8, 0, 3, 6], [4, 5]]
MASK, PAD = 9, 10


def sequences(max_length=10):
    return SequenceDataset(interactions(HISTORIES, DAYS), 9, max_length, "cpu")


@pytest.mark.parametrize("max_length", [2, 4, 5, 10])
def test_a_sequence_is_the_newest_tracks_in_order_of_time_then_track_and_padding_follows(
    max_length,
):
    data = sequences(max_length)
    found = data.padded(data.tokens, torch.arange(4)).tolist()
    kept = [own[-max_length:] for own in ORDERED]
    longest = max(map(len, kept))
    assert found == [own + [PAD] * (longest - len(own)) for own in kept]


def masked(data, batch_size, seed, share=0.4, shuffle=False):
    """Return {sequence's first track: places masked} and check every batch against the truth."""
    found = {}
    for batch in data.masked_batches(batch_size, seed, mask_share=share, shuffle=shuffle):
        b, length = batch.tokens.shape
        truth = batch.tokens.flatten().clone()
        assert (truth[batch.positions] == MASK).all()
        assert (truth == MASK).sum() == len(batch.positions) == batch.size
        truth[batch.positions] = batch.targets
        for row, own in enumerate(truth.view(b, length).tolist()):
            real = [token for token in own if token != PAD]
            assert real in ORDERED and own == real + [PAD] * (length - len(real))
            places = (batch.tokens[row] == MASK).nonzero()[:, 0].tolist()
            found[ORDERED.index(real)] = places
    return found


def test_a_batch_holds_the_sequences_with_masks_and_what_was_under_them():
    for seed in range(20):
        masked(sequences(), 2, seed, shuffle=True)


def test_masks_do_not_depend_on_the_size_of_batches():
    for seed in range(20):
        alone = masked(sequences(), 1, seed)
        # Alone, a sequence without a mask is a batch without one, which is left out.
        together = {row: own for row, own in masked(sequences(), 4, seed).items() if own}
        assert together == {row: own for row, own in alone.items() if own}


def test_masks_follow_the_seed():
    draws = [masked(sequences(), 4, seed) for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]


def test_each_track_is_masked_with_the_probability_asked_for_and_padding_never():
    rng = np.random.default_rng(0)
    data = SequenceDataset(
        interactions([np.sort(rng.choice(900, n, replace=False)) for n in range(1, 120)]),
        900,
        60,
        "cpu",
    )
    hits = tokens = 0
    for seed in range(5):
        for batch in data.masked_batches(16, seed, mask_share=0.2, shuffle=True):
            hits += batch.size
            tokens += (batch.tokens < 901).sum().item()
            assert batch.targets.max() < 900
    assert abs(hits / tokens - 0.2) < 0.01


def test_an_epoch_sees_every_sequence_once():
    rng = np.random.default_rng(0)
    data = SequenceDataset(interactions(rng.permutation(500).reshape(50, 10)), 500, 10, "cpu")
    orders = []
    for seed in (1, 2):
        batches = list(data.masked_batches(7, seed, mask_share=0.9, shuffle=True))
        assert len(batches) == data.n_batches(7) == 8
        rows = []
        for batch in batches:
            batch.tokens.flatten()[batch.positions] = batch.targets
            rows += batch.tokens.tolist()
        assert sorted(rows) == sorted(data.tokens.view(50, 10).tolist())
        orders.append(rows)
    assert orders[0] != orders[1]


@pytest.mark.parametrize(("max_length", "length"), [(10, 10), (10, 4), (10, 2), (3, 3), (3, 2)])
def test_a_prediction_sees_the_last_tracks_and_a_mask_after_them(max_length, length):
    rows = torch.tensor([2, 0, 3, 1])
    tokens, places = sequences(max_length).with_final_mask(rows, length)
    expected = [[*ORDERED[row][-(length - 1) :], MASK] for row in rows.tolist()]
    longest = max(map(len, expected))
    assert tokens.tolist() == [own + [PAD] * (longest - len(own)) for own in expected]
    assert places.tolist() == [len(own) - 1 for own in expected]


@pytest.mark.parametrize("sample", KINDS)
def test_a_map_and_a_search_draw_the_same_negatives(monkeypatch, sample):
    drawn = []
    for memory in (1 << 20, 0):
        monkeypatch.setattr("recommenders.known.MAP_BYTES", memory)
        data = dataset(sample, DATA, 4, 6)
        assert (data.known.bits is not None) == (memory > 0)
        drawn.append(torch.cat([b.negatives for b in data.batches(3, 1, shuffle=True)]))
    assert torch.equal(*drawn)
