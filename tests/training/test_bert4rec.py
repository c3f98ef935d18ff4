"""BERT4Rec: loss and gradients against full logits, frozen tracks, padding, prediction."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import bert4rec
from bert4rec import BERT4Rec
from dataset import MaskedBatch

N_ITEMS, WIDTH, MASK, PAD = 23, 8, 23, 24


def network(seed=0, *, train_tracks=False, max_length=12, scale=1.0, **options):
    torch.manual_seed(seed)
    vectors = np.random.default_rng(seed).standard_normal((N_ITEMS, WIDTH)).astype(np.float32)
    return BERT4Rec(scale * vectors, train_tracks=train_tracks, max_length=max_length, **options)


def batch_of(seed=0, lengths=(12, 3, 7, 1, 9), share=0.4):
    rng = np.random.default_rng(seed)
    tokens = np.full((len(lengths), max(lengths)), PAD)
    truth = tokens.copy()
    for row, n in enumerate(lengths):
        truth[row, :n] = rng.choice(N_ITEMS, n, replace=False)
        tokens[row, :n] = np.where(rng.random(n) < share, MASK, truth[row, :n])
    places = np.flatnonzero(tokens == MASK)
    return MaskedBatch(*map(torch.as_tensor, (tokens, places, truth.ravel()[places])))


def plain_loss(net, batch):
    """Logits at every position over all tracks, the mask and padding; F.cross_entropy."""
    table = torch.cat([net.items, net.mask[None], torch.zeros(1, WIDTH, dtype=net.mask.dtype)])
    vectors = F.embedding(batch.tokens, table)
    real = (batch.tokens != PAD).long()
    hidden = net.transformer(inputs_embeds=vectors, attention_mask=real)
    logits = hidden @ table.T
    assert logits.shape[-1] == N_ITEMS + 2
    labels = torch.full_like(batch.tokens, -100).flatten()
    labels[batch.positions] = batch.targets
    return F.cross_entropy(logits.flatten(0, 1), labels)


def gradients(net, loss_of, batch):
    """Loss and gradients, dropout drawn alike each time."""
    net.zero_grad()
    torch.manual_seed(7)
    loss = loss_of(batch)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in net.named_parameters() if p.requires_grad}


def assert_same(net, batch, tolerance):
    loss, found = gradients(net, net.loss, batch)
    expected, plain = gradients(net, lambda b: plain_loss(net, b), batch)
    assert loss == pytest.approx(expected, rel=tolerance)
    largest = max(g.abs().max() for g in plain.values())
    for name, gradient in plain.items():
        # A key's bias moves no softmax: its gradient is 0 but for rounding, on any path.
        scale = largest if name.endswith("key.bias") else gradient.abs().max()
        assert scale > 0, f"{name} has no gradient to compare"
        assert (found[name] - gradient).abs().max() <= tolerance * scale, name


def as_on_a_gpu(monkeypatch):
    """Make the logits of frozen tracks in torch's operations."""
    monkeypatch.setattr("recommenders.networks.compiled_softmax.is_made_for", lambda *_: False)


def in_blocks(monkeypatch, rows):
    """Hold the logits of some rows at a time; of frozen tracks, of 5 rows and some tracks."""
    monkeypatch.setattr("recommenders.networks.compiled_softmax.ROWS", min(rows, 5))
    monkeypatch.setattr("recommenders.networks.compiled_softmax.TRACKS", rows)
    monkeypatch.setitem(bert4rec.LOGIT_BYTES, "cpu", 4 * N_ITEMS * rows)
    monkeypatch.setitem(bert4rec.TRACK_BYTES, "cpu", 4 * N_ITEMS * rows)
    monkeypatch.setitem(bert4rec.ROWS, "cpu", 5)


@pytest.mark.parametrize(
    ("train_tracks", "rows"), list(itertools.product([True, False], [1, 3, 1000]))
)
def test_loss_and_gradients_are_those_of_full_logits_however_they_are_cut(
    monkeypatch, train_tracks, rows
):
    """rows: of all logits, held at a time; the batch has 14 masks or so."""
    in_blocks(monkeypatch, rows)
    net, batch = network(train_tracks=train_tracks), batch_of()
    assert len(batch.targets) > 10
    assert_same(net, batch, 1e-5)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_of_frozen_tracks_they_are_the_same_as_a_gpu_makes_them(monkeypatch, rows):
    as_on_a_gpu(monkeypatch)
    in_blocks(monkeypatch, rows)
    assert_same(network(), batch_of(), 1e-5)


@pytest.mark.parametrize("train_tracks", [True, False])
def test_the_sums_agree_to_double_precision(monkeypatch, train_tracks):
    in_blocks(monkeypatch, 3)
    assert_same(network(train_tracks=train_tracks).double(), batch_of(), 1e-10)


@pytest.mark.parametrize("train_tracks", [True, False])
def test_logits_far_from_zero_neither_overflow_nor_lose_the_extra_rows(train_tracks):
    for scale in (100.0, 1e-3):
        net = network(train_tracks=train_tracks, scale=scale)
        loss, found = gradients(net, net.loss, batch_of())
        expected, plain = gradients(net, lambda b, net=net: plain_loss(net, b), batch_of())
        assert loss == pytest.approx(expected, rel=1e-5)
        assert all(torch.isfinite(gradient).all() for gradient in found.values())
        assert torch.allclose(found["mask"], plain["mask"], rtol=1e-3, atol=1e-5)


def test_an_outer_factor_scales_the_gradients():
    net, batch = network(train_tracks=True).eval(), batch_of()
    _, once = gradients(net, net.loss, batch)
    _, thrice = gradients(net, lambda b: 3 * net.loss(b), batch)
    for name, gradient in once.items():
        assert torch.allclose(thrice[name], 3 * gradient, rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("train_tracks", [True, False])
def test_validation_without_gradients_gives_the_same_loss(train_tracks):
    net, batch = network(train_tracks=train_tracks).eval(), batch_of()
    with torch.no_grad():
        assert net.loss(batch).item() == pytest.approx(plain_loss(net, batch).item(), rel=1e-6)


@pytest.mark.parametrize("train_tracks", [True, False])
def test_frozen_tracks_stay_the_mask_learns_and_padding_is_zero(train_tracks):
    net, batch = network(train_tracks=train_tracks), batch_of()
    assert ("items" in dict(net.named_parameters())) == train_tracks
    assert ("items" in net.state_dict()) == train_tracks
    items, mask = net.items.clone(), net.mask.clone()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    assert torch.equal(items, net.items) == (not train_tracks)
    assert not torch.equal(mask, net.mask)
    seen = []
    net.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    net.encode(batch.tokens)
    assert seen[0][batch.tokens == PAD].abs().max() == 0
    assert torch.equal(seen[0][batch.tokens == MASK][0], net.mask)


def test_the_mask_starts_small_and_follows_the_seed():
    wide = np.zeros((3, 2000), np.float32)
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(BERT4Rec(wide, train_tracks=False, max_length=3).mask.detach())
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert abs(masks[0].mean()) < 0.002 and abs(masks[0].std() - 0.02) < 0.002


def test_a_padded_batch_scores_as_single_sequences():
    net = network().eval()
    tokens = batch_of().tokens
    lengths = (tokens != PAD).sum(1)
    places = lengths - 1
    together = net.scores(tokens, places)
    assert together.shape == (len(tokens), N_ITEMS), "mask and padding are no candidates"
    for row, n in enumerate(lengths):
        alone = net.scores(tokens[row : row + 1, :n], places[row : row + 1])
        assert torch.allclose(together[row], alone[0], rtol=1e-4, atol=1e-5)


def test_a_prediction_is_the_hidden_state_at_the_mask_times_the_tracks():
    net = network().eval()
    tokens = torch.tensor([[3, 5, MASK, PAD]])
    with torch.no_grad():
        hidden = net.encode(tokens)[0, 2]
    assert torch.allclose(net.scores(tokens, torch.tensor([2]))[0], net.items @ hidden, rtol=1e-5)


def test_the_order_of_a_history_matters():
    net = network().eval()
    with torch.no_grad():  # before training they are too small to tell from rounding
        net.transformer.embeddings.position_embeddings.weight.mul_(50)
    one, other = torch.tensor([[1, 2, 3, MASK]]), torch.tensor([[3, 2, 1, MASK]])
    place = torch.tensor([3])
    difference = net.scores(one, place) - net.scores(other, place)
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize("train_tracks", [True, False])
def test_in_bfloat16_loss_and_gradients_are_those_of_float32_but_for_rounding(
    monkeypatch, train_tracks
):
    in_blocks(monkeypatch, 3)
    net, batch = network(train_tracks=train_tracks).eval(), batch_of()
    loss, expected = gradients(net, net.loss, batch)

    def rounded_loss(batch):
        with torch.autocast("cpu", torch.bfloat16):
            return net.loss(batch)

    rounded, found = gradients(net, rounded_loss, batch)
    assert rounded != loss, "nothing was rounded"
    assert rounded == pytest.approx(loss, rel=0.02)
    largest = max(g.norm() for g in expected.values())
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() < 0.1 * max(gradient.norm(), 0.01 * largest), name


def test_scores_in_bfloat16_are_not_rounded_after_the_network():
    net = network().eval()
    tokens, place = torch.tensor([[3, 5, MASK]]), torch.tensor([2])
    with torch.autocast("cpu", torch.bfloat16):
        scores = net.scores(tokens, place)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


@pytest.mark.parametrize("train_tracks", [True, False])
def test_a_number_that_is_none_makes_the_loss_none(train_tracks):
    """A loss that looked finite would be trained on."""
    net = network(train_tracks=train_tracks)
    with torch.no_grad():
        net.items[3] = torch.nan
    assert net.loss(batch_of()).isnan()


def test_attention_is_the_fused_one_where_it_is_torchs(monkeypatch):
    asked, fused = [], F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: asked.append(1) or fused(*a, **k)
    )
    network().eval().loss(batch_of())
    assert len(asked) == 2


@pytest.mark.gpu
def test_the_gpu_computes_the_same_loss_and_gradients():
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    net, batch = network(train_tracks=True).eval(), batch_of()
    _, expected = gradients(net, net.loss, batch)
    moved = MaskedBatch(batch.tokens.cuda(), batch.positions.cuda(), batch.targets.cuda())
    _, found = gradients(net.cuda(), net.loss, moved)
    largest = max(g.abs().max() for g in expected.values())
    for name, gradient in expected.items():
        assert (found[name].cpu() - gradient).abs().max() <= 1e-3 * largest, name
