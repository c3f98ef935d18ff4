"""Whose a job is, what counts as done, and what is submitted anew; over a Slurm that is made up."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from made_up_slurm import CONTROL_RUNS, CONTROL_STAGES, N_STAGES, SMALL, made_up_queue, study, touch

from core.options import InputError, WorkError
from study import cluster, submission
from study.graph import look
from study.progress import describe
from study.record import Record
from study.submission import cancel_study, submit_study


@pytest.fixture
def queue(monkeypatch):
    return made_up_queue(monkeypatch)


DATA = ("data/plays.pqt", "data/plays.json", "data/split.json")
EMBEDDING = ("embeddings/mfcc.npy", "embeddings/mfcc.json")
RUNS = [*CONTROL_RUNS]
RUNS += [f"runs/{r}-{e}-s1/metrics.json" for r in ("knn", "shallow") for e in ("mfcc", "noise")]
TABLE, REPORT = "tables/results.csv", "report/report.json"


@pytest.fixture
def inputs(tmp_path):
    """Return a function that makes a root of a name with a log and a folder of audio."""

    def make(name):
        root = tmp_path / name
        root.mkdir()
        (root / "trackid_sorted.csv").write_text("idx,trackid\n0,a\n")
        return root

    return make


def new(nodes):
    """Return the stages that were submitted just now."""
    return [node.stage.name for node in nodes if node.submitted]


def finish(root, queue, *names):
    """Make what these jobs would, and let every one of the queue end."""
    touch(root, *names)
    for task in queue.tasks:
        queue.becomes("COMPLETED", task.job)


def test_a_copied_root_neither_takes_nor_cancels_the_jobs_of_the_first(inputs, tmp_path, queue):
    one = inputs("one")
    first = new(submit_study(study(one, *SMALL)))
    shutil.copytree(one, tmp_path / "two")
    copied = study(tmp_path / "two", *SMALL)
    assert new(submit_study(copied)) == first and not queue.cancelled
    ids = [Record.read(tmp_path / name).id for name in ("one", "two")]
    assert ids[0] != ids[1]
    n = len(queue.tasks)
    assert cancel_study(copied) == n // 2
    assert {int(re.match(r"\d+", name)[0]) for name in queue.cancelled} == {
        job["id"] for job in queue.submitted[len(first) :]
    }


def test_a_job_of_another_number_or_another_comment_is_not_the_studys(inputs, queue):
    root = inputs("root")
    submit_study(study(root, *SMALL))
    foreign = queue.tasks[0].job
    queue.tasks[0] = replace(queue.tasks[0], comment="somebody's own")
    again = submit_study(study(root, *SMALL))
    assert new(again)[0] == "plays" and str(foreign) not in queue.cancelled
    record = json.loads((root / "runs/study.json").read_text())
    comment = f"study {record['id']} {root}: plays"
    assert queue.job("plays")["comment"] == comment
    queue.tasks.append(replace(queue.tasks[1], job=7777, index=0, array=False, comment=comment))
    assert cancel_study(study(root, *SMALL)) and "7777" not in queue.cancelled


def test_a_submission_that_is_killed_leaves_no_job_unknown(inputs, queue, monkeypatch):
    root = inputs("root")

    def killed(*given):
        queue.submit(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "submit", killed)
    with pytest.raises(KeyboardInterrupt):
        submit_study(study(root, *SMALL))
    monkeypatch.setattr(cluster, "submit", queue.submit)
    again = submit_study(study(root, *SMALL))
    assert len(queue.submitted) == N_STAGES and "plays" not in new(again)


def test_a_seed_that_is_added_while_jobs_wait_is_in_every_table(inputs, queue):
    root = inputs("root")
    submit_study(study(root, *SMALL, "--seeds", "1,2"))
    ids = {job["comment"].split(": ")[1]: job["id"] for job in queue.submitted}
    again = submit_study(study(root, *SMALL, "--seeds", "1,2,3"))
    waiting = [*CONTROL_STAGES, "knn mfcc", "knn noise", "shallow mfcc", "shallow noise"]
    order = [node.stage.name for node in again]
    assert new(again) == [n for n in order if n in (*waiting, "table", "report")]
    assert queue.job("shallow mfcc")["array"] == "0-2%8"
    cancelled = {name.partition("_")[0] for name in queue.cancelled}
    assert cancelled == {str(ids[name]) for name in (*waiting, "table", "report")}
    assert str(queue.job("knn mfcc")["id"]) in queue.job("table")["dependency"]


def test_seeds_in_another_order_are_other_tasks_and_a_running_one_trains_what_it_trains(
    inputs, queue
):
    root = inputs("root")
    touch(root, *DATA, *EMBEDDING)
    submit_study(study(root, *SMALL, "--seeds", "1,2"))
    running = queue.job("shallow mfcc")["id"]
    queue.becomes("RUNNING", running, 0)
    again = submit_study(study(root, *SMALL, "--seeds", "3,1,2"))
    assert queue.job("shallow mfcc")["array"] == "0,2%8", "seed 1 runs as task 0 of the old job"
    assert f"{running}_1" in queue.cancelled and f"{running}_0" not in queue.cancelled
    waits = queue.job("table")["dependency"]
    assert f"{running}_0" in waits and str(queue.job("shallow mfcc")["id"]) in waits
    node = next(n for n in again if n.stage.name == "shallow mfcc")
    assert node.working[1].name == f"{running}_0"
    touch(root, "runs/shallow-mfcc-s1/metrics.json")
    queue.becomes("COMPLETED", running, 0)
    assert not new(submit_study(study(root, *SMALL, "--seeds", "3,1,2")))


def test_another_number_of_shards_replaces_jobs_that_wait_and_not_those_that_run(inputs, queue):
    root = inputs("root")
    touch(root, *DATA)
    submit_study(study(root, *SMALL[:-1], "6"))
    again = submit_study(study(root, *SMALL[:-1], "8"))
    assert queue.job("shards of mfcc")["array"] == "0-7%8"
    assert "embedding mfcc" in new(again) and "controls" not in new(again)
    queue.becomes("RUNNING", queue.job("shards of mfcc")["id"], 0)
    with pytest.raises(InputError, match="shards of mfcc runs with other options .*scancel"):
        submit_study(study(root, *SMALL[:-1], "9"))


def test_a_job_that_runs_with_fewer_seeds_is_waited_for_and_followed(inputs, queue):
    root = inputs("root")
    touch(root, *DATA, *EMBEDDING)
    submit_study(study(root, *SMALL))
    running = queue.job("knn mfcc")["id"]
    queue.becomes("RUNNING", running)
    submit_study(study(root, *SMALL, "--seeds", "1,2"))
    assert queue.job("knn mfcc")["dependency"] == f"afterany:{running}"


def test_a_table_that_runs_when_a_seed_is_added_is_made_once_more(inputs, queue):
    root = inputs("root")
    touch(root, *DATA, *EMBEDDING, *RUNS)
    assert new(submit_study(study(root, *SMALL))) == ["table", "report"]
    running = queue.job("table")["id"]
    queue.becomes("RUNNING", running)
    again = new(submit_study(study(root, *SMALL, "--seeds", "1,2")))
    assert again[-2:] == ["table", "report"]
    assert queue.job("table")["dependency"].endswith(f",afterany:{running}")


def test_what_is_made_from_a_table_that_is_remade_is_not_done(inputs, queue):
    root = inputs("root")
    touch(root, *DATA, *EMBEDDING, *RUNS, TABLE, REPORT)
    assert new(submit_study(study(root, *SMALL))) == []
    touch(root, "runs/knn-mfcc-s1/metrics.json")
    assert new(submit_study(study(root, *SMALL))) == ["table", "report"]
    assert queue.job("report")["dependency"] == f"afterok:{queue.job('table')['id']}"


def test_what_has_changed_is_named_and_nothing_is_submitted(inputs, queue):
    root = inputs("root")
    touch(root, *DATA, *EMBEDDING, *RUNS, TABLE, REPORT)
    (root / "data/split.json").unlink()
    queue.changed = {"0_get_plays_pqt.py": {0: "plays.pqt is finished, but the log is another"}}
    with pytest.raises(InputError, match="1 stages were made .*plays: .*another.* --overwrite"):
        submit_study(study(root, *SMALL))
    assert not queue.submitted and not (root / "runs/study.json").exists()

    nodes = submit_study(study(root, *SMALL, "--overwrite"))
    overwritten = {n.stage.name for n in nodes if n.submitted and n.flags[-1] == "--overwrite"}
    assert overwritten == {
        *("plays", "split", *CONTROL_STAGES),
        *("knn mfcc", "knn noise", "shallow mfcc", "shallow noise"),
    }
    assert new(nodes)[-2:] == ["table", "report"]
    assert "embedding mfcc" not in new(nodes), "the tracks are the same"
    assert not new(submit_study(study(root, *SMALL, "--overwrite")))
    queue.changed = {}  # it has been made again
    finish(root, queue, *DATA, "data/plays.json")
    assert "plays" not in new(submit_study(study(root, *SMALL)))


def test_an_edited_config_makes_its_seeds_again_and_is_told_by_the_status(inputs, queue):
    root = inputs("root")
    touch(root, *DATA, *EMBEDDING, *RUNS, TABLE, REPORT)
    submit_study(study(root, *SMALL))
    queue.changed = {"train.py mfcc": {0: "s1: epochs was 3, now 4; --overwrite makes it again"}}
    nodes = look(study(root, *SMALL), Record.read(root), queue.tasks)
    said = [describe(n, {m.stage.name: m for m in nodes}, 5) for n in nodes if n.changed]
    assert said == [("changed", ["CHANGED    shallow mfcc: s1: epochs was 3, now 4"])]
    nodes = submit_study(study(root, *SMALL, "--overwrite"))
    assert new(nodes) == ["shallow mfcc", "table", "report"]
    assert queue.job("shallow mfcc")["args"][-1] == "--overwrite"


def test_when_slurm_refuses_half_way_it_is_said_what_stands_in_the_queue(
    inputs, queue, monkeypatch
):
    root = inputs("root")

    def refuses(batch, *given):
        if batch == "train.sh":
            raise WorkError("sbatch failed: invalid partition")
        return queue.submit(batch, *given)

    monkeypatch.setattr(cluster, "submit", refuses)
    with pytest.raises(WorkError, match=r"invalid partition; \d jobs .*: 100, .*--cancel --root"):
        submit_study(study(root, *SMALL))


def test_the_jobs_of_another_person_keep_a_second_one_out(inputs, queue, monkeypatch):
    root = inputs("root")
    submit_study(study(root, *SMALL))
    monkeypatch.setattr(submission.getpass, "getuser", lambda: "zoe")
    with pytest.raises(InputError, match="holds the study of .*, who has 1. jobs of it"):
        submit_study(study(root, *SMALL))
    with pytest.raises(InputError, match="whose 1. jobs only .* can cancel"):
        cancel_study(study(root, *SMALL))
    assert not queue.cancelled
    queue.tasks = []
    submit_study(study(root, *SMALL))
    assert Record.read(root).user == "zoe"
