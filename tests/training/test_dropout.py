"""Dropout by hashes, and the attention that has it, beside their definitions."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from recommenders.compiled import compiled, exp_of
from recommenders.networks import bert, compiled_attention
from recommenders.networks.bert import Bert
from recommenders.networks.compiled_attention import (
    Dropout,
    _Attention,
    _drop_shares,
    _hash,
    _rule,
    dropped,
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


def kept_shares(block, length, probability):
    """Return what _Attention multiplies the shares of a sequence and head by, (length, length)."""
    kept, ones = np.ones((2, length, length), np.float32)
    _drop_shares(ones, block, SEED, *_rule(probability), kept)
    return torch.as_tensor(kept, dtype=torch.double)


@pytest.mark.parametrize(
    ("lengths", "heads", "width"), [((1,), 1, 1), ((7, 2, 5), 2, 8), ((12, 1, 3, 11, 4), 3, 6)]
)
def test_attention_and_its_gradients_are_those_of_the_definition(lengths, heads, width):
    generator = torch.Generator().manual_seed(0)
    b, length, real = len(lengths), max(lengths), torch.as_tensor(lengths)
    inside = torch.arange(length) < real[:, None]
    n = int(real.sum())
    states = [torch.randn(n, width, generator=generator) for _ in range(3)]
    grad = torch.randn(n, width, generator=generator)
    ours = [each.clone().requires_grad_() for each in states]
    out = _Attention.apply(*ours, real.cumsum(0).numpy(), heads, 0.3, SEED)
    out.backward(grad)

    kept = torch.zeros(b, heads, length, length, dtype=torch.double)
    for i, own in enumerate(lengths):
        for head in range(heads):
            kept[i, head, :own, :own] = kept_shares(i * heads + head, own, 0.3)
    plain = [each.double().requires_grad_() for each in states]
    q, k, v = (
        torch.zeros(b, length, width, dtype=torch.double)
        .masked_scatter(inside[..., None], each)
        .view(b, length, heads, -1)
        .transpose(1, 2)
        for each in plain
    )
    logits = q @ k.transpose(2, 3) / math.sqrt(width // heads)
    shares = logits.masked_fill(~inside[:, None, None], -torch.inf).softmax(-1) * kept
    expected = (shares @ v).transpose(1, 2).reshape(b, length, width)[inside]
    expected.backward(grad.double())
    assert torch.allclose(out.double(), expected, atol=1e-6)
    for found, true in zip(ours, plain, strict=True):
        assert torch.allclose(found.grad.double(), true.grad, atol=1e-5)


def transformers_of(dropout):
    """Return BertModel, and ours, drawn from the same seed; and what each then draws next."""
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
    torch.manual_seed(3)
    plain, after = BertModel(options, add_pooling_layer=False), torch.rand(1)
    plain.embeddings.word_embeddings = None
    torch.manual_seed(3)
    ours = Bert(8, layers=2, heads=2, ffn=16, max_length=9, dropout=dropout)
    assert torch.equal(torch.rand(1), after)
    return plain, ours


def inputs():
    real = torch.arange(9) < torch.tensor([[9], [4], [1]])
    return {"inputs_embeds": torch.randn(3, 9, 8), "attention_mask": real.long()}


def test_the_transformer_starts_as_bertmodel_does_under_the_same_names():
    plain, ours = (each.state_dict() for each in transformers_of(0.2))
    assert list(ours) == list(plain)
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


@pytest.mark.parametrize("packed", [True, False], ids=["cpu", "as on a gpu"])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_the_transformer_and_its_gradients_are_bertmodels_where_nothing_is_dropped(
    monkeypatch, kind, packed
):
    monkeypatch.setattr(bert, "PACKED_ON", {"cpu"} if packed else set())
    plain, ours = transformers_of(0.2)
    given = inputs()
    real = given["attention_mask"].bool()
    for each in (plain, ours):
        for weight in each.eval().parameters():
            weight.data *= 10  # so that attention is not the mean of all
    slopes = torch.randn(int(real.sum()), 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
        expected = plain(**given).last_hidden_state[real]
        whole = ours(**given)
    found = whole[real]
    assert torch.allclose(found, expected, atol=1e-5 if kind == "float32" else 0.1)
    if kind == "float32":
        (expected * slopes).sum().backward()
        (found * slopes).sum().backward()
        true, own = (
            {name: weight.grad for name, weight in each.named_parameters()}
            for each in (plain, ours)
        )
        for name, grad in true.items():  # of a key's bias it is 0 but for rounding
            scale = 1 if name.endswith("key.bias") else grad.abs().max()
            assert (own[name] - grad).abs().max() < 1e-4 * scale, name


def test_the_transformer_drops_in_every_place_where_bertmodel_does(monkeypatch):
    """With one chance in 10^6 to be dropped, what is left is BertModel's, by our kernels."""
    asked = []
    monkeypatch.setattr(
        compiled_attention, "drawn_seed", lambda: asked.append(1) or np.uint64(len(asked))
    )
    plain, ours = transformers_of(1e-6)
    given = inputs()
    real = given["attention_mask"].bool()
    found = ours.train()(**given)[real]
    expected = plain.eval()(**given).last_hidden_state[real]
    assert torch.allclose(found, expected, atol=1e-4)
    assert len(asked) == 1 + 2 * 3  # the input; each layer's shares, attention and feed-forward


def test_a_step_on_a_device_asks_for_no_number():
    """On meta, which holds none, it would fail: a GPU would have the program wait."""
    _, ours = transformers_of(0.2)
    given = {name: each.to("meta") for name, each in inputs().items()}
    hidden = ours.train().to("meta")(**given)
    hidden.sum().backward()
    assert hidden.shape == (3, 9, 8)
    assert all(weight.grad.shape == weight.shape for weight in ours.parameters())


def test_training_drops_by_torchs_seed():
    _, ours = transformers_of(0.2)
    given = inputs()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(ours.train()(**given))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert not F.cosine_similarity(results[0].flatten(), results[2].flatten(), dim=0) > 0.999


def test_what_padding_there_is_changes_nothing():
    _, ours = transformers_of(0.2)
    given = inputs()
    longer = {name: F.pad(x.transpose(1, -1), (0, 4)).transpose(1, -1) for name, x in given.items()}
    longer["inputs_embeds"][:, 9:] = 7.0
    found = []
    for each in (given, longer):
        torch.manual_seed(1)
        found.append(ours.train()(**each)[:, :9])
    assert torch.equal(*found)
