"""The search for options: budget, choice on validation, pruning, resuming, and a real one."""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import yaml
from conftest import HERE

from core.artifacts import read_json, write_json
from core.options import InputError, WorkError
from study import search
from study.search import Choice, Search, read_space

# Stands for a recommender: x's best is 3; epochs come in order; writes what a run leaves.
STUB = """
import json, pathlib, sys, time
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
x, root = float(flags["--x"]), pathlib.Path(flags["--root"])
assert (root / "data" / "train.pqt").exists() and (root / "trackid_sorted.csv").exists()
run = root / "runs" / "shallow-toy-s1"
run.mkdir(parents=True, exist_ok=True)
with open(root / "starts", "a") as file:
    file.write("start\\n")
if flags.get("--fail") == str(int(x)):
    print("the loss is nan"); sys.exit(1)
value = -(x - 3) ** 2
for epoch in (1, 2, 3):
    with open(run / "log.jsonl", "a") as file:
        file.write(json.dumps({"epoch": epoch, "NDCG@50": value + 0.01 * epoch}) + "\\n")
    time.sleep(float(flags.get("--pause", 0)))
(run / "last.pt").write_text("large")
numbers = {"NDCG@50": {"mean": value, "ci95": 0}}
worse = {"NDCG@50": {"mean": -value, "ci95": 0}}
(run / "metrics.json").write_text(json.dumps({"val": numbers, "test": worse}))
"""


@pytest.fixture
def make(toy_root, tmp_path, monkeypatch):
    """Return a function that makes a Search over the stub, whose option x is from 0 to 6."""
    root, stub = toy_root(), tmp_path / "stub.py"
    stub.write_text(STUB)
    monkeypatch.setattr(search, "POLL", 0.02)

    def build(name="one", flags=(), **options):
        options = {"trials": 6, "sampler": "random", "pruner": "none", "script": stub, **options}
        folder = root / "searches" / name
        space = {"x": Choice(low=0, high=6)}
        return Search(root, folder, "shallow", "toy", space, list(flags), **options)

    return build


def made(one):
    """Return x and the number of starts of every trial, in order."""
    import optuna

    storage = search.open_storage(one.folder / "study.db")
    study = optuna.load_study(study_name="shallow-toy", storage=storage)
    trials = [t for t in study.trials if search.REPEATS not in t.user_attrs]
    return [t.params["x"] for t in trials], [
        len((one.folder / "trials" / f"{t.number:04d}" / "starts").read_text().splitlines())
        for t in trials
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_as_many_trials_are_made_as_asked_and_the_best_on_validation_is_chosen(make, workers):
    one = make(workers=workers)
    outcome = one.run()
    xs, starts = made(one)
    assert len(xs) == 6 and starts == [1] * 6
    assert outcome["trials"] == outcome["complete"] == 6
    assert outcome["chosen"]["x"] == min(xs, key=lambda x: abs(x - 3)), "test would say the worst"
    assert outcome["value"] == -((outcome["chosen"]["x"] - 3) ** 2)
    assert outcome["seconds"] > 0
    assert not list(one.folder.glob("trials/*/runs/*/last.pt")), "checkpoints are not kept"


def test_more_trials_continue_and_draw_what_an_uninterrupted_search_draws(make):
    for sampler in ("random", "tpe"):
        half = make(f"half_{sampler}", sampler=sampler, trials=2)
        half.run()
        more = make(f"half_{sampler}", sampler=sampler, trials=5)
        assert more.run()["trials"] == 5
        whole = make(f"whole_{sampler}", sampler=sampler, trials=5)
        whole.run()
        assert made(more) == made(whole)
        assert len(set(made(whole)[0])) > 2
    assert make("half_tpe", sampler="tpe", trials=5).run()["trials"] == 5, "nothing is left to do"


def test_a_trial_that_fails_is_counted_and_never_chosen(make):
    outcome = make(flags=("--fail", "4"), trials=7).run()
    assert outcome["failed"] == 1 and outcome["trials"] == 7
    with pytest.raises(WorkError, match="none of 1 trials was completed; see .*output.txt"):
        bad = make("bad", flags=("--fail", "5"))
        bad.space["x"] = Choice(values=(5,))
        bad.run()


def test_hopeless_trials_are_stopped_before_their_end(make):
    one = make("pruned", pruner="median", trials=10, flags=("--pause", "0.15"))
    one.space["x"] = Choice(low=0, high=30)
    outcome = one.run()
    assert outcome["pruned"] > 0 and outcome["complete"] + outcome["pruned"] == 10
    unfinished = [
        trial
        for trial in sorted((one.folder / "trials").iterdir())
        if not list(trial.glob("runs/*/metrics.json"))
    ]
    assert len(unfinished) == outcome["pruned"]


def test_a_killed_search_goes_on_with_the_trial_it_was_at(make, tmp_path):
    one = make("killed", trials=3, flags=("--pause", "0.5"))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import pathlib\nfrom study import search\n"
        "search.Search(pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4]), 'shallow', 'toy',"
        " {'x': search.Choice(low=0, high=6)}, ['--pause', '30'], pathlib.Path(sys.argv[2]),"
        " sampler='random').run()\n"
    )
    arguments = [HERE, tmp_path / "stub.py", one.root, one.folder]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])
    starts = one.folder / "trials" / "0000" / "starts"
    deadline = time.monotonic() + 60
    while not starts.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    outcome = one.run()
    xs, begun = made(one)
    assert outcome["trials"] == 3 and begun == [2, 1, 1]
    whole = make("whole", trials=3)
    whole.run()
    assert made(whole)[0] == xs


def test_the_space_is_read_from_yaml(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "shallow: {rate: {low: 1e-4, high: 1e-2, log: true}, n: {low: 5, high: 40, step: 5}, "
        "confidence: [true, false]}\nknn: {center: 3}\n"
    )
    assert read_space(path, "shallow") == {
        "rate": Choice(low=1e-4, high=1e-2, log=True),
        "n": Choice(low=5, high=40, step=5),
        "confidence": Choice(values=(True, False)),
    }
    with pytest.raises(InputError, match="'center' must be a list of values or {low: x, high: y}"):
        read_space(path, "knn")
    with pytest.raises(InputError, match="has no section 'bert4rec:'"):
        read_space(path, "bert4rec")
    for text, message in (
        ("knn: {a: {low: 2, high: 1}}", "low must not be above high"),
        ("knn: {a: {low: 0, high: 1, log: true}}", "with log above 0"),
        ("knn: {a: {low: x, high: 1}}", "low must be a finite number, got 'x'"),
        ("knn: {a: {low: 0, high: 1, lag: true}}", "knows low, high, step and log, got 'lag'"),
        ("knn: [", "cannot be read as yaml"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_space(path, "knn")
    assert set(read_space(HERE / "search.yaml", "bert4rec")) >= {"learning_rate", "dropout"}


def test_a_sweep_leaves_choice_budget_and_runs_of_the_study(toy_root, call, tmp_path):
    root, space = toy_root(), tmp_path / "space.yaml"
    space.write_text("knn: {scale: [none, whiten]}\n")
    flags = ("--root", root, "--recommender", "knn", "--space", space, "--metric", "MRR@50")
    call("sweep", *flags, "--embeddings", "toy,noise", "--trials", 2)
    with open(root / "tables" / "search.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["embedding"] for line in lines] == ["noise", "toy"]
    for line in lines:
        assert line["trials"] == line["complete"] == "2" and line["metric"] == "MRR@50"
        chosen = json.loads(line["chosen"])
        folder = root / "searches" / f"knn-{line['embedding']}"
        assert yaml.safe_load((folder / "chosen.yaml").read_text()) == {"knn": chosen}
        tuned = root / "runs" / f"knn-{line['embedding']}-tuned-s1"
        assert read(tuned)["options"]["scale"] == chosen["scale"]
        value = json.loads((tuned / "metrics.json").read_text())["val"]["MRR@50"]["mean"]
        assert value == pytest.approx(float(line["value"])), "the chosen run is the trial's"
    assert len(list((root / "runs").iterdir())) == 2, "trials stay out of the study's runs"

    with pytest.raises(InputError, match="holds a search of other seed; --overwrite forgets it"):
        call("sweep", *flags, "--embeddings", "toy", "--seed", 2)
    space.write_text("knn: {scales: [none]}\n")
    with pytest.raises(InputError, match="trial 0 with scales=none: .*did you mean '--scale'"):
        call("sweep", *flags, "--embeddings", "toy", "--overwrite")
    with pytest.raises(InputError, match="--metric must be one of .* got 'loss'"):
        call("sweep", *flags, "--embeddings", "toy", "--metric", "loss")
    with pytest.raises(InputError, match="tpy.npy is missing; did you mean 'toy'"):
        call("sweep", *flags, "--embeddings", "toy,tpy")


def read(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def test_a_training_tells_the_search_of_every_epoch(toy_root, call, tmp_path):
    import optuna

    root, base = toy_root(), tmp_path / "base.yaml"
    base.write_text("shallow: {epochs: 2, device: cpu}\n")
    flags = ("--embeddings", "toy", "--config", base, "--trials", 1, "--final-seeds", "none")
    call("sweep", "--root", root, "--recommender", "shallow", *flags)
    folder = root / "searches" / "shallow-toy"
    options = yaml.safe_load((folder / "chosen.yaml").read_text())["shallow"]
    assert {"epochs": 2, "device": "cpu", "select": "NDCG@50"}.items() < options.items()
    (run,) = folder.glob("trials/0000/runs/*")
    assert read(run)["options"]["learning_rate"] == options["learning_rate"]
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    storage = search.open_storage(folder / "study.db")
    (trial,) = optuna.load_study(study_name="shallow-toy", storage=storage).trials
    assert trial.intermediate_values == {r["epoch"]: r["NDCG@50"] for r in records} != {}
    assert trial.value == pytest.approx(max(trial.intermediate_values.values()))


def test_no_trial_is_spent_twice_and_the_budget_says_how_many_there_were(make):
    one = make("all", trials=20, workers=2)
    one.space["x"] = Choice(values=(1, 2))
    one.space["y"] = Choice(low=0.0, high=0.5, step=0.25)
    outcome = one.run()
    assert outcome["trials"] == outcome["complete"] == 6 == search.points(one.space)
    assert len(list((one.folder / "trials").iterdir())) == 6
    assert search.points({"x": Choice(low=1, high=6, step=2), "y": Choice(values=(1, 1.0))}) == 6
    assert search.points({"x": Choice(low=0.0, high=1.0)}) == float("inf")


@pytest.mark.parametrize("name", ["q?x=1", "q?x=2", "a%20b", "a#b", "ä b"])
def test_a_search_is_kept_in_its_own_folder_whatever_that_is_called(tmp_path, name):
    import optuna

    (tmp_path / name).mkdir()
    storage = search.open_storage(tmp_path / name / "study.db")
    optuna.create_study(storage=storage, study_name="one")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.db")] == [
        f"{name}/study.db"
    ]


def test_more_trials_that_choose_otherwise_leave_choice_runs_and_table_of_one_search(
    toy_root, call, tmp_path
):
    root, space = toy_root(), tmp_path / "space.yaml"
    flags = ("--root", root, "--recommender", "knn", "--embeddings", "toy", "--sampler", "random")
    flags = (*flags, "--space", space, "--width", 16)
    space.write_text("knn: {scale: [none, rms, standardize, whiten]}\n")
    call("sweep", *flags, "--trials", 1)
    tuned = root / "runs" / "knn-toy-tuned-s1"
    first, chosen = read(tuned)["options"], root / "searches" / "knn-toy" / "chosen.yaml"
    # What the next trials find is better than the first: as if those were its numbers.
    (path,) = (root / "searches" / "knn-toy").glob("study.db")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE trial_values SET value = -1")
    path.with_name("study.json").unlink()
    (numbers,) = path.parent.glob("trials/0000/runs/*/metrics.json")
    told = read_json(numbers, "the trial")
    told["val"]["NDCG@50"]["mean"] = -1
    write_json(numbers, told)
    call("sweep", *flags, "--trials", 4)
    options = yaml.safe_load(chosen.read_text())["knn"]
    now = read(tuned)["options"]
    assert options.items() <= {**now, "width": 16}.items() and now != first
    with open(root / "tables" / "search.csv") as file:
        (line,) = csv.DictReader(file)
    assert json.loads(line["chosen"]).items() <= now.items() and line["trials"] == "4"
    assert "--width" not in options and options["width"] == 16
    space.write_text("knn: {scale: [none, rms, standardize]}\n")
    with pytest.raises(InputError, match="holds a search of other space; --overwrite forgets it"):
        call("sweep", *flags, "--trials", 4)


def test_a_space_from_2_to_2_0_is_another_one():
    import sweep

    with pytest.raises(InputError, match="other space"):
        sweep.refuse_changes("here", {"space": {"x": {"low": 2}}}, {"space": {"x": {"low": 2.0}}})


@pytest.mark.parametrize("script", ["knn", "train", "train_bert"])
def test_every_option_of_a_recommender_reaches_its_trials(script, tmp_path, call, toy_root):
    """By its dataclass: what is recorded of a search is handed on, or refused."""
    import importlib

    import sweep
    from core.options import outcome_options, parse_config

    module = importlib.import_module(script)
    kind = next(v for n, v in vars(module).items() if n.endswith("Config") and "section" in vars(v))
    own = outcome_options(parse_config(kind, "", ["--embedding", "toy"]))
    for name, value in own.items():
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({kind.section: {name: value}}))
        config = sweep.SweepConfig(recommender=kind.section, embeddings=("toy",), config=path)
        if name in sweep.GIVEN:
            with pytest.raises(InputError, match=f"'{name}' is given by the search; remove it"):
                sweep.read_base(config)
        else:
            assert sweep.read_base(config)[name] == value
    config = sweep.SweepConfig(recommender=kind.section, embeddings=("noise",), width=7)
    assert sweep.read_base(config)["width"] == sweep.width(config) == 7


def damages(path):
    """Yield (what, content) of a study's file: cut, emptied, and told otherwise in one place."""
    whole = path.read_bytes()
    yield "damaged", whole[: len(whole) // 2]
    yield "does not tell of trial 0", b""
    yield "damaged", bytes(len(whole))
    for column, table in (("value", "trial_values"), ("param_value", "trial_params")):
        path.write_bytes(whole)
        with sqlite3.connect(path) as database:
            database.execute(f"UPDATE {table} SET {column} = {column} + 1")
        database.close()
        yield "differ in trial 0: one is damaged", path.read_bytes()


def test_a_study_that_is_not_what_its_trials_say_is_refused(toy_root, call, tmp_path):
    root, space = toy_root(), tmp_path / "space.yaml"
    space.write_text("baselines: {}\nknn: {width: {low: 4, high: 9}}\n")
    flags = ["--recommender", "knn", "--embeddings", "noise", "--final-seeds", "none"]
    flags = ["--root", root, *flags, "--space", space]
    call("sweep", *flags, "--trials", 1)
    path = root / "searches" / "knn-noise" / "study.db"
    path.with_name("study.json").unlink()  # as after a kill: there is no fingerprint
    for message, content in list(damages(path)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"study.db .*{message}.*--overwrite forgets"):
            call("sweep", *flags, "--trials", 1)
