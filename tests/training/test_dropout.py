"""Dropout by hashes, and the attention that has it, beside their definitions."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from recommenders.compiled import compiled, exp_of
from recommenders.networks import compiled_attention
from recommenders.networks.compiled_attention import (
    Dropout,
    _Attention,
    _drop_shares,
    _hash,
    _rule,
    dropped,
    with_compiled_dropout,
)

SEED = np.uint64(12345)


@compiled
def _exps(x, out):
    for i in range(len(x)):
        out[i] = exp_of(x[i])


def test_the_compiled_exponential_is_the_exponential():
    x = -np.concatenate([np.linspace(0, 87, 100_001), np.geomspace(1e-30, 1, 1_000)])
    x = x.astype(np.float32)
    found = np.empty_like(x)
    _exps(x, found)
    assert np.abs(found / np.exp(x.astype(np.float64)) - 1).max() < 4e-7
    _exps(np.array([0, -88, -1e30, -np.inf, np.nan], np.float32), found[:5])
    assert found[:4].tolist() == [1, 0, 0, 0] and np.isnan(found[4])


def test_the_hash_is_that_of_its_paper():
    """The first numbers of SplitMix64 from the seed 0, as its authors' program prints them."""
    found = [_hash(np.uint64(0), np.uint64(place)) for place in range(3)]
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_for_wherever_they_are(probability):
    n = 1_000_000
    found = dropped(torch.ones(n), probability, SEED)
    kept = found > 0
    assert torch.allclose(found[kept], torch.tensor(1 / (1 - probability)))
    off = 5 * math.sqrt(probability * (1 - probability) / (n / 2))  # five standard errors
    for some in (kept[::2], kept[1::2], kept[: n // 2], kept[n // 2 :]):
        assert some.float().mean().item() == pytest.approx(1 - probability, abs=off)
    neighbours = (kept[1:] == kept[:-1]).float().mean().item()
    assert neighbours == pytest.approx(probability**2 + (1 - probability) ** 2, abs=2 * off)


def test_seeds_drop_independently():
    n, other = 1_000_000, np.uint64(12346)
    first, second = (dropped(torch.ones(n), 0.5, seed) > 0 for seed in (SEED, other))
    assert (first == second).float().mean().item() == pytest.approx(0.5, abs=0.0025)


@pytest.mark.parametrize("n", [0, 1, 2, 4095, 4096, 4097, 20_001])
def test_what_is_dropped_knows_no_number_of_cores(monkeypatch, n):
    x = torch.randn(n, generator=torch.Generator().manual_seed(0))
    found = []
    for cores in (1, 2, 5):
        parts = lambda work, n, cores=cores: [  # noqa: E731
            work(slice(n * i // cores, n * (i + 1) // cores)) for i in range(cores)
        ]
        monkeypatch.setattr(compiled_attention, "by_parts", parts)
        found.append(dropped(x, 0.3, SEED))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    kept = found[0] != 0
    assert torch.allclose(found[0][kept], x[kept] / 0.7)


def test_the_gradient_passes_where_a_number_was_kept():
    layer = Dropout(0.4).train()
    x = torch.randn(7, 33, requires_grad=True)
    torch.manual_seed(1)
    out = layer(x)
    grad = torch.randn(7, 33)
    out.backward(grad)
    assert torch.allclose(x.grad, torch.where(out != 0, grad / 0.6, 0))
    torch.manual_seed(1)
    assert torch.equal(layer(x), out)
    assert not torch.equal(layer(x), out)


@pytest.mark.parametrize("case", ["validation", "double", "autocast", "none", "all"])
def test_elsewhere_it_is_torchs_own(case):
    layer = Dropout({"none": 0.0, "all": 1.0}.get(case, 0.5)).train(case != "validation")
    plain = torch.nn.Dropout(layer.p).train(layer.training)
    x = torch.randn(50, dtype=torch.double if case == "double" else torch.float)
    results = []
    for each in (layer, plain):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
            results.append(each(x))
    assert torch.equal(*results)


def kept_shares(b, heads, length, probability):
    """Return what _Attention multiplies each share by, (b, heads, length, length)."""
    ones, found = np.ones((length, length), np.float32), np.empty((b * heads, length, length))
    for block, each in enumerate(found):
        own = np.empty_like(ones)
        _drop_shares(ones, block, SEED, *_rule(probability), own)
        each[:] = own
    return torch.as_tensor(found.reshape(b, heads, length, length), dtype=torch.double)


@pytest.mark.parametrize(
    ("b", "heads", "length", "width"), [(1, 1, 1, 1), (3, 2, 7, 8), (5, 3, 12, 6)]
)
def test_attention_and_its_gradients_are_those_of_the_definition(b, heads, length, width):
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(b, length, width, generator=generator) for _ in range(3)]
    grad = torch.randn(b, length, width, generator=generator)
    lengths = torch.randint(1, length + 1, (b, 1), generator=generator)
    added = torch.where(torch.arange(length) < lengths, 0.0, torch.finfo(torch.float32).min)
    ours = [each.clone().requires_grad_() for each in states]
    out = _Attention.apply(*ours, added, heads, 0.3, SEED)
    out.backward(grad)

    plain = [each.double().requires_grad_() for each in states]
    q, k, v = (each.view(b, length, heads, -1).transpose(1, 2) for each in plain)
    logits = q @ k.transpose(2, 3) / math.sqrt(width // heads) + added.double()[:, None, None]
    shares = logits.softmax(-1) * kept_shares(b, heads, length, 0.3)
    expected = (shares @ v).transpose(1, 2).reshape(b, length, width)
    expected.backward(grad.double())
    assert torch.allclose(out.double(), expected, atol=1e-6)
    for found, true in zip(ours, plain, strict=True):
        assert torch.allclose(found.grad.double(), true.grad, atol=1e-5)


def transformers_of(dropout):
    """Return BertModel, and the same with our dropout."""
    options = BertConfig(
        vocab_size=1,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=9,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation="sdpa",
    )
    plain = BertModel(options, add_pooling_layer=False)
    ours = with_compiled_dropout(BertModel(options, add_pooling_layer=False))
    ours.load_state_dict(plain.state_dict())  # the same names
    return plain, ours


def inputs():
    real = torch.arange(9) < torch.tensor([[9], [4], [1]])
    return {"inputs_embeds": torch.randn(3, 9, 8), "attention_mask": real.long()}


def test_the_transformer_is_bertmodel_where_nothing_is_dropped():
    plain, ours = transformers_of(0.2)
    given = inputs()
    real = given["attention_mask"].bool()
    found, expected = (each.eval()(**given).last_hidden_state[real] for each in (ours, plain))
    assert torch.equal(found, expected)


def test_the_transformer_drops_in_every_place_where_bertmodel_does(monkeypatch):
    """With one chance in 10^6 to be dropped, what is left is BertModel's, by our kernels."""
    asked = []
    monkeypatch.setattr(
        compiled_attention, "drawn_seed", lambda: asked.append(1) or np.uint64(len(asked))
    )
    plain, ours = transformers_of(1e-6)
    given = inputs()
    real = given["attention_mask"].bool()
    found = ours.train()(**given).last_hidden_state[real]
    expected = plain.eval()(**given).last_hidden_state[real]
    assert torch.allclose(found, expected, atol=1e-4)
    assert len(asked) == 1 + 2 * 3  # the input; each layer's shares, attention and feed-forward


def test_training_drops_by_torchs_seed():
    _, ours = transformers_of(0.2)
    given = inputs()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(ours.train()(**given).last_hidden_state)
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert not F.cosine_similarity(results[0].flatten(), results[2].flatten(), dim=0) > 0.999
