"""Shallow Net: its loss and every gradient against the pair-by-pair definition."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import model
from dataset import PairBatch
from model import ShallowEmbeddingModel
from recommenders.networks import compiled_hinge, gathered_hinge
from recommenders.networks.gathered_hinge import sampled_products

N_USERS, N_ITEMS, WIDTH, HIDDEN = 9, 14, 5, 7


def network(seed=0, *, users=True, tracks=True, item_sampling=True, **options):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    made = ShallowEmbeddingModel(
        rng.standard_normal((N_USERS, WIDTH), dtype=np.float32),
        rng.standard_normal((N_ITEMS, WIDTH), dtype=np.float32),
        HIDDEN,
        train_users=users,
        train_tracks=tracks,
        negatives_are_users=item_sampling,
        **options,
    )
    with torch.no_grad():  # without this the bias is small, and few units are ever dead
        made.layer[0].bias.normal_(std=0.5)
    return made


def batch_of(seed=0, *, item_sampling=True, b=40, n=6, weights=False):
    """A batch in which users, tracks and negatives repeat, within and across pairs."""
    rng = np.random.default_rng(seed)
    high = N_USERS if item_sampling else N_ITEMS
    return PairBatch(
        torch.as_tensor(rng.integers(N_USERS, size=b)),
        torch.as_tensor(rng.integers(N_ITEMS, size=b)),
        torch.as_tensor(rng.integers(high, size=(b, n))),
        torch.as_tensor(rng.uniform(1, 9, size=b)).float() if weights else None,
    )


def plain_loss(net, batch):
    """Linear, ReLU and CosineSimilarity, one pair and one negative at a time."""
    cosine = nn.CosineSimilarity(dim=0, eps=1e-8)

    def like(user, item):
        return cosine(net.layer(net.users[user]), net.layer(net.items[item]))

    total = 0
    for row, (user, item) in enumerate(zip(batch.users, batch.items, strict=True)):
        weight = 1 if batch.weights is None else batch.weights[row]
        for negative in batch.negatives[row]:
            worse = like(negative, item) if net.negatives_are_users else like(user, negative)
            total = total + weight * torch.relu(net.margin - like(user, item) + worse)
    squares = sum((p**2).sum() for p in net.parameters())
    return total / batch.negatives.numel() + net.l2 * squares


def assert_same(net, batch, tolerance):
    """Compare the loss and all gradients, each relative to its largest value."""
    results = []
    for loss_of in (net.loss, lambda b: plain_loss(net, b)):
        net.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
        results.append((loss.item(), gradients))
    (loss, gradients), (expected, plain) = results
    assert expected > 0
    assert loss == pytest.approx(expected, rel=tolerance)
    for name, gradient in plain.items():
        scale = gradient.abs().max()
        assert scale > 0, f"{name} has no gradient to compare"
        assert (gradients[name] - gradient).abs().max() <= tolerance * scale, name


CASES = list(itertools.product([True, False], [True, False], [0.0, 0.01], [True, False]))


@pytest.mark.parametrize(("item_sampling", "weights", "l2", "tracks"), CASES)
def test_loss_and_gradients_are_those_of_the_definition(item_sampling, weights, l2, tracks):
    net = network(item_sampling=item_sampling, l2=l2, tracks=tracks)
    batch = batch_of(item_sampling=item_sampling, weights=weights)
    assert_same(net, batch, 1e-5)


@pytest.mark.parametrize("item_sampling", [True, False])
def test_the_sums_agree_to_double_precision(item_sampling):
    net = network(item_sampling=item_sampling, users=False).double()
    assert_same(net, batch_of(item_sampling=item_sampling), 1e-12)


def test_users_whose_units_are_all_dead_have_cosine_0_and_no_gradient():
    net = network()
    with torch.no_grad():
        net.layer[0].bias.fill_(-0.2)
        net.users[:3] = 0
    assert net.unit(net.users[:3]).abs().max() == 0
    batch = batch_of()
    assert_same(net, batch, 1e-5)
    assert net.users.grad[:3].abs().max() == 0


def test_a_margin_that_is_kept_costs_nothing_and_one_that_is_not_costs_the_rest():
    net = network(margin=0.2)
    with torch.no_grad():
        net.layer[0].weight.copy_(torch.eye(HIDDEN, WIDTH))
        net.layer[0].bias.zero_()
        net.users[0], net.users[1] = torch.eye(WIDTH)[0], torch.eye(WIDTH)[1]
        net.items[0] = torch.eye(WIDTH)[0]
    right = PairBatch(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1]]), None)
    wrong = PairBatch(torch.tensor([1]), torch.tensor([0]), torch.tensor([[0]]), None)
    assert net.loss(right).item() == 0
    assert net.loss(wrong).item() == pytest.approx(1.2)


@pytest.mark.parametrize(("users", "tracks"), list(itertools.product([True, False], repeat=2)))
def test_frozen_vectors_stay_and_are_kept_out_of_the_checkpoint(users, tracks):
    net = network(users=users, tracks=tracks)
    before = {name: getattr(net, name).clone() for name in ("users", "items")}
    trained = {"layer.0.weight", "layer.0.bias"}
    trained |= {name for name, on in (("users", users), ("items", tracks)) if on}
    assert {name for name, p in net.named_parameters() if p.requires_grad} == trained
    assert set(net.state_dict()) == trained
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net.loss(batch_of()).backward()
    optimizer.step()
    for name, on in (("users", users), ("items", tracks)):
        assert torch.equal(before[name], getattr(net, name)) == (not on)


def test_a_networks_cosines_are_those_it_learns_by():
    net = network()
    users, items = net.unit_vectors()
    for user, item in ((0, 0), (N_USERS - 1, N_ITEMS - 1)):
        with torch.no_grad():
            left, right = net.layer(net.users[user]), net.layer(net.items[item])
        expected = nn.functional.cosine_similarity(left, right, dim=0)
        assert (users[user] @ items[item]).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (4, 3, 6, 5), (5, 7, 8, 4), (3, 8, 2, 4)])
def test_products_at_chosen_places_are_those_of_the_dense_product(shape):
    """b, n, m, h; with 7 places among 8 rows, and 8 among 2, rows come twice in one line."""
    b, n, m, h = shape
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(b, h, dtype=torch.double, generator=generator, requires_grad=True)
    right = torch.randn(m, h, dtype=torch.double, generator=generator, requires_grad=True)
    rows = torch.randint(m, (b, n), generator=generator)
    expected = (left @ right.T).gather(1, rows)
    assert torch.allclose(sampled_products(left, right, rows), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x, y: sampled_products(x, y, rows), (left, right))


@pytest.mark.parametrize("memory", [1, 200, 1 << 20])
def test_products_as_a_gpu_gathers_them_are_the_same_in_any_number_of_parts(monkeypatch, memory):
    monkeypatch.setattr(gathered_hinge, "GATHER_BYTES", memory)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 5, dtype=torch.double, generator=generator) for n in (6, 9))
    rows = torch.randint(9, (6, 4), generator=generator)
    expected = (left @ right.T).gather(1, rows)
    assert torch.allclose(
        gathered_hinge._gathered_products(left, right, rows), expected, rtol=1e-12
    )


@pytest.mark.parametrize(("item_sampling", "weights", "l2", "tracks"), CASES)
def test_as_a_gpu_makes_them_loss_and_gradients_are_the_same(
    monkeypatch, item_sampling, weights, l2, tracks
):
    monkeypatch.setattr(model, "compiled_hinge", gathered_hinge)
    net = network(item_sampling=item_sampling, l2=l2, tracks=tracks)
    assert_same(net, batch_of(item_sampling=item_sampling, weights=weights), 1e-5)


@pytest.mark.parametrize("item_sampling", [True, False])
@pytest.mark.parametrize("many", [0, 1e9], ids=["the whole table", "what is drawn"])
def test_whether_the_whole_table_or_what_is_drawn_goes_through_the_layer_is_the_same(
    monkeypatch, item_sampling, many
):
    monkeypatch.setattr(model, "MANY", many)
    net, asked = network(item_sampling=item_sampling), []
    unit = net.unit
    monkeypatch.setattr(net, "unit", lambda vectors: asked.append(len(vectors)) or unit(vectors))
    batch = batch_of(item_sampling=item_sampling, b=5, n=1)
    assert_same(net, batch, 1e-5)
    assert ((N_USERS in asked) and (N_ITEMS in asked)) == (many == 0)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 3, 6, 5), (70, 20, 90, 33)])
def test_the_hinge_loss_of_a_cpu_and_of_a_gpu_are_those_of_the_dense_product(double, shape):
    """b, n, m, h; a third of the pairs are within the margin, or its loss would say nothing."""
    b, n, m, h = shape
    kind = torch.double if double else torch.float
    generator = torch.Generator().manual_seed(0)
    left, right = (
        nn.functional.normalize(torch.randn(size, h, dtype=kind, generator=generator))
        for size in (1 + b // 2, m)
    )
    anchors = torch.randint(len(left), (b,), generator=generator)
    rows = torch.randint(m, (b, 1 + n), generator=generator)
    weights = torch.rand(b, generator=generator)
    results = []
    for compute in (compiled_hinge.hinge_loss, gathered_hinge.hinge_loss, dense_hinge_loss):
        x, y = left.clone().requires_grad_(), right.clone().requires_grad_()
        loss = compute(x, anchors, y, rows, 0.1, weights)
        (3 * loss).backward()
        with torch.no_grad():
            again = compute(x, anchors, y, rows, 0.1, weights)
            assert again.item() == pytest.approx(loss.item(), rel=1e-6)
        results.append((loss.detach(), x.grad, y.grad))
    *found, expected = results
    for result in found:
        for ours, true in zip(result, expected, strict=True):
            assert torch.allclose(ours, true, rtol=1e-5, atol=1e-12 if double else 1e-6)


def dense_hinge_loss(left, anchors, right, rows, margin, weights):
    cosine = (left @ right.T)[anchors].gather(1, rows)
    return ((margin - cosine[:, :1] + cosine[:, 1:]).relu() * weights[:, None]).mean()


@pytest.mark.parametrize("where", ["users", "items", "weight"])
def test_a_number_that_is_none_makes_the_loss_none(where):
    """A loss that looked finite would be trained on."""
    net = network()
    with torch.no_grad():
        (net.layer[0].weight if where == "weight" else getattr(net, where))[:, 0] = torch.nan
    assert net.loss(batch_of()).isnan()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_layer_in_blocks_gives_the_same_gradients(monkeypatch, rows):
    monkeypatch.setattr(compiled_hinge, "BLOCK", 1)
    monkeypatch.setattr(compiled_hinge, "LEAST", rows)
    assert len(list(compiled_hinge._blocks(slice(0, N_USERS), HIDDEN))) > 1
    assert_same(network(), batch_of(), 1e-5)


@pytest.mark.parametrize("item_sampling", [True, False])
def test_in_bfloat16_the_layers_products_are_rounded_and_nothing_else(monkeypatch, item_sampling):
    batch = batch_of(item_sampling=item_sampling)

    def rounded_product(self, vectors):
        linear = self.layer[0]
        z = (vectors.bfloat16() @ linear.weight.bfloat16().T).float() + linear.bias
        return nn.functional.normalize(z.relu(), dim=1, eps=1e-8)

    results = []
    for plainly in (False, True):
        net = network(item_sampling=item_sampling)
        exact = net.loss(batch).item()
        if plainly:
            monkeypatch.setattr(ShallowEmbeddingModel, "unit", rounded_product)
        with torch.autocast("cpu", torch.bfloat16, enabled=not plainly):
            loss = net.loss(batch)
        loss.backward()
        assert loss.item() != exact, "nothing was rounded"
        assert loss.item() == pytest.approx(exact, rel=0.02)
        results.append((loss.item(), {name: p.grad.float() for name, p in net.named_parameters()}))
    (loss, found), (expected_loss, expected) = results
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() < 0.02 * gradient.norm(), name


@pytest.mark.parametrize("item_sampling", [True, False])
def test_sparse_gradients_are_the_dense_ones_and_hold_the_rows_of_the_batch_alone(item_sampling):
    batch = batch_of(item_sampling=item_sampling, b=3, n=2)
    dense = network(item_sampling=item_sampling)
    sparse = network(item_sampling=item_sampling, sparse=True)
    for net in (dense, sparse):
        net.loss(batch).backward()
    for name, parameter in dense.named_parameters():
        found = dict(sparse.named_parameters())[name].grad
        assert found.is_sparse == (name in ("users", "items"))
        assert torch.equal(found.to_dense() if found.is_sparse else found, parameter.grad)
    touched = sparse.items.grad.coalesce().indices().unique()
    assert len(touched) < N_ITEMS
    assert {id(p) for p in sparse.sparse_parameters()} == {id(sparse.users), id(sparse.items)}
    assert dense.sparse_parameters() == []
    frozen = network(sparse=True, tracks=False)
    assert [id(p) for p in frozen.sparse_parameters()] == [id(frozen.users)]


@pytest.mark.gpu
@pytest.mark.parametrize("item_sampling", [True, False])
def test_the_gpu_computes_the_same_loss_and_gradients(item_sampling):
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    net, batch = network(item_sampling=item_sampling), batch_of(item_sampling=item_sampling)
    net.loss(batch).backward()
    expected = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    net.cuda()
    moved = PairBatch(batch.users.cuda(), batch.items.cuda(), batch.negatives.cuda(), None)
    net.loss(moved).backward()
    for name, p in net.named_parameters():
        scale = expected[name].abs().max()
        assert (p.grad.cpu() - expected[name]).abs().max() <= 1e-4 * scale, name
