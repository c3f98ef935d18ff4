"""What is said of running, cancelled and failed jobs, and what a job gets after one that failed."""

from dataclasses import replace

import pytest
from made_up_slurm import SMALL, made_up_queue, study, touch

import study_status
from core.artifacts import write_json
from core.options import InputError, WorkError
from extract_item_embeddings.engine.parts import Part, Parts
from study import cluster, endings
from study.cluster import Task
from study.graph import look
from study.progress import describe
from study.record import Record
from study.running import bar, elapsed
from study.submission import cancel_study, submit_study
from study.tree import tree
from study.usage import duration

DATA = ("data/plays.pqt", "data/plays.json", "data/split.json")
EPOCHS = "epoch   1/20  train 0.1  best @ 1  rate 1e-03  4.5 s\nepoch   2/20  train 0.1  2.5 s\n"


@pytest.fixture
def queue(monkeypatch):
    return made_up_queue(monkeypatch)


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Return a function that writes a log of a job, in logs/ of a project of its own."""
    monkeypatch.setattr(endings, "HERE", tmp_path / "project")
    monkeypatch.setattr("study.progress.HERE", tmp_path / "project")
    (tmp_path / "project" / "logs").mkdir(parents=True)

    def write(job, text, number=endings.NO_ARRAY):
        (tmp_path / "project" / "logs" / f"x-{job}_{number}.out").write_text(text)

    return write


def said(root, queue, stage, *flags):
    """Return state and lines of a stage."""
    nodes = look(study(root, *SMALL, *flags), Record.read(root), queue.tasks)
    by_name = {node.stage.name: node for node in nodes}
    state, lines = describe(by_name[stage], by_name, 5)
    return state, "\n".join(lines)


def test_a_training_that_runs_has_a_bar_a_rate_and_a_time(tmp_path, queue, logs):
    root = tmp_path / "root"
    touch(root, *DATA, "embeddings/mfcc.npy", "embeddings/mfcc.json")
    submit_study(study(root, *SMALL))
    job = queue.job("shallow mfcc")["id"]
    queue.becomes("RUNNING", job)
    logs(job, EPOCHS, 0)
    state, text = said(root, queue, "shallow mfcc")
    assert state == "running"
    assert f"{job}_0 [##..................] epoch 2/20, 2.5 s each, at most 45 s left" in text


def test_an_extraction_that_runs_tells_what_it_has_saved(tmp_path, queue, logs):
    root = tmp_path / "root"
    touch(root, *DATA)
    submit_study(study(root, *SMALL))
    job = queue.job("shards of mfcc")["id"]
    queue.becomes("RUNNING", job, 1)
    queue.tasks = [replace(t, time="1-00:00:10") if t.job == job else t for t in queue.tasks]
    write_json(root / "embeddings/mfcc.parts/plan.json", {"shards": 4, "window": 5, "width": 2})
    (root / "trackid_sorted.csv").write_text("idx,trackid\n" + "0,a\n" * 40)
    parts = Parts(root / "embeddings/mfcc.parts", 40, 2, 5, 4)
    parts.save(parts.windows()[2], Part.empty(5, 2))
    _, text = said(root, queue, "shards of mfcc")
    assert f"{job}_1 [##########..........] 5/10 tracks, 5.79e-05 a second, 24.0 h left" in text
    logs(job, "going on: 5 of 10 tracks are done\n", 1)
    assert said(root, queue, "shards of mfcc")[1].endswith("] 5/10 tracks")


def test_what_was_cancelled_is_not_said_to_have_failed(tmp_path, queue, logs):
    root = tmp_path / "root"
    submit_study(study(root, *SMALL))
    plays = queue.job("plays")["id"]
    queue.becomes("RUNNING", plays)
    logs(plays, "half way\n")
    cancel_study(study(root, *SMALL))
    queue.tasks = []  # Slurm has forgotten
    for stage in ("plays", "split", "shards of mfcc", "table"):
        assert said(root, queue, stage)[0] == "cancelled", stage


@pytest.mark.parametrize(
    ("last_words", "advice"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=9.batch", "set MEM_stage"),
        ("slurmstepd: error: StepId=9.batch exceeded memory limit (9 > 6), being", "set MEM_stage"),
        ("error: *** JOB 9 ON n CANCELLED AT 1 DUE TO TIME LIMIT ***", "TIMEOUT: set TIME_"),
        ("slurmstepd: *** JOB 9 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***", "nothing is wrong"),
    ],
)
def test_why_it_ended_is_read_from_the_log_once_slurm_has_forgotten(
    tmp_path, queue, logs, last_words, advice
):
    root = tmp_path / "root"
    submit_study(study(root, *SMALL))
    logs(queue.job("plays")["id"], f"line\n{last_words}\n")
    queue.tasks = []
    state, text = said(root, queue, "plays")
    assert state == "failed" and advice.replace("stage", "0_get_plays_pqt") in text


def test_after_out_of_memory_it_gets_twice_as_much_once(tmp_path, queue, logs):
    root = tmp_path / "root"
    touch(root, *DATA, "embeddings/mfcc.npy", "embeddings/mfcc.json")
    submit_study(study(root, *SMALL))
    queue.becomes("OUT_OF_MEMORY", queue.job("shallow mfcc")["id"])
    assert "it gets twice the memory, once" in said(root, queue, "shallow mfcc")[1]
    nodes = submit_study(study(root, *SMALL))
    assert queue.job("shallow mfcc")["mem"] == "40960M"
    assert any("with 40,960 MB, twice as much" in line for line in tree(nodes))
    queue.becomes("OUT_OF_MEMORY", queue.job("shallow mfcc")["id"])
    assert "twice" not in said(root, queue, "shallow mfcc")[1]
    submit_study(study(root, *SMALL))
    assert "mem" not in queue.job("shallow mfcc")


def test_without_an_answer_of_slurm_the_files_tell_the_status(tmp_path, queue, capsys, monkeypatch):
    submit_study(study(tmp_path, *SMALL))
    touch(tmp_path, *DATA)

    def down(user=None):
        raise WorkError("squeue failed: Unable to contact slurm controller")

    monkeypatch.setattr(cluster, "tasks", down)
    study_status.main(study_status.StatusConfig(root=tmp_path))
    out = capsys.readouterr().out
    assert "Slurm does not answer (squeue failed" in out and "done       split" in out
    with pytest.raises(WorkError, match="Unable to contact"):
        submit_study(study(tmp_path, *SMALL))


def test_what_began_before_slurm_went_down_is_not_said_to_have_failed(
    tmp_path, queue, logs, capsys, monkeypatch
):
    submit_study(study(tmp_path, *SMALL))
    plays = queue.job("plays")["id"]
    logs(plays, "half way\n")

    def down(user=None):
        raise WorkError("squeue failed")

    monkeypatch.setattr(cluster, "tasks", down)
    study_status.main(study_status.StatusConfig(root=tmp_path))
    out = capsys.readouterr().out
    assert f"not known  plays: submitted as {plays}\n" in out and "FAILED" not in out
    assert "go on" not in out


def test_slurm_that_is_down_is_said_to_be_and_what_to_wait_for(monkeypatch):
    line = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    monkeypatch.setattr(cluster, "HERE", ".")
    with pytest.raises(WorkError, match=r"Slurm itself is down: .*scontrol ping"):
        cluster._call(["bash", "-c", f"echo '{line}' >&2; exit 1"])


def test_what_a_wave_will_submit_is_neither_missing_nor_to_be_submitted(tmp_path, queue, capsys):
    submit_study(study(tmp_path, *SMALL, "--at-most", "3"))
    study_status.main(study_status.StatusConfig(root=tmp_path))
    out, wave = capsys.readouterr().out, queue.job("wave")["id"]
    assert f"later      table: wave {wave} submits it\n" in out and "go on" not in out
    queue.tasks = [task for task in queue.tasks if task.job == wave]
    assert study_status.show(study_status.StatusConfig(root=tmp_path), last=False), "it goes on"


def test_a_wave_that_has_failed_is_named_with_what_it_said(tmp_path, queue, logs, capsys):
    submit_study(study(tmp_path, *SMALL, "--at-most", "4"))
    wave = queue.job("wave")["id"]
    logs(wave, "run_study.py: no room\n== wave.x: exit code 2\n")
    queue.tasks.clear()
    with pytest.raises(WorkError, match="the rest was not submitted; go on: .*run_all.sh"):
        study_status.main(study_status.StatusConfig(root=tmp_path))
    out = capsys.readouterr().out
    assert f"FAILED     wave {wave}, which was to submit the rest:\n" in out
    assert "           | run_study.py: no room\n" in out


def test_a_wave_that_has_submitted_what_it_could_is_no_failure(tmp_path, queue, logs, capsys):
    submit_study(study(tmp_path, *SMALL, "--at-most", "4"))
    logs(queue.job("wave")["id"], "plays: 100\n1 jobs submitted; how far they are: ...\n")
    queue.tasks.clear()
    study_status.main(study_status.StatusConfig(root=tmp_path))
    assert "FAILED" not in capsys.readouterr().out


def test_a_wave_that_was_cancelled_is_no_failure(tmp_path, queue, logs, capsys):
    config = study(tmp_path, *SMALL, "--at-most", "4")
    submit_study(config)
    wave = queue.job("wave")["id"]
    queue.becomes("RUNNING", wave)
    cancel_study(config)
    logs(wave, "submits\n== wave.x: exit code 143\n")
    study_status.main(study_status.StatusConfig(root=tmp_path))
    assert "FAILED" not in capsys.readouterr().out


def test_what_had_failed_is_later_once_a_wave_will_submit_it_again(tmp_path, queue, logs, capsys):
    submit_study(study(tmp_path, *SMALL))
    for task in queue.tasks[:]:
        queue.becomes("CANCELLED" if task.comment.endswith("table") else "FAILED", task.job)
    with pytest.raises(WorkError, match="stages failed"):
        study_status.main(study_status.StatusConfig(root=tmp_path))
    assert "cancelled  table" in capsys.readouterr().out
    submit_study(study(tmp_path, *SMALL, "--at-most", "3"))
    study_status.main(study_status.StatusConfig(root=tmp_path))
    out = capsys.readouterr().out
    assert "later      table: wave " in out and "later      shards of mfcc: wave " in out
    assert "FAILED" not in out and "go on" not in out


@pytest.mark.parametrize("answers_late", [False, True])
def test_a_wave_that_ends_while_one_looks_leaves_nothing_to_be_submitted(
    tmp_path, queue, capsys, monkeypatch, answers_late
):
    flags = ("--at-most", "3")
    submit_study(study(tmp_path, *SMALL, *flags))
    waits, looks = [queue.job("wave")["id"]], []

    def during_a_wave(user=None):
        looks.append(queue.tasks)
        if waits:  # the first look: meanwhile the wave submits the next and ends
            wave = waits.pop()
            touch(tmp_path, "data/plays.pqt", "data/plays.json")
            queue.becomes("COMPLETED", queue.job("plays")["id"])
            queue.becomes("RUNNING", wave)
            submit_study(study(tmp_path, *SMALL, *flags, "--wave"))
            queue.becomes("COMPLETED", wave)
            return queue.tasks if answers_late else looks[0]
        return queue.tasks

    monkeypatch.setattr(cluster, "tasks", during_a_wave)
    study_status.main(study_status.StatusConfig(root=tmp_path))
    out, split = capsys.readouterr().out, queue.job("split")["id"]
    assert f"waiting    split: {split} pending" in out
    assert f"later      table: wave {queue.job('wave')['id']} submits it" in out
    assert "go on" not in out and len(looks) == 3, "status, wave, and the status once more"


def test_more_memory_that_somebody_has_set_is_not_doubled(tmp_path, queue, logs, monkeypatch):
    root = tmp_path / "root"
    touch(root, *DATA, "embeddings/mfcc.npy", "embeddings/mfcc.json")
    submit_study(study(root, *SMALL))
    queue.becomes("OUT_OF_MEMORY", queue.job("shallow mfcc")["id"])
    real = cluster.resources
    monkeypatch.setattr(cluster, "resources", lambda *a: real(*a) | {"mem": "30G"})
    submit_study(study(root, *SMALL))
    assert "mem" not in queue.job("shallow mfcc")
    queue.becomes("OUT_OF_MEMORY", queue.job("shallow mfcc")["id"])
    submit_study(study(root, *SMALL))
    assert queue.job("shallow mfcc")["mem"] == "61440M"


def test_memory_for_each_processor_is_doubled_too(tmp_path, queue, logs, monkeypatch):
    root = tmp_path / "root"
    touch(root, *DATA, "embeddings/mfcc.npy", "embeddings/mfcc.json")
    asked = {"mem-per-cpu": "3G", "cpus-per-task": "4", "time": "1:00:00"}
    monkeypatch.setattr(cluster, "resources", lambda *_: asked)
    submit_study(study(root, *SMALL))
    queue.becomes("OUT_OF_MEMORY", queue.job("shallow mfcc")["id"])
    submit_study(study(root, *SMALL))
    assert queue.job("shallow mfcc")["mem"] == f"{2 * 4 * 3072}M"


def test_it_is_watched_until_no_job_is_left(tmp_path, queue, capsys, monkeypatch):
    submit_study(study(tmp_path, *SMALL))
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            queue.tasks = []

    monkeypatch.setattr(study_status.time, "sleep", sleep)
    monkeypatch.setattr(study_status.sys.stdout, "isatty", lambda: True)
    study_status.main(study_status.StatusConfig(root=tmp_path, watch=2))
    assert looks == [2, 2, 2] and capsys.readouterr().out.count("\033[2J") == 3
    with pytest.raises(InputError, match="--watch must be at least 1"):
        study_status.StatusConfig(watch=0.1)


def test_bars_and_times():
    assert bar(1, 2) == "[##########..........]" and bar(0, 0) == "[....................]"
    task = Task(1, 0, False, "RUNNING", "", "", "2-01:00:05", "")
    assert elapsed(task) == 2 * 86400 + 3605 and elapsed(replace(task, time="1:05")) == 65
    assert [duration(s) for s in (30, 600, 7200)] == ["30 s", "10 min", "2.0 h"]
