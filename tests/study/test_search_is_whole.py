"""A search whose files were damaged, or whose options make no sense, is refused."""

import contextlib
import importlib
import itertools
import shutil
import sqlite3

import pytest
from conftest import call_main, flip, make_root
from optuna.exceptions import StorageInternalError
from optuna.study import Study

from core.artifacts import atomic_path, write_json
from core.options import InputError, WorkError
from evaluation.tables import read_tables
from study.search import read_space


def flags_of(root, space, *more):
    flags = ("--root", root, "--recommender", "knn", "--embeddings", "noise", "--space", space)
    return (*flags, "--final-seeds", "none", *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a root, in which a search of two trials is finished, and the space of it."""
    folder = tmp_path_factory.mktemp("finished")
    root, space = make_root(folder / "root"), folder / "space.yaml"
    space.write_text("knn: {scale: [none, whiten]}\n")
    call_main("sweep", *flags_of(root, space, "--trials", 2))
    return folder


@pytest.fixture
def searched(finished, tmp_path):
    """A root with a search of two trials: (root, folder of the search, flags of sweep.py)."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    root, space = tmp_path / "root", tmp_path / "space.yaml"
    return root, root / "searches" / "knn-noise", flags_of(root, space, "--trials", 2)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("[.nan]", "text, finite numbers below 2.63, true, false and null are tried, got nan"),
        ("[2020-01-01]", "are tried, got datetime.date"),
        ("[[1]]", r"are tried, got \[1\]"),
        ("[1, 9223372036854775808]", "are tried, got 9223372036854775808"),
        ("{low: .nan, high: 1}", "low must be a finite number, got nan"),
        ("{low: 0, high: .inf}", "high must be a finite number, got inf"),
        ("{low: 0, high: 1, step: 0}", "step must be above 0, got 0"),
        ("{low: 0, high: 1, step: -0.5}", "step must be above 0, got -0.5"),
        ("{low: 1, high: 2, log: 'false'}", "log must be true or false, got 'false'"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_any_trial(tmp_path, entry, message):
    path = tmp_path / "space.yaml"
    path.write_text(f"knn: {{width: {entry}}}\n")
    with pytest.raises(InputError, match=f"space.yaml: 'width'.*{message}"):
        read_space(path, "knn")


@pytest.mark.parametrize("name", ["seed", "embedding", "root", "tag", "k", "overwrite"])
def test_what_the_search_gives_does_not_vary(toy_root, call, tmp_path, name):
    root, space = toy_root(), tmp_path / "space.yaml"
    space.write_text(f"knn: {{scale: [none], {name}: [1, 2]}}\n")
    with pytest.raises(InputError, match=f"--space .*'{name}' is given by the search"):
        call("sweep", *flags_of(root, space))
    assert not (root / "searches").exists()


@pytest.mark.parametrize("value", [".nan", "-.inf", "2020-01-01", "{a: 1}"])
def test_other_options_that_no_record_holds_are_refused(toy_root, call, tmp_path, value):
    root, space, base = toy_root(), tmp_path / "space.yaml", tmp_path / "base.yaml"
    space.write_text("knn: {scale: [none]}\n")
    base.write_text(f"knn: {{missing: {value}}}\n")
    with pytest.raises(InputError, match="base.yaml: 'missing' must be of text, finite numbers"):
        call("sweep", *flags_of(root, space, "--config", base))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seed", -1), "--seed must be at least 0, got -1"),
        (("--final-seeds", "1,-2"), "--final-seeds must be at least 0, got -2"),
        (("--metric", "NDCG@101"), "--metric METRIC@k: k must be between 1 and 100"),
    ],
)
def test_numbers_that_no_trial_takes_are_refused(toy_root, call, tmp_path, flags, message):
    root, space = toy_root(), tmp_path / "space.yaml"
    space.write_text("knn: {scale: [none]}\n")
    with pytest.raises(InputError, match=message):
        call("sweep", *flags_of(root, space, *flags))


def test_any_seed_is_one_for_the_proposals_and_no_more_work_at_once_than_there_is(
    toy_root, call, tmp_path, monkeypatch
):
    search = importlib.import_module("study.search")
    pool, asked = search.ThreadPoolExecutor, []
    monkeypatch.setattr(search, "ThreadPoolExecutor", lambda n: asked.append(n) or pool(n))
    root, space = toy_root(), tmp_path / "space.yaml"
    space.write_text("knn: {scale: [none, whiten]}\n")
    call("sweep", *flags_of(root, space, "--seed", 10**9, "--workers", 10**5))
    assert asked == [2]


def test_no_byte_of_a_finished_study_changes_without_an_error(searched, call):
    root, folder, flags = searched
    path = folder / "study.db"
    whole = path.read_bytes()
    for at in range(0, len(whole), 9973):
        flip(path, at)
        with pytest.raises(InputError, match="study.db .*--overwrite forgets"):
            call("sweep", *flags)
        path.write_bytes(whole)
    call("sweep", *flags)
    # A trial that was stopped has no run to be compared with: its word would be believed.
    with sqlite3.connect(path) as database:
        database.execute("UPDATE trials SET state = 'PRUNED' WHERE number = 0")
    with pytest.raises(InputError, match="study.db is not the file that was written"):
        call("sweep", *flags)


@pytest.mark.parametrize("content", ["{}", "[]", "null", "7", ""])
@pytest.mark.parametrize("name", ["begun.json", "study.json"])
def test_a_record_of_another_shape_is_named(searched, call, name, content):
    _, folder, flags = searched
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=name):
        call("sweep", *flags)


@pytest.mark.parametrize("begun", [False, True])
def test_a_full_disk_is_no_damage_and_the_search_goes_on(
    toy_root, call, tmp_path, monkeypatch, begun
):
    search = importlib.import_module("study.search")
    root, space = toy_root(), tmp_path / "space.yaml"
    space.write_text("knn: {scale: [none]}\n")
    flags = flags_of(root, space, "--trials", 1)
    connect = sqlite3.connect

    def small(*args, **more):
        connection = connect(*args, **more)
        connection.execute("PRAGMA max_page_count = 3")
        return connection

    def tell(*args, **more):
        full = sqlite3.OperationalError("database or disk is full")
        raise StorageInternalError("An exception is raised during the commit.") from full

    if begun:
        monkeypatch.setattr(Study, "tell", tell)
    else:
        monkeypatch.setattr(search.sqlite3, "connect", small)
    with pytest.raises(WorkError, match="no space left on the disk of .*study.db"):
        call("sweep", *flags)
    monkeypatch.undo()
    call("sweep", *flags)
    assert len(read_csv(root)) == 1


def read_csv(root):
    return (root / "tables" / "search.csv").read_text().splitlines()[1:]


def test_a_killed_search_has_no_fingerprint_and_goes_on(searched, call):
    root, folder, flags = searched
    (folder / "study.json").unlink()
    call("sweep", *flags)
    assert (folder / "study.json").exists()


def test_the_choice_is_read_as_it_was_written_and_an_edit_is_told(searched, call):
    root, folder, _ = searched
    path = folder / "chosen.yaml"
    run = ("knn", "--root", root, "--embedding", "toy", "--tag", "chosen", "--config", path)
    whole = path.read_bytes()
    damages = [whole[: len(whole) // 2], b"", bytes(len(whole)), whole + b"  seed: 2\n"]
    for content in damages:
        path.write_bytes(content)
        with pytest.raises(InputError, match="chosen.yaml is (empty|not a yaml file)"):
            call(*run)
    for at in range(0, len(whole), 3):
        path.write_bytes(whole)
        flip(path, at)
        try:
            call(*run, "--overwrite")
        except InputError as error:
            assert "chosen.yaml" in str(error)
        else:  # the word that says that there is a fingerprint
            assert at < len("# sealed:")
    path.write_bytes(whole.partition(b"\n")[2])
    call(*run, "--overwrite")


def test_the_table_of_searches_is_the_one_that_was_written(searched, call):
    root, _, flags = searched
    call("knn", "--root", root, "--embedding", "toy")
    call("table", "--root", root, "--resamples", 100)
    path = root / "tables" / "search.csv"
    assert len(read_tables(root)["search"]) == 1
    flip(path, path.read_bytes().index(b"0."))
    with pytest.raises(InputError, match="search.csv is not the file .* its last python sweep.py"):
        read_tables(root)
    call("sweep", *flags)
    assert len(read_tables(root)["search"]) == 1


def test_searches_that_end_at_once_are_all_in_the_table(tmp_path, monkeypatch):
    """The second waits for the first, which else would write a table without it over its own."""
    sweep = importlib.import_module("sweep")
    held = {name: name for name in sweep.HEADS}
    outcome = {"value": 0.5, "chosen": {}, **dict.fromkeys(sweep.BUDGET, 1)}

    def end(embedding):
        found = {**held, "embedding": embedding, "outcome": outcome}
        write_json(tmp_path / "searches" / f"knn-{embedding}" / "search.json", found)

    @contextlib.contextmanager
    def beside(path):
        if path.name == "search.csv" and not waited:
            waited.append(path)
            end("b")
            with pytest.raises(InputError, match="another process is working on .*search.csv"):
                sweep.collect(tmp_path)
        with atomic_path(path) as temporary:
            yield temporary

    waited = []
    end("a")
    monkeypatch.setattr(sweep, "atomic_path", beside)
    monkeypatch.setattr("core.artifacts.time.sleep", lambda seconds: None)
    times = itertools.count(step=31.0)
    monkeypatch.setattr("core.artifacts.time.monotonic", lambda: next(times))
    sweep.collect(tmp_path)
    sweep.collect(tmp_path)  # as the second does when it has waited
    assert waited and [line.split(",")[1] for line in read_csv(tmp_path)] == ["a", "b"]
