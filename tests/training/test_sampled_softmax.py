"""The sampled softmax: its sum is the full one's in expectation, and it nears the full loss."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from bert4rec import BERT4Rec
from core.splits import read_split
from dataset import SequenceDataset
from evaluation.measures import per_user_metrics
from recommenders.interactions import load_split
from recommenders.networks.sampled_softmax import ClassSampler, Sample, sampled_cross_entropy

N, WIDTH = 6, 4


def rows(seed=0, n=5, n_items=N):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n, WIDTH), (n_items, WIDTH), (WIDTH,)]
    made = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    return *made, torch.randint(n_items, (n,), generator=generator)


def full(hidden, items, mask, targets):
    table = torch.cat([items, mask[None], torch.zeros_like(mask)[None]])
    return torch.nn.functional.cross_entropy(hidden @ table.T, targets)


@pytest.mark.parametrize("m", [2, 3])
def test_the_sum_over_a_sample_is_the_full_sum_in_expectation(m):
    """Exactly: over every sample there is, by its probability."""
    tokens = torch.tensor([0, 0, 0, 1, 1, 4, 5, 5])
    sampler = ClassSampler(tokens, N, m)
    popular = torch.bincount(tokens, minlength=N).double() / len(tokens)
    draws = [popular] * (m - m // 2) + [torch.full((N,), 1 / N, dtype=torch.float64)] * (m // 2)
    hidden, items, mask, targets = (t.detach() for t in rows())
    logits = hidden @ items.T
    estimate = torch.zeros(len(hidden), dtype=torch.float64)
    for classes in itertools.product(range(N), repeat=m):
        chance = float(np.prod([p[c] for p, c in zip(draws, classes, strict=True)]))
        classes = torch.tensor(classes)
        sample = Sample(classes, sampler.log_q[classes] + np.log(m))
        for row in range(len(hidden)):
            # What the loss is of one row, turned back into the sum that it was made of.
            one = slice(row, row + 1)
            loss = sampled_cross_entropy(hidden[one], items, mask, targets[one], sample)
            total = (loss + logits[row, targets[row]]).double().exp()
            estimate[row] += chance * total
    exact = (hidden @ torch.cat([items, mask[None], 0 * mask[None]]).T).double().exp().sum(1)
    torch.testing.assert_close(estimate, exact, rtol=1e-5, atol=1e-5)


def test_a_large_sample_has_the_full_loss_and_gradients(monkeypatch):
    tokens = torch.arange(30).repeat_interleave(torch.arange(30) % 4)
    sampler = ClassSampler(tokens, 30, 400_000)
    sample = sampler.draw(torch.Generator().manual_seed(0))
    assert sample.classes.shape == (400_000,) and sample.classes.unique().numel() == 30
    ours, theirs = rows(1, 40, 30), rows(1, 40, 30)
    monkeypatch.setattr(
        "recommenders.networks.sampled_softmax.LOGIT_BYTES", {"cpu": 4 * 400_000 * 7}
    )  # several blocks
    loss, exact = sampled_cross_entropy(*ours, sample), full(*theirs)
    torch.testing.assert_close(loss, exact, rtol=3e-3, atol=0)
    loss.backward(), exact.backward()
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0.05, atol=2e-3)


def test_batches_draw_by_the_seed_and_parts_share_the_sample(toy_root):
    split = load_split(toy_root())
    data = SequenceDataset(split.train, split.n_items, 20, "cpu")
    sampler = ClassSampler(data.tokens, split.n_items, 16)
    options = {"mask_share": 0.3, "shuffle": True}
    plain = list(data.masked_batches(8, 3, **options))
    sampled = [list(data.masked_batches(8, 3, sampler=sampler, **options)) for _ in range(2)]
    for before, one, two in zip(plain, *sampled, strict=True):
        assert before.sample is None
        assert torch.equal(before.tokens, one.tokens) and torch.equal(before.targets, one.targets)
        assert torch.equal(one.sample.classes, two.sample.classes)
    assert not torch.equal(sampled[0][0].sample.classes, sampled[0][1].sample.classes)
    torch.manual_seed(0)
    vectors = np.random.default_rng(0).normal(size=(split.n_items, 8)).astype(np.float32)
    network = BERT4Rec(vectors, train_tracks=True, max_length=20, dropout=0.0).eval()
    batch = sampled[0][0]
    parts = [batch.part(i, 3) for i in range(3)]
    mean = sum(part.size * network.loss(part) for part in parts) / batch.size
    torch.testing.assert_close(network.loss(batch), mean)


def test_a_run_by_samples_finds_the_tastes(toy_root, call):
    root = toy_root()
    flags = ("--root", root, "--embedding", "toy", "--epochs", "30", "--batch-size", "8")
    call("train_bert", *flags, "--softmax", "sampled", "--classes", "64", "--tag", "sampled")
    recs = pd.read_parquet(root / "runs" / "bert4rec-toy-sampled-s1" / "recs.pqt")
    recall = per_user_metrics(read_split(root)["test"], recs, (50,))["Recall@50"].mean()
    assert recall > 0.6  # of some 150 candidates 50 are listed: chance is a third
