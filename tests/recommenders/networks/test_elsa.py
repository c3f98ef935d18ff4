"""ELSA's loss by blocks against its definition over whole matrices, and what a batch is."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from recommenders.networks import elsa
from recommenders.networks.elsa import Elsa, held_out_loss, reconstruction_loss
from recommenders.networks.histories import HistoryBatch, HistoryDataset, Ragged, histories_of

N_USERS, N_TRACKS, WIDTH = 11, 37, 6


def ragged(x: torch.Tensor) -> Ragged:
    ends = (x > 0).sum(1).cumsum(0)
    return Ragged(torch.cat([ends.new_zeros(1), ends]), x.nonzero()[:, 1])


def some_users(seed, kind):
    """Return x and, of other tracks, what was heard later, as 0/1 matrices (users, tracks)."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(N_USERS, N_TRACKS, generator=generator)
    x, later = draws < 0.2, draws > 0.8
    x[:, 0], x[:, 1], later[:, 0], later[:, 1] = True, False, False, True
    x[0] = False
    x[0, 5] = True  # a user of one track
    later[0] = ~x[0]
    return x.to(kind), later.to(kind)


def dense_loss(raw, x):
    """The definition."""
    a = F.normalize(raw, dim=1)
    f = x @ a @ a.T - x
    return (F.normalize(f, dim=1) - F.normalize(x, dim=1)).square().mean()


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize("block", [1, 300, 1 << 20])
def test_loss_and_gradient_are_those_of_the_definition(monkeypatch, kind, tolerance, kept, block):
    monkeypatch.setitem(elsa.KEPT_BYTES, "cpu", kept)
    monkeypatch.setitem(elsa.BLOCK_BYTES, "cpu", block)
    for seed in range(3):
        x, _ = some_users(seed, kind)
        raw = torch.randn(N_TRACKS, WIDTH, dtype=kind).requires_grad_()
        expected = dense_loss(raw, x)
        found = reconstruction_loss(raw, ragged(x))
        assert found.item() == pytest.approx(expected.item(), rel=tolerance)
        (wanted,) = torch.autograd.grad(5 * expected, raw)
        (gradient,) = torch.autograd.grad(5 * found, raw)
        difference = (gradient - wanted).abs().max() / wanted.abs().max()
        assert difference < tolerance, difference


def test_the_loss_is_two_less_two_cosines_of_every_user_by_the_tracks():
    x, _ = some_users(0, torch.float64)
    raw = torch.randn(N_TRACKS, WIDTH, dtype=torch.float64)
    a = F.normalize(raw, dim=1)
    cosine = F.cosine_similarity(x @ a @ a.T - x, x)
    expected = (2 - 2 * cosine).mean() / N_TRACKS
    assert reconstruction_loss(raw, ragged(x)).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_validation_looks_for_later_tracks_among_those_not_heard(monkeypatch, block):
    monkeypatch.setitem(elsa.BLOCK_BYTES, "cpu", block)
    x, later = some_users(1, torch.float64)
    raw = torch.randn(N_TRACKS, WIDTH, dtype=torch.float64)
    a = F.normalize(raw, dim=1)
    scores = (x @ a @ a.T) * (1 - x)
    expected = (2 - 2 * F.cosine_similarity(scores, later)).mean() / N_TRACKS
    batch = HistoryBatch(ragged(x), ragged(later))
    assert held_out_loss(raw, batch).item() == pytest.approx(expected.item(), rel=1e-12)


def test_bfloat16_rounds_the_products_alone():
    x, _ = some_users(2, torch.float32)
    raw = torch.randn(N_TRACKS, WIDTH).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = reconstruction_loss(raw, ragged(x))
    (gradient,) = torch.autograd.grad(found, raw)
    expected = dense_loss(raw, x)
    (wanted,) = torch.autograd.grad(expected, raw)
    assert found.dtype == gradient.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=0.02)
    assert F.cosine_similarity(gradient.flatten(), wanted.flatten(), dim=0) > 0.999


def test_neither_loss_nor_gradient_holds_users_by_tracks(monkeypatch):
    """Nothing is as large as 64 users by 20,000 tracks; the vectors, 80,000 numbers, are most."""
    monkeypatch.setitem(elsa.KEPT_BYTES, "cpu", 0)
    monkeypatch.setitem(elsa.BLOCK_BYTES, "cpu", 1 << 12)
    largest = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest.append(result.numel())
            return result

    raw = torch.randn(20_000, 4, dtype=torch.float64).requires_grad_()
    heard = Ragged(torch.arange(0, 64 * 5 + 1, 5), torch.arange(64 * 5) * 7)
    with Watch():
        reconstruction_loss(raw, heard).backward()
    assert max(largest) <= raw.numel()


def test_tracks_that_nobody_heard_are_learned_from_and_not_ranked():
    torch.manual_seed(0)
    network = Elsa(N_TRACKS - 3, WIDTH, never_heard=3)
    x, _ = some_users(0, torch.float32)
    x[:, -3:] = 0
    network.loss(HistoryBatch(ragged(x))).backward()
    assert network.items.grad[-3:].abs().sum() > 0
    assert network.vectors().shape == (N_TRACKS - 3, WIDTH)
    torch.testing.assert_close(network.vectors().norm(dim=1), torch.ones(N_TRACKS - 3))


def test_a_step_depends_on_no_number_of_tracks():
    """Gradients of 1e-9 and of 1 move a weight by the learning rate alike."""
    steps = []
    for size in (1e-9, 1.0):
        weight = torch.ones(1, requires_grad=True)
        optimizer = Elsa(2, 2).make_optimizer([weight], 0.1)
        (size * weight).sum().backward()
        optimizer.step()
        steps.append(1 - weight.item())
    assert steps == pytest.approx([0.1, 0.1], rel=1e-4)


def test_batches_hold_every_user_once_with_all_they_heard(toy_root):
    from recommenders.interactions import load_split

    split = load_split(toy_root())
    heard = histories_of(split.train, split.val.users)
    data = HistoryDataset(heard, split.val, device="cpu")
    assert data.n_batches(5) == len(list(data.batches(5, 0, shuffle=False)))
    seen = []
    for batch in data.batches(5, 3, shuffle=True):
        parts = [batch.part(i, 2) for i in range(2)]
        assert sum(part.size for part in parts) == batch.size
        for part in parts:
            for i in range(part.size):
                rows = [
                    each.items[each.offsets[i] : each.offsets[i + 1]].tolist()
                    for each in (part.heard, part.wanted)
                ]
                seen.append(rows)
    expected = [
        [split.train.of(user).tolist(), split.val.of(row).tolist()]
        for row, user in enumerate(split.val.users)
    ]
    assert sorted(seen) == sorted(expected) and seen != expected
    again = [b.heard.items.tolist() for b in data.batches(5, 3, shuffle=True)]
    assert again == [b.heard.items.tolist() for b in data.batches(5, 3, shuffle=True)]
    assert np.diff(heard.offsets).tolist() == [len(e[0]) for e in expected]


def test_training_as_published_is_that_of_its_authors_package():
    """Both start from the same draws, and five epochs later the same tracks are near each other."""
    package = pytest.importorskip("elsa", reason="elsarec (requirements-dev.txt)")
    rng = np.random.default_rng(0)
    x = (rng.random((96, 60)) < 0.1).astype(np.float32)
    x[:, 0] = 1  # nobody heard nothing
    torch.manual_seed(1)
    theirs = package.ELSA(n_items=60, n_dims=8, device=torch.device("cpu"), lr=0.1)
    torch.manual_seed(1)
    ours = Elsa(60, 8, nadam=True)
    heard = csr_matrix(x)
    theirs.fit(heard, batch_size=16, epochs=5, verbose=False)
    optimizer = ours.make_optimizer([ours.items], 0.1)
    everybody = ragged(torch.as_tensor(x))
    for _ in range(5):
        for rows in torch.arange(96).split(16):
            optimizer.zero_grad()
            ours.loss(HistoryBatch(everybody.take(rows))).backward()
            optimizer.step()
    expected = F.normalize(torch.as_tensor(theirs.get_items_embeddings(as_numpy=True)), dim=1)
    similar = [each @ each.T for each in (ours.vectors(), expected)]
    torch.testing.assert_close(*similar, rtol=0, atol=0.02)
