"""The contrastive losses against plain transcriptions, and the two towers that learn by them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recommenders.networks import contrastive
from recommenders.networks.bimodal import Bimodal, TrackBatch, n_batches, track_batches
from recommenders.networks.contrastive import LOSSES, contrastive_loss

B, WIDTH, T, SIGMA = 23, 6, 0.1, 0.5


def views(kind=torch.float64):
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2, B, WIDTH, dtype=kind, generator=generator)
    return [F.normalize(each, dim=1).requires_grad_() for each in draws]


def plain(kind, c, k, weighted, anchors=slice(None)):
    """The definitions over whole matrices."""
    off = 1 - torch.eye(B, dtype=c.dtype)
    s = (c * k).sum(1)
    weight = 2 - B * torch.softmax(s / SIGMA, dim=0) if weighted else 1

    def e(x, y):
        return (torch.exp(x @ y.T / T) * off).sum(1)

    positive = -s / T * weight
    each = {
        "adcl": lambda: positive + torch.log(e(c, k)),
        "dcl": lambda: 2 * positive + torch.log(e(c, c) + e(c, k)) + torch.log(e(k, k) + e(k, c)),
        "sdcl": lambda: positive + torch.log(e(c, c) + e(c, k) + e(k, k)),
    }[kind]()
    return each[anchors].mean()


@pytest.mark.parametrize("block", [1, 4 * B * 3, 1 << 20])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_values_and_gradients_are_those_of_the_definition(monkeypatch, kind, weighted, block):
    monkeypatch.setitem(contrastive.LOGIT_BYTES, "cpu", block)
    c, k = views()
    sigma = SIGMA if weighted else None
    for anchors in (slice(0, B), slice(5, 12)):
        expected = plain(kind, c, k, weighted, anchors)
        found = contrastive_loss(kind, c, k, temperature=T, sigma=sigma, anchors=anchors)
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)
        wanted = torch.autograd.grad(3 * expected, (c, k))
        for one, other in zip(torch.autograd.grad(3 * found, (c, k)), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_float32_and_bfloat16_are_near():
    c, k = views(torch.float32)
    expected = plain("sdcl", c, k, True)
    found = contrastive_loss("sdcl", c, k, temperature=T, sigma=SIGMA)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        found = contrastive_loss("sdcl", c, k, temperature=T, sigma=SIGMA)
    assert found.item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("kind", LOSSES)
def test_parts_of_a_batch_have_its_loss_and_gradient_together(kind):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network = Bimodal(rng.normal(size=(B, 4)), rng.normal(size=(B, 5)), 7, loss=kind, sigma=SIGMA)
    (batch,) = track_batches(B, B, 0, "cpu")
    network.loss(batch).backward()
    whole = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    for part in (batch.part(0, 3), batch.part(1, 3), batch.part(2, 3)):
        (network.loss(part) * (part.size / batch.size)).backward()
    for parameter, expected in zip(network.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    assert TrackBatch(batch.items[:2], slice(0, 1)).part(0, 2).size == 0


@pytest.mark.parametrize(("n", "size", "sizes"), [(7, 3, [3, 4]), (8, 3, [3, 3, 2]), (3, 9, [3])])
def test_every_track_is_in_one_batch_and_none_is_alone(n, size, sizes):
    batches = list(track_batches(n, size, 1, "cpu"))
    assert [batch.size for batch in batches] == sizes and n_batches(n, size) == len(sizes)
    assert torch.cat([b.items for b in batches]).sort().values.tolist() == list(range(n))


def test_what_ranks_has_length_1_as_the_loss_saw_it_unless_as_published():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(B, 4)), rng.normal(size=(B, 5))
    torch.manual_seed(0)
    mended = Bimodal(*data, 7)
    published = Bimodal(*data, 7, unit_length=False)
    published.load_state_dict(mended.state_dict())
    c, k = published.vectors("content"), published.vectors("collaborative")
    torch.testing.assert_close(published.vectors("average"), c + k)
    unit = [F.normalize(each, dim=1) for each in (c, k)]
    torch.testing.assert_close(mended.vectors("content"), unit[0])
    torch.testing.assert_close(mended.vectors("collaborative"), unit[1])
    torch.testing.assert_close(mended.vectors("average"), F.normalize(unit[0] + unit[1], dim=1))
    cold = torch.randn(3, 4)
    torch.testing.assert_close(
        mended.vectors(content=cold), F.normalize(mended.content_tower(cold), dim=1)
    )
