"""The benchmarks of training at toy sizes: what they run, print and return."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import bench_gpu, bench_training
from benchmarks.bench_training import BenchConfig, main
from benchmarks.full_size import Size, bert_cost, bert_step, shallow_cost, shallow_step
from core.options import InputError
from recommenders.networks import compiled_hinge, gathered_hinge

TOY = Size(
    **{"users": 60, "tracks": 300, "pairs": 900, "width": 8, "batch": 50, "negatives": 4},
    **{"sequences": 4, "length": 12, "listed": 10, "measured": 60, "many_tracks": 500},
)


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setattr(bench_training, "Size", lambda: TOY)
    monkeypatch.setattr(bench_training, "machine_rates", lambda: (1e9, 1e9))


def test_the_last_line_has_every_part_with_its_two_ratios(toys, capsys):
    main(BenchConfig(repeats=1))
    lines = capsys.readouterr().out.splitlines()
    results = json.loads(lines[-1])
    assert set(results) == {"shallow", "bert4rec", "knn", "metrics"}
    assert all(part["speedup"] > 0 and part["memory_ratio"] > 0 for part in results.values())
    text = "\n".join(lines)
    assert text.count("2 x width") == 3 and text.count("2 x length") == 2
    assert text.count("x the larger") == 3


def test_one_part_alone_is_the_only_one_in_the_last_line(toys, capsys):
    main(BenchConfig(only="metrics"))
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])) == {"metrics"}
    with pytest.raises(InputError, match="--only must be one of .*, got 'bert'"):
        BenchConfig(only="bert")


def test_the_counted_operations_are_those_torch_counts_in_its_products(monkeypatch):
    """torch counts no compiled products: the layer's are torch's here, the pairs' added by hand."""
    network, batch = bert_step(TOY, 0)
    with FlopCounterMode(display=False) as counter:
        network.loss(batch).backward()
    counted = counter.get_total_flops()
    assert bert_cost(network, batch)[0] == pytest.approx(counted, rel=0.1)

    for part in ("layer_to_unit", "gradient_of_layer"):
        monkeypatch.setattr(compiled_hinge, part, getattr(gathered_hinge, part))
    network, batch = shallow_step(TOY, 0)
    with FlopCounterMode(display=False) as counter:
        network.loss(batch).backward()
    pairs = 6 * 50 * 5 * TOY.width
    assert shallow_cost(network, batch)[0] == counter.get_total_flops() + pairs


def test_the_gpu_benchmark_times_the_same_code_on_a_cpu(capsys):
    sizes = {"users": 60, "tracks": 300, "pairs": 900, "length": 12, "steps": 2, "batch": 16}
    bench_gpu.main(bench_gpu.GpuConfig(device="cpu", widths=(8, 16), **sizes))
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["epoch_seconds"]["bert4rec"]) == {"8", "16"}
    # All 7 backbones are wider than these; 3 seeds, 100 epochs.
    widest = sum(result["epoch_seconds"][name]["16"] for name in ("shallow", "bert4rec"))
    assert result["study_hours"] * 3600 == pytest.approx(7 * 3 * 100 * widest, rel=1e-6)


def test_without_a_gpu_the_gpu_benchmark_says_that_nothing_was_measured(capsys):
    if torch.cuda.is_available():
        pytest.skip("torch finds a GPU here")
    bench_gpu.main(bench_gpu.GpuConfig())
    assert "torch finds no GPU here: nothing was measured" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"widths": (7,)}, {"widths": (16, 8)}, {"steps": 0}])
def test_sizes_that_cannot_be_timed_are_errors(options):
    with pytest.raises(InputError):
        bench_gpu.GpuConfig(**options)
