"""The loop of both networks: stops, kills and resumes, plateau and early stop, best weights."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from core.artifacts import sha256
from core.options import InputError, WorkError
from recommenders.run_options import EmbeddingOptions
from training import curves, epochs
from training.epochs import derived_seed
from training.fit_options import FitOptions
from training.loop import fit, pick_device

HERE = Path(__file__).resolve().parents[2]
EMBEDDING = ("--embedding", "toy", "--device", "cpu")
COMMANDS = {
    "train": (*EMBEDDING, "--epochs", 6, "--batch-size", 50, "--learning-rate", 0.01),
    "train_bert": (*EMBEDDING, "--epochs", 6, "--batch-size", 8),
    "train_elsa": ("--device", "cpu", "--epochs", 6, "--batch-size", 8, "--factors", 8),
    "train_hybrid": (*EMBEDDING, "--epochs", 6, "--batch-size", 8, "--hidden", 8),
    "train_bimodal": (*EMBEDDING, "--epochs", 6, "--batch-size", 50, "--hidden", 8),
}
RUNS = {
    "train": "shallow-toy-s1",
    "train_bert": "bert4rec-toy-s1",
    "train_elsa": "elsa-none-s1",
    "train_hybrid": "hybrid-toy-s1",
    "train_bimodal": "bimodal_average-toy-s1",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Make a run once, without a disturbance, and give its root: name of script -> root."""
    made = {}

    def make(script, toy_root, call):
        if script not in made:
            root = tmp_path_factory.mktemp(script)
            shutil.copytree(toy_root("source"), root, dirs_exist_ok=True)
            call(script, "--root", root, *COMMANDS[script])
            made[script] = root
        return made[script] / "runs" / RUNS[script]

    return make


def assert_same_run(run, expected):
    """Assert that everything but time is equal, tensors bit for bit."""
    for name in ("recs.pqt", "per_user_val.pqt", "per_user_test.pqt"):
        assert sha256(run / name) == sha256(expected / name), name
    for name in ("best.pt", "last.pt"):
        found, wanted = (torch.load(f / name, weights_only=True) for f in (run, expected))
        assert_equal(found, wanted, name)
    logs = [[json.loads(x) for x in open(f / "log.jsonl")] for f in (run, expected)]
    assert_equal(*logs, "log.jsonl")
    assert [record["epoch"] for record in logs[0]] == list(range(1, len(logs[0]) + 1))
    results = [json.loads((f / "metrics.json").read_text()) for f in (run, expected)]
    for each in results:  # config.yaml and log.jsonl hold times
        del each["sealed"], each["files"]["config.yaml"], each["files"]["log.jsonl"]
    assert_equal(*results, "metrics.json")
    assert_curves_are_the_log(run, logs[0])
    assert not list(run.glob(".*.tmp"))


def assert_equal(found, wanted, where):
    assert type(found) is type(wanted), where
    if isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted), where
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            if key != "seconds":
                assert_equal(found[key], wanted[key], f"{where} {key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for place, pair in enumerate(zip(found, wanted, strict=True)):
            assert_equal(*pair, f"{where} {place}")
    else:
        assert found == wanted, where


def assert_curves_are_the_log(run, log):
    board = EventAccumulator(str(run)).Reload()
    for name in {"train_loss", "val_loss", "learning_rate"} & set(log[0]):
        points = [(event.step, event.value) for event in board.Scalars(name)]
        wanted = [(record["epoch"], pytest.approx(record[name], rel=1e-6)) for record in log]
        assert points == wanted, name


STRICKEN = """
import os, runpy, signal, sys
# A shell without job control starts its background jobs deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {here!r})
import {module}
steps, loss = 0, {module}.{network}.loss
def stricken(self, batch):
    global steps
    steps += self.training
    if steps == {step}:
        os.kill(os.getpid(), {signal})
    return loss(self, batch)
{module}.{network}.loss = stricken
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def strike(script, root, number, step):
    """Run the command in a process of its own that gets the signal in that step of training."""
    module, network = {
        "train": ("model", "ShallowEmbeddingModel"),
        "train_bert": ("bert4rec", "BERT4Rec"),
        "train_elsa": ("recommenders.networks.elsa", "Elsa"),
    }[script]
    argv = [str(HERE / f"{script}.py"), "--root", str(root), *map(str, COMMANDS[script])]
    code = STRICKEN.format(
        here=str(HERE), module=module, network=network, step=step, signal=int(number), argv=argv
    )
    stricken = root.parent / "stricken.py"
    stricken.write_text(code)
    words = [sys.executable, stricken]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("script", "number", "code", "step"),
    [
        ("train", signal.SIGKILL, -signal.SIGKILL, 6 * 3 + 3),  # 6 batches an epoch
        ("train", signal.SIGINT, 130, 6 * 2 + 5),
        ("train", signal.SIGTERM, 143, 6 * 4 + 2),
        ("train_bert", signal.SIGKILL, -signal.SIGKILL, 3 * 3 + 2),  # 3 batches an epoch
        ("train_elsa", signal.SIGKILL, -signal.SIGKILL, 3 * 4 + 1),
    ],
)
def test_a_run_that_is_stopped_within_an_epoch_ends_as_an_undisturbed_one(
    undisturbed, toy_root, call, command, script, number, code, step
):
    root = toy_root()
    stopped = strike(script, root, number, step)
    assert stopped.returncode == code, stopped.stderr
    assert len(stopped.stderr.splitlines()) == (code > 0), stopped.stderr
    run = root / "runs" / RUNS[script]
    assert not (run / "metrics.json").exists()
    epochs = (step - 1) // {"train": 6, "train_bert": 3, "train_elsa": 3}[script]
    assert torch.load(run / "last.pt", weights_only=True)["epoch"] == epochs
    with pytest.raises(InputError, match="made from other things: learning_rate was .* now 0.5"):
        call(script, "--root", root, *COMMANDS[script], "--learning-rate", 0.5)

    if number == signal.SIGTERM:  # one of them in a process of its own, to the end
        again = command(f"{script}.py", "--root", root, *COMMANDS[script])
        assert again.returncode == 0, again.stderr
        assert f"continuing after epoch {epochs} from" in again.stdout
    else:
        call(script, "--root", root, *COMMANDS[script])
    assert_same_run(run, undisturbed(script, toy_root, call))


class Stop(BaseException):
    """Ends a run as a kill would: nothing on the way handles it."""


@pytest.fixture
def stop_before(monkeypatch):
    """Let the n-th thing that is written (a file renamed, a line appended) end the process."""
    replace, append, done = os.replace, curves.append, []

    def arm(n):
        done.clear()

        def stopping_replace(source, target):
            done.append(Path(target).name)
            if len(done) == n:
                raise Stop
            replace(source, target)

        def stopping_append(path, content):
            done.append(path.name)
            if len(done) == n:
                append(path, content[: len(content) // 2])
                raise Stop
            append(path, content)

        monkeypatch.setattr(os, "replace", stopping_replace)
        monkeypatch.setattr(curves, "append", stopping_append)
        return done

    return arm


def test_a_run_may_be_stopped_at_any_write(toy_root, call, stop_before):
    root = toy_root()
    options = ("--root", root, *EMBEDDING, "--epochs", 2, "--batch-size", 400)
    run, expected = root / "runs" / RUNS["train"], root / "expected"
    written = stop_before(0)
    call("train", *options)
    writes = len(written)
    assert writes == 3 + 2 * 4 + 7 and written[-1] == "metrics.json"
    run.rename(expected)

    for n in range(1, writes + 1):
        stop_before(n)
        with pytest.raises(Stop):
            call("train", *options)
        stop_before(0)
        call("train", *options)
        assert_same_run(run, expected)
        shutil.rmtree(run)


@pytest.mark.parametrize("script", ["train_elsa", "train_hybrid", "train_bimodal"])
def test_one_over_histories_goes_on_as_an_undisturbed_one(toy_root, call, stop_before, script):
    root = toy_root()
    if script == "train_bimodal":
        call("train_elsa", "--root", root, *COMMANDS["train_elsa"])
    options = ("--root", root, *COMMANDS[script])
    written = stop_before(0)
    call(script, *options)
    third = [at for at, name in enumerate(written) if name == "last.pt"][2]
    names = {path.name for path in (root / "runs").iterdir()}
    made = {name for name in names if name == RUNS["train_elsa"]} if "bimodal" in script else set()
    (root / "runs").rename(root / "expected")
    for name in made:
        shutil.copytree(root / "expected" / name, root / "runs" / name)
    stop_before(third + 1)
    with pytest.raises(Stop):
        call(script, *options)
    assert torch.load(root / "runs" / RUNS[script] / "last.pt", weights_only=True)["epoch"] == 2
    stop_before(0)
    call(script, *options)
    assert_same_run(root / "runs" / RUNS[script], root / "expected" / RUNS[script])
    for name in names - made:
        recs = [sha256(folder / name / "recs.pqt") for folder in (root / "runs", root / "expected")]
        assert recs[0] == recs[1], name


def test_a_sparse_optimizer_goes_on_as_an_undisturbed_one_and_learns_another_way(
    undisturbed, toy_root, call, stop_before
):
    root = toy_root()
    options = ("--root", root, *COMMANDS["train"], "--sparse-adam", "true")
    run = root / "runs" / RUNS["train"]
    stop_before(0)
    call("train", *options)
    run.rename(root / "expected")
    stop_before(3 + 3 * 4)
    with pytest.raises(Stop):
        call("train", *options)
    assert torch.load(run / "last.pt", weights_only=True)["epoch"] in (2, 3, 4)
    stop_before(0)
    call("train", *options)
    assert_same_run(run, root / "expected")
    dense = undisturbed("train", toy_root, call)
    users = [torch.load(f / "last.pt", weights_only=True)["model"]["users"] for f in (run, dense)]
    assert not torch.equal(*users)
    with pytest.raises(InputError, match="--l2 moves every vector.*--sparse-adam false"):
        call("train", *options, "--l2", 0.1)


@pytest.mark.parametrize("script", COMMANDS)
def test_the_same_command_gives_the_same_and_another_seed_another_result(
    undisturbed, toy_root, call, script
):
    expected = undisturbed(script, toy_root, call)
    root = toy_root()
    call(script, "--root", root, *COMMANDS[script], "--seeds", "2,1")
    assert_same_run(root / "runs" / RUNS[script], expected)
    other = root / "runs" / RUNS[script].replace("s1", "s2")
    assert sha256(other / "recs.pqt") != sha256(expected / "recs.pqt")


# A network with one number, which training lowers, and validation losses that are written down.
class Scripted(nn.Module):
    def __init__(self, val_losses=(1.0,), bad_step=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.val_losses, self.bad_step, self.steps = list(val_losses), bad_step, 0

    def loss(self, batch):
        if not self.training:
            return torch.tensor(self.val_losses.pop(0))
        self.steps += 1
        return self.weight * (math.nan if self.steps == self.bad_step else 1)


BATCHES = [SimpleNamespace(size=n) for n in (3, 3, 3, 1)]


def fit_scripted(folder, network, metric=None, batches=BATCHES, **options):
    config = FitOptions(device="cpu", **options)
    run = SimpleNamespace(config=config, folder=folder, earlier_seconds=0)
    values = iter(metric or ())
    ended = fit(
        network, lambda seed: batches, lambda seed: BATCHES[:1], 4, lambda: next(values), run
    )
    return ended, [json.loads(line) for line in open(folder / "log.jsonl")]


def test_the_rate_falls_to_a_tenth_when_one_more_epoch_than_the_patience_was_no_better(tmp_path):
    losses = [1.0, 0.9] + [0.9] * 8
    _, log = fit_scripted(tmp_path, Scripted(losses), epochs=10, plateau_patience=2)
    rates = [record["learning_rate"] for record in log]
    # Epochs 3, 4, 5 are no better than 2, and 6, 7, 8 neither.
    assert rates == pytest.approx([1e-3] * 5 + [1e-4] * 3 + [1e-5] * 2)


def test_training_ends_when_so_many_epochs_in_a_row_were_no_better(tmp_path):
    losses = [1.0, 0.8, 0.9, 0.7, 0.9, 0.7, 0.75, 0.1]
    ended, log = fit_scripted(tmp_path, Scripted(losses), epochs=20, early_stop=3)
    assert [record["val_loss"] for record in log] == pytest.approx(losses[:7])
    expected = {"epochs": 7, "best_epoch": 4, "stopped_by": "early_stop"}
    assert ended == {**expected, "best_value": pytest.approx(0.7)}
    assert [record["best_epoch"] for record in log] == [1, 2, 2, 4, 4, 4, 4]


def test_the_weights_that_are_left_are_those_of_the_best_epoch(tmp_path):
    weights = []

    class Watched(Scripted):
        def eval(self):
            weights.append(self.weight.item())
            return super().eval()

    network = Watched([3.0, 1.0, 2.0, 1.0])
    ended, _ = fit_scripted(tmp_path, network, epochs=4)
    assert ended["best_epoch"] == 2 and ended["stopped_by"] == "epochs"
    assert network.weight.item() == weights[1] != weights[3]
    assert not network.training


def test_a_metric_can_select_and_then_higher_is_better_and_a_plateau_is_one(tmp_path):
    metric = [0.1, 0.3, 0.2, 0.3, 0.3, 0.3]
    options = {"epochs": 6, "select": "NDCG@50", "plateau_patience": 1}
    losses = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    ended, log = fit_scripted(tmp_path, Scripted(losses), metric, **options)
    assert ended["best_epoch"] == 2 and ended["best_value"] == pytest.approx(0.3)
    assert [record["NDCG@50"] for record in log] == metric
    rates = [record["learning_rate"] for record in log]
    assert rates == pytest.approx([1e-3] * 4 + [1e-4] * 2)


def test_the_last_epoch_or_the_training_loss_may_select(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    losses = [1.0, 2.0, 3.0, 4.0]
    ended, _ = fit_scripted(tmp_path / "a", Scripted(losses), epochs=4, select="last")
    assert ended["best_epoch"] == 4
    ended, log = fit_scripted(tmp_path / "b", Scripted(losses), epochs=4, select="train_loss")
    assert ended["best_epoch"] == 4 and ended["best_value"] == log[-1]["train_loss"]


def test_a_network_without_a_validation_loss_is_chosen_by_a_metric_or_refused(tmp_path):
    config = FitOptions(device="cpu", epochs=2, select="NDCG@50")
    run = SimpleNamespace(config=config, folder=tmp_path, earlier_seconds=0)
    values = iter([0.2, 0.1])
    ended = fit(Scripted([]), lambda seed: BATCHES, None, 4, lambda: next(values), run)
    assert ended["best_epoch"] == 1
    log = [json.loads(line) for line in open(tmp_path / "log.jsonl")]
    assert [set(record) & {"val_loss", "NDCG@50"} for record in log] == [{"NDCG@50"}] * 2
    run.config = FitOptions(device="cpu", select="loss")
    with pytest.raises(InputError, match="--select loss: there is no validation loss"):
        fit(Scripted([]), lambda seed: BATCHES, None, 4, lambda: 0, run)


def test_the_metric_that_selects_is_the_one_of_the_finished_run(toy_root, call):
    root = toy_root()
    call("train", "--root", root, *EMBEDDING, "--epochs", 3, "--select", "Recall@50")
    run = root / "runs" / RUNS["train"]
    value = yaml.safe_load((run / "config.yaml").read_text())["best_value"]
    results = json.loads((run / "metrics.json").read_text())
    assert value == pytest.approx(results["val"]["Recall@50"]["mean"], rel=1e-9)
    log = [json.loads(line) for line in open(run / "log.jsonl")]
    assert value == max(record["Recall@50"] for record in log)


def test_a_budget_of_time_ends_training_with_the_epoch_in_which_it_is_over(tmp_path):
    ended, log = fit_scripted(tmp_path, Scripted([1.0] * 5), epochs=5, max_minutes=0.0)
    assert len(log) == 1 and ended["stopped_by"] == "max_minutes"


def test_an_epochs_loss_is_the_mean_over_what_its_batches_count_for(tmp_path):
    network = Scripted([1.0])
    weights = [1 - 0.001 * n for n in range(4)]  # Adam's first steps are one learning rate each
    _, log = fit_scripted(tmp_path, network, epochs=1)
    expected = sum(w * batch.size for w, batch in zip(weights, BATCHES, strict=True)) / 10
    assert log[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_a_number_ends_with_epoch_batch_and_learning_rate(tmp_path):
    message = "loss is nan in epoch 2, batch 3 of 4, at learning rate 0.001; try a smaller"
    with pytest.raises(WorkError, match=message):
        fit_scripted(tmp_path, Scripted([1.0], bad_step=7), epochs=5)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("together", [1, 3, 100])
def test_losses_read_later_are_the_same_and_a_bad_one_keeps_its_number(
    tmp_path, monkeypatch, together
):
    for name in "abc":
        (tmp_path / name).mkdir()
    plain, _ = fit_scripted(tmp_path / "a", Scripted([1.0, 0.9]), epochs=2)
    monkeypatch.setattr(epochs, "LOOKED_AT_TOGETHER", together)
    found, _ = fit_scripted(tmp_path / "b", Scripted([1.0, 0.9]), epochs=2)
    assert found == plain
    with pytest.raises(WorkError, match="loss is nan in epoch 2, batch 3 of 4, at learning rate"):
        fit_scripted(tmp_path / "c", Scripted([1.0], bad_step=7), epochs=5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_a_number_ends_before_it_is_saved(tmp_path, bad):
    message = f"the validation loss is {bad} after epoch 2, at learning rate 0.001; try a smaller"
    with pytest.raises(WorkError, match=message):
        fit_scripted(tmp_path, Scripted([1.0, bad]), epochs=5)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1


def test_a_rate_that_is_too_large_ends_the_command(toy_root, call):
    root = toy_root()
    with pytest.raises(WorkError, match="loss is nan .* try a smaller --learning-rate"):
        call("train", "--root", root, *EMBEDDING, "--learning-rate", 1e38)
    assert not (root / "runs" / RUNS["train"] / "metrics.json").exists()


def test_nothing_to_learn_from_is_an_error(tmp_path, toy_root, call):
    with pytest.raises(InputError, match="nothing to compute the train loss from"):
        fit_scripted(tmp_path, Scripted(), batches=[])
    options = (*COMMANDS["train_bert"], "--mask-share", 1e-9)
    with pytest.raises(InputError, match="nothing to compute the train loss .*--mask-share"):
        call("train_bert", "--root", toy_root(), *options)


def test_every_stream_of_a_seed_is_another():
    streams = [(), (0,), (0, 0), (0, 1), (1, 0), (1, 1), (1 << 31,)]
    seeds = [derived_seed(seed, *stream) for seed in (0, 1, 2) for stream in streams]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [derived_seed(seed, *stream) for seed in (0, 1, 2) for stream in streams]
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    bits = np.unpackbits(np.array(seeds, np.uint64).view(np.uint8))
    assert 0.4 < bits.mean() < 0.6


@pytest.mark.parametrize("name", ["gpu", "cpux", "cuda:", "cuda:x", "cuda:99"])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(InputError, match="--device"):
        pick_device(name)


@dataclass(frozen=True, kw_only=True)
class Both(FitOptions, EmbeddingOptions):
    """What one that hears and learns takes."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("early_stop", 0),
        ("plateau_patience", -1),
        ("max_minutes", -1.0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("select", "loss@50"),
        ("select", "NDCG"),
        ("select", "NDCG@0"),
        ("width", 0),
        ("seed", -1),
        ("seeds", (1, -2)),
    ],
)
def test_options_outside_their_range_are_errors_that_name_the_flag(name, value):
    flag = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=flag.removesuffix("s")):
        Both(embedding="toy", **{name: value})
