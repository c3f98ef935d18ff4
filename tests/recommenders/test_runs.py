"""A run's folder: finished, continued, refused, overwritten, and held by one process."""

import fcntl
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from core import names
from core.artifacts import exclusive, sha256
from core.options import InputError
from evaluation.measures import METRICS
from evaluation.results import average_seeds, read_runs
from recommenders import provenance, run_options, runs

HERE = provenance.HERE

KNN = ("--embedding", "toy")
FIT = ("--embedding", "toy", "--epochs", 1, "--batch-size", 400, "--device", "cpu")


@pytest.fixture
def root(toy_root):
    return toy_root()


@pytest.fixture
def knn(root, call):
    """Run knn.py on the root with more flags."""
    return lambda *flags: call("knn", "--root", root, *KNN, *flags)


def read_config(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def test_a_run_leaves_the_files_of_the_contract(root, call, knn):
    knn()
    call("train", "--root", root, *FIT)
    always = {"config.yaml", "recs.pqt", "per_user_val.pqt", "per_user_test.pqt", "metrics.json"}
    always |= {"segments_val.pqt", "segments_test.pqt"}
    trained = always | {"best.pt", "last.pt", "log.jsonl"}
    for name, files in (("knn-toy-s1", always), ("shallow-toy-s1", trained)):
        found = {p.name for p in (root / "runs" / name).iterdir() if p.name[0] != "."}
        assert {f for f in found if "tfevents" not in f} == files
        assert any("tfevents" in f for f in found) == (files is trained)


def test_lists_cover_every_user_of_val_and_test_with_100_ranks(root, knn):
    knn()
    recs = pd.read_parquet(root / "runs" / "knn-toy-s1" / "recs.pqt")
    assert recs.columns.tolist() == ["user_id", "track_idx", "rank", "score"]
    parts = {p: pd.read_parquet(root / "data" / f"{p}.pqt") for p in ("train", "val", "test")}
    users = sorted(set(parts["val"].user_id) | set(parts["test"].user_id))
    assert recs.user_id.unique().tolist() == users
    assert recs.groupby("user_id")["rank"].apply(list).tolist() == [list(range(1, 101))] * len(
        users
    )
    assert (recs.groupby("user_id").score.diff().dropna() <= 0).all()
    assert set(recs.track_idx) <= set(parts["train"].track_idx)
    heard = set(zip(parts["train"].user_id, parts["train"].track_idx, strict=True))
    assert not heard & set(zip(recs.user_id, recs.track_idx, strict=True))


def test_metrics_are_written_at_the_lengths_that_are_asked_for(root, knn):
    knn("--k", "3,7", "--tag", "short")
    results = json.loads((root / "runs" / "knn-toy-short-s1" / "metrics.json").read_text())
    assert set(results["test"]) == {"users", *(f"{name}@{k}" for name in METRICS for k in (3, 7))}
    with pytest.raises(InputError, match="--k must be between 1 and 100, a list's length, got 101"):
        knn("--k", "50,101")


def test_shuffling_exchanges_the_tracks_vectors_by_the_seed_under_a_tag_of_its_own(root, knn):
    knn()
    knn("--shuffle", "--seeds", "1,2")
    knn("--shuffle", "--tag", "mine")
    read = {
        name: pd.read_parquet(root / "runs" / f"knn-toy{name}" / "recs.pqt")
        for name in ("-s1", "-shuffled-s1", "-shuffled-s2", "-mine_shuffled-s1")
    }
    assert read["-shuffled-s1"].equals(read["-mine_shuffled-s1"]), "the seed alone decides"
    assert not read["-shuffled-s1"].equals(read["-shuffled-s2"])
    assert not read["-shuffled-s1"].equals(read["-s1"])
    known = read_config(root / "runs" / "knn-toy-mine_shuffled-s1")
    assert known["tag"] == "mine_shuffled" and known["changed"] == {"shuffle": True}

    raw = {"embedding": "toy", "scale": "none"}
    options = run_options.EmbeddingOptions(**raw, shuffle=True, seed=3)
    vectors = np.arange(30.0).reshape(10, 3)
    shuffled = options.arranged(vectors)
    assert sorted(shuffled.tolist()) == vectors.tolist() != shuffled.tolist()
    assert run_options.EmbeddingOptions(**raw).arranged(vectors) is vectors


@pytest.mark.parametrize(
    ("tag", "shuffled"),
    [
        (None, "shuffled"),
        ("mine", "mine_shuffled"),
        ("shuffled", "shuffled"),
        ("a_b", "a_b_shuffled"),
    ],
)
def test_the_tag_of_a_shuffled_control_names_what_it_controls(tag, shuffled):
    assert names.shuffled_tag(tag) == names.shuffled_tag(names.shuffled_tag(tag)) == shuffled
    if tag != "shuffled":
        assert names.plain_tag(shuffled) == (tag or "") and names.plain_tag(tag) is None


def test_vectors_that_are_learned_from_nothing_cannot_be_shuffled(root, call):
    with pytest.raises(InputError, match="--shuffle needs vectors that say something"):
        call("train", "--root", root, "--embedding", "random", "--shuffle")


def test_results_and_configuration_say_what_the_run_is(root, knn):
    knn("--tag", "mine", "--seed", 7)
    run = root / "runs" / "knn-toy-mine-s7"
    results, known = json.loads((run / "metrics.json").read_text()), read_config(run)
    for found in (results, known):
        assert (found["recommender"], found["embedding"]) == ("knn", "toy")
        assert (found["seed"], found["tag"]) == (7, "mine")
    for part in ("val", "test"):
        names = {f"{name}@{k}" for name in METRICS for k in (10, 20, 50, 100)}
        assert set(results[part]) == {"users", *names}
        table = pd.read_parquet(run / f"per_user_{part}.pqt")
        assert results[part]["users"] == len(table)
        for name in METRICS:
            assert results[part][f"{name}@50"]["mean"] == table[f"{name}@50"].mean()
    assert known["options"]["embedding"] == "toy" and known["width"] == 8
    assert {"numpy", "torch", "python"} <= set(known["versions"])
    assert known["peak_memory_mb"] > 1 and known["parameters"] == 0
    assert known["changed"] == {}, "the seed is not a changed option"


def test_a_finished_run_says_so_names_overwrite_and_is_left_alone(root, knn, command):
    knn()
    run = root / "runs" / "knn-toy-s1"
    before = {p.name: (p.stat().st_mtime_ns, sha256(p)) for p in run.iterdir() if p.suffix}
    again = command("knn.py", "--root", root, *KNN)
    assert again.returncode == 0 and again.stderr == ""
    assert "runs/knn-toy-s1 is finished; --overwrite makes it again" in again.stdout
    assert before == {p.name: (p.stat().st_mtime_ns, sha256(p)) for p in run.iterdir() if p.suffix}


def test_overwrite_makes_a_run_again_from_nothing(root, call):
    call("train", "--root", root, *FIT)
    run = root / "runs" / "shallow-toy-s1"
    first = sha256(run / "recs.pqt")
    (run / "recs.pqt").write_bytes(b"")
    call("train", "--root", root, *FIT, "--overwrite")
    assert sha256(run / "recs.pqt") == first
    call("train", "--root", root, *FIT, "--overwrite", "--learning-rate", 0.1)
    assert read_config(run)["options"]["learning_rate"] == 0.1
    assert sha256(run / "recs.pqt") != first
    assert len((run / "log.jsonl").read_text().splitlines()) == 1


def fail_at(monkeypatch, seed):
    """Let the finish of the run with that seed be an interruption."""
    finish = runs.Run.finish

    def interrupted(self, *args, **kwargs):
        if self.config.seed == seed:
            raise KeyboardInterrupt
        return finish(self, *args, **kwargs)

    monkeypatch.setattr(runs.Run, "finish", interrupted)


def test_overwriting_several_seeds_goes_on_where_it_was_interrupted(
    root, call, capsys, monkeypatch
):
    command = ("train", "--root", root, *FIT, "--seeds", "1,2,3")
    call(*command)
    finished = {n: root / "runs" / f"shallow-toy-s{n}" / "metrics.json" for n in (1, 2, 3)}
    old = {n: path.stat().st_mtime_ns for n, path in finished.items()}
    with monkeypatch.context() as patch:
        fail_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            call(*command, "--overwrite")
    first = finished[1].stat().st_mtime_ns
    assert first > old[1] and not finished[2].exists()
    assert finished[3].stat().st_mtime_ns == old[3], "its turn had not come"
    capsys.readouterr()
    call(*command, "--overwrite")
    said = capsys.readouterr().out
    assert "shallow-toy-s1 is finished; made again before an interruption" in said
    assert "continuing after epoch 1 from" in said
    assert finished[1].stat().st_mtime_ns == first
    assert finished[2].exists() and finished[3].stat().st_mtime_ns > old[3]
    assert not list((root / "runs").glob(f"*/{runs.MARK}"))
    call(*command, "--overwrite")
    assert finished[1].stat().st_mtime_ns > first, "the next command makes all of them again"


@pytest.mark.parametrize("change", ["split", "option", "plain run between"])
def test_what_an_interrupted_command_made_from_other_things_is_made_again(
    root, call, monkeypatch, change
):
    command = ("train", "--root", root, *FIT, "--seeds", "1,2", "--overwrite")
    with monkeypatch.context() as patch:
        fail_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            call(*command)
    first = root / "runs" / "shallow-toy-s1" / "metrics.json"
    before = first.stat().st_mtime_ns
    if change == "split":
        path = root / "data" / "test.pqt"
        table = pd.read_parquet(path)
        table.assign(count=table["count"] + 1).to_parquet(path)
    elif change == "plain run between":
        call("train", "--root", root, *FIT, "--seeds", "1,2")
    call(*command, *(("--learning-rate", 0.1) if change == "option" else ()))
    assert first.stat().st_mtime_ns > before


@pytest.mark.parametrize("content", ["options: [", "just text", "options: {}\n", "", "\xff"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_record_of_a_run_is_an_error_that_names_it(root, knn, call, content, finished):
    knn()
    run = root / "runs" / "knn-toy-s1"
    (run / "config.yaml").write_bytes(content.encode("latin-1"))
    if not finished:
        (run / "metrics.json").unlink()
    with pytest.raises(InputError, match="(?s)knn-toy-s1/config.yaml .*--overwrite"):
        knn()
    if finished:
        with pytest.raises(InputError, match="(?s)knn-toy-s1/config.yaml .*make the run again"):
            call("table", "--root", root)
        with pytest.raises(InputError, match="(?s)knn-toy-s1/config.yaml .*make the run again"):
            call("metrics", "--root", root, "--run", "knn-toy-s1")
    knn("--overwrite")
    assert read_config(run)["options"]["embedding"] == "toy"


def test_an_option_that_cannot_change_the_result_does_not_make_another_run(root, call, capsys):
    call("train", "--root", root, *FIT)
    call("train", "--root", root.parent / "." / root.name, *FIT, "--device", "auto")
    assert "is finished" in capsys.readouterr().out


def changed_split(root):
    path = root / "data" / "test.pqt"
    table = pd.read_parquet(path)
    table.assign(count=table["count"] + 1).to_parquet(path)


def changed_embedding(root):
    path = root / "embeddings" / "toy.npy"
    np.save(path, np.load(path) + 1)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (changed_split, (), "the split, data/, is another one"),
        (changed_embedding, (), "the embedding, embeddings/toy.npy, is another one"),
        (None, ("--scale", "none"), "scale was 'standardize', now 'none'"),
        (None, ("--missing", "mean"), "missing was 'error', now 'mean'"),
    ],
)
def test_a_run_made_from_other_things_is_refused_with_what_changed(
    root, knn, finished, change, flags, message
):
    knn()
    run = root / "runs" / "knn-toy-s1"
    if not finished:
        (run / "metrics.json").unlink()
    if change:
        change(root)
    before = sha256(run / "config.yaml")
    with pytest.raises(InputError, match=f"{message}.*--overwrite makes it again, --tag NAME"):
        knn(*flags)
    assert sha256(run / "config.yaml") == before
    knn(*flags, "--overwrite")
    assert (run / "metrics.json").exists()


def test_all_that_changed_is_named_at_once(root, knn):
    knn()
    changed_split(root)
    changed_embedding(root)
    with pytest.raises(InputError, match="scale was .*; the split, data.*; the embedding, "):
        knn("--scale", "none")


def test_several_seeds_are_the_runs_of_each_and_finished_ones_are_not_made_again(
    root, call, capsys
):
    call("train", "--root", root, *FIT, "--seed", 2)
    alone = sha256(root / "runs" / "shallow-toy-s2" / "recs.pqt")
    capsys.readouterr()
    call("train", "--root", root, *FIT, "--seeds", "1,2,3")
    assert "shallow-toy-s2 is finished" in capsys.readouterr().out
    lists = [sha256(root / "runs" / f"shallow-toy-s{n}" / "recs.pqt") for n in (1, 2, 3)]
    assert len(set(lists)) == 3 and lists[1] == alone
    call("train", "--root", root, *FIT, "--seeds", "1,2", "--overwrite")
    assert sha256(root / "runs" / "shallow-toy-s2" / "recs.pqt") == alone


def test_a_second_process_on_the_same_run_is_refused(root, knn, command):
    knn("--seed", 3)  # so that the folder of runs is there
    lock = root / "runs" / "knn-toy-s1" / ".lock"
    with exclusive(lock, "the test"):
        second = command("knn.py", "--root", root, *KNN)
        assert second.returncode == 2
        assert len(second.stderr.splitlines()) == 1
        assert "another process is working on" in second.stderr
        assert "runs/knn-toy-s1; wait for it" in second.stderr
        knn("--seed", 2)
    knn()
    assert (root / "runs" / "knn-toy-s1" / "metrics.json").exists()


def test_a_tag_or_embedding_that_is_no_name_is_refused(root, knn, call):
    with pytest.raises(InputError, match="tag 'a/b' must be lower-case"):
        knn("--tag", "a/b")
    with pytest.raises(InputError, match="embedding '../toy' must be lower-case"):
        call("knn", "--root", root, "--embedding", "../toy")
    assert not (root / "runs").exists()


def test_random_vectors_are_refused_where_nothing_learns_them(root, call):
    with pytest.raises(InputError, match="KNN learns nothing.*try --embedding noise"):
        call("knn", "--root", root, "--embedding", "random")
    with pytest.raises(InputError, match="--project needs vectors that say something"):
        call("train", "--root", root, "--embedding", "random", "--project", 3)
    for script in ("train", "train_bert"):
        with pytest.raises(InputError, match="random starts from nothing.*noise is the frozen"):
            call(script, "--root", root, "--embedding", "random", "--train-tracks", "false")


def test_an_option_that_came_later_keeps_seeds_together_and_runs_apart(root, call):
    call("knn", "--root", root, "--embedding", "toy", "--seeds", "1,2")
    known = read_config(root / "runs" / "knn-toy-s1")
    assert "project" not in known["options"]  # as in runs from before there was one
    assert len(average_seeds(read_runs(root))[0].runs) == 2
    with pytest.raises(InputError, match="project was 0, now 3"):
        call("knn", "--root", root, "--embedding", "toy", "--project", 3)
    call("knn", "--root", root, "--embedding", "toy", "--project", 3, "--overwrite")
    with pytest.raises(InputError, match="project was 3, now 0"):
        call("knn", "--root", root, "--embedding", "toy")
    with pytest.raises(InputError, match="were made from different options"):
        read_runs(root)


def test_a_missing_split_names_the_stage_that_makes_it(root, knn):
    (root / "data" / "train.pqt").unlink()
    with pytest.raises(InputError, match=r"train.pqt is missing; .* python 1_train_test_split.py"):
        knn()


def test_heads_of_attention_that_do_not_divide_the_width_get_zeros_beside_it(root, call):
    call("train_bert", "--root", root, *FIT, "--heads", 3)
    known = read_config(root / "runs" / "bert4rec-toy-s1")
    assert known["width"] == 8  # what was heard; the network's own rows are one wider:
    call("train_bert", "--root", root, *FIT, "--heads", 2, "--tag", "even")
    even = read_config(root / "runs" / "bert4rec-toy-even-s1")
    assert known["parameters"] > even["parameters"]


def test_too_few_validation_tracks_for_the_loss_are_an_error(root, call):
    with pytest.raises(InputError, match="no validation user has --val-min-tracks 4 tracks"):
        call("train_bert", "--root", root, *FIT, "--val-min-tracks", 4)


def test_a_yaml_of_options_is_named_with_what_it_changed(root, call, tmp_path):
    (tmp_path / "small.yaml").write_text("epochs: 1\nshallow:\n  n_negatives: 3\nknn: {}\n")
    flags = ("--embedding", "toy", "--device", "cpu", "--config", tmp_path / "small.yaml")
    call("train", "--root", root, *flags)
    known = read_config(root / "runs" / "shallow-toy-s1")
    assert known["changed"] == {"epochs": 1, "n_negatives": 3}
    assert known["options_file"] == "small.yaml"


def test_outside_git_there_is_no_commit(monkeypatch):
    gone = SimpleNamespace(returncode=128, stdout="")
    monkeypatch.setattr(provenance.subprocess, "run", lambda *args, **kwargs: gone)
    assert provenance.commit() is None


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (None, [("a", 1, (1, 2)), ("b", 1, (1, 2))]),
        ("0", [("a", 1, None)]),
        ("1", [("a", 2, None)]),
        ("2", [("b", 1, None)]),
        ("3", [("b", 2, None)]),
    ],
)
def test_a_task_of_a_slurm_array_makes_one_run_of_all_that_are_asked_for(
    task, expected, monkeypatch
):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    if task:
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
    made = []
    every = run_options.each_run(lambda c: made.append((c.embedding, c.seed, c.seeds)))
    every(run_options.EmbeddingOptions(embedding="a,b", seeds=(1, 2)))
    assert made == expected


@pytest.mark.parametrize("task", ["4", "x", "-1"])
def test_a_task_beyond_the_runs_is_refused_with_the_array_to_submit(task, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
    with pytest.raises(InputError, match="ask for 4 runs; submit with --array=0-3"):
        run_options.each_run(print)(run_options.EmbeddingOptions(embedding="a,b", seeds=(1, 2)))


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("knn", ("--tag", "shuffled"), "--tag shuffled is given by --shuffle, the control; choose"),
        ("knn", ("--tag", "mine_shuffled"), "--tag mine_shuffled is given by --shuffle"),
        (
            "knn",
            ("--tag", "tuned"),
            "--tag tuned is for runs made by sweep.py, for --config",
        ),
        ("knn", ("--tag", "tuned", "--shuffle"), "is for runs made by sweep.py"),
        ("knn", ("--tag", "trained"), "--tag trained is for runs made by --train-tracks true only"),
        ("train", ("--tag", "trained"), "is for runs made by --train-tracks true only"),
        ("train", ("--tag", "published"), "is for runs made by --as-published only"),
    ],
)
def test_a_tag_with_a_meaning_belongs_to_what_makes_it(toy_root, call, script, flags, message):
    """Tables and report believe it: a run so called without being so would be a false control."""
    root = toy_root()
    with pytest.raises(InputError, match=message):
        call(script, "--root", root, "--embedding", "toy", *flags)
    assert not (root / "runs").exists()


def test_the_tag_of_a_search_is_taken_with_the_options_that_it_chose(toy_root, call):
    root = toy_root()
    folder = root / "searches" / "knn-toy"
    folder.mkdir(parents=True)
    (folder / "chosen.yaml").write_text("knn: {scale: rms}\n")
    flags = ("--root", root, "--embedding", "toy", "--tag", "tuned")
    call("knn", *flags, "--config", folder / "chosen.yaml")
    (root / "other.yaml").write_text("knn: {scale: rms}\n")
    with pytest.raises(InputError, match="is for runs made by sweep.py"):
        call("knn", *flags, "--config", root / "other.yaml")


def test_two_commands_that_measure_one_run_lose_no_length_of_list(toy_root, call):
    """Each adds its --k to what is there; beside each other they wait or are told to."""
    root = toy_root()
    call("knn", "--root", root, "--embedding", "toy")
    folder, lock = root / "runs" / "knn-toy-s1", root / "runs" / "knn-toy-s1" / ".lock"
    with open(lock, "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is working on .*knn-toy-s1"):
            call("metrics", "--root", root, "--run", "knn-toy-s1", "--k", "3")
    commands = [
        subprocess.Popen(
            [sys.executable, HERE / "metrics.py", "--root", root, "--run", "knn-toy-s1", "--k", k],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for k in "34"
    ]
    done = [k for k, each in zip("34", commands, strict=True) if each.wait(timeout=100) == 0]
    columns = pd.read_parquet(folder / "per_user_test.pqt").columns
    assert done and all(f"NDCG@{k}" in columns for k in [*done, 10, 50])
