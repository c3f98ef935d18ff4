"""Batches made ahead: the same, in order, and nothing of the maker is left behind."""

import threading
import time

import pytest
import torch

from training.ahead import made_ahead
from training.epochs import train_epoch


def test_it_yields_what_is_made_in_order():
    assert list(made_ahead(iter(range(20)))) == list(range(20))
    assert list(made_ahead([])) == []


def test_the_next_is_made_while_the_one_before_is_used():
    begun = threading.Event()

    def batches():
        yield 0
        begun.set()
        yield 1

    for batch in made_ahead(batches()):
        if batch == 0:
            assert begun.wait(10)


def test_no_more_than_one_is_made_ahead():
    made = []
    batches = made_ahead(made.append(i) or i for i in range(10))
    for _ in range(3):
        next(batches)
    time.sleep(0.05)
    assert len(made) == 4
    batches.close()


def test_an_error_comes_in_the_place_of_its_batch():
    def batches():
        yield 0
        raise ValueError("no second batch")

    made = made_ahead(batches())
    assert next(made) == 0
    with pytest.raises(ValueError, match="no second batch"):
        next(made)


def test_no_thread_is_left_when_a_step_fails():
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="step"):
        for _ in made_ahead(iter(range(5))):
            raise RuntimeError("step")
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.05)
    assert threading.active_count() == before


class Noisy(torch.nn.Module):
    """Its loss draws from torch's own generator, as dropout does."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))

    def loss(self, batch):
        return (self.weight * batch.numbers * torch.rand(4)).sum()


class Numbers:
    size = 1

    def __init__(self, generator):
        self.numbers = torch.rand(4, generator=generator)


def test_an_epoch_is_the_same_whether_batches_are_made_ahead_or_not(monkeypatch):
    class Options:
        seed, precision = 3, "float32"

    def batches(seed):
        generator = torch.Generator().manual_seed(seed)
        return (Numbers(generator) for _ in range(30))

    losses = []
    for make in (made_ahead, iter):
        monkeypatch.setattr("training.epochs.made_ahead", make)
        network = Noisy()
        optimizers = [torch.optim.SGD(network.parameters(), 0.01)]
        losses.append(train_epoch(network, optimizers, batches, 0, 30, Options))
    assert losses[0] == losses[1]
