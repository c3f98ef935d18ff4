"""What a study would ask for, how it goes on in waves where queues are short, and its end."""

import dataclasses
import json
import threading
import time

import pytest
from made_up_slurm import N_STAGES, SMALL, made_up_queue, study, touch

from core.artifacts import exclusive
from core.options import InputError, parse_config
from core.registry import RECOMMENDERS
from study import forecast
from study.config import HERE, StudyConfig, flags_of
from study.record import Record, study_file
from study.submission import cancel_study, foresee_study, submit_study

DATA = ("data/plays.pqt", "data/plays.json", "data/split.json")


@pytest.fixture
def queue(monkeypatch):
    return made_up_queue(monkeypatch)


def active(queue):
    return [task for task in queue.tasks if task.active]


def run_wave(root, queue, *flags, failed=()):
    """Let all but the wave's job end, those of `failed` stages badly; then do what that job does.

    Tell which stages it has submitted. The wave's job runs while it does so, and after it.
    """
    waves = [job["id"] for job in queue.submitted if job["comment"].endswith(": wave")]
    for job in queue.submitted:
        stage = job["comment"].split(": ")[1]
        queue.becomes("FAILED" if stage in failed else "COMPLETED", job["id"])
        if job["id"] == waves[-1]:
            queue.becomes("RUNNING", job["id"])
        if stage in ("plays", "split"):
            touch(root, *DATA)
    return [n.stage.name for n in submit_study(study(root, *SMALL, *flags, "--wave")) if n.taken]


def test_no_more_than_at_most_are_in_the_queue_and_the_last_submits_the_rest(tmp_path, queue):
    flags = ("--at-most", "4", "--seeds", "1,2")
    nodes = submit_study(study(tmp_path, *SMALL, *flags))
    assert len(active(queue)) == 4
    assert [node.stage.name for node in nodes if node.taken] == ["plays", "split", "shards of mfcc"]
    assert queue.job("shards of mfcc")["array"] == "0%8"
    wave = queue.job("wave")
    assert wave["batch"] == "stage.sh" and wave["args"][0] == "run_study.py"
    assert wave["args"][-1] == "--wave" and "--at-most" in wave["args"]
    ids = [str(queue.job(name)["id"]) for name in ("plays", "split", "shards of mfcc")]
    assert wave["dependency"] == "afterany:" + ":".join(ids)
    assert not [n for n in submit_study(study(tmp_path, *SMALL, *flags)) if n.taken]
    assert len([task for task in active(queue) if task.comment.endswith(": wave")]) == 1

    next_ones = run_wave(tmp_path, queue, *flags)
    assert next_ones == ["shards of mfcc"] and queue.job("shards of mfcc")["array"] == "1-2%8"
    assert len(active(queue)) == 4


@pytest.mark.parametrize("at_most", [3, 4, 6])
def test_a_wave_counts_itself_while_it_submits(tmp_path, queue, at_most):
    flags = ("--at-most", at_most, "--seeds", "1,2")
    submit_study(study(tmp_path, *SMALL, *flags))
    for _ in range(3):
        assert run_wave(tmp_path, queue, *flags) or at_most == 6  # which soon has asked for all
        assert len(active(queue)) <= at_most


def test_a_wave_submits_again_what_ran_with_fewer_seeds_when_somebody_asked_for_more(
    tmp_path, queue
):
    touch(tmp_path, *DATA, "embeddings/mfcc.npy", "embeddings/mfcc.json")
    submit_study(study(tmp_path, *SMALL, "--at-most", "7"))
    knn = queue.job("knn mfcc")["id"]
    for job in queue.submitted[:-1]:
        queue.becomes("RUNNING", job["id"])
    flags = ("--at-most", "7", "--seeds", "1,2")
    submit_study(study(tmp_path, *SMALL, *flags))
    assert queue.job("knn mfcc")["id"] == knn, "there was no room beside what runs"
    assert "knn mfcc" in run_wave(tmp_path, queue, *flags)
    assert queue.job("knn mfcc")["id"] != knn and "1,2" in queue.job("knn mfcc")["args"]


def test_what_has_failed_is_left_to_people_and_does_not_keep_waves_going(tmp_path, queue):
    flags = ("--at-most", "3")
    submit_study(study(tmp_path, *SMALL, *flags))
    for _ in range(N_STAGES + 6):
        before = len(queue.submitted)
        run_wave(tmp_path, queue, *flags, failed=("shards of mfcc",))
        if len(queue.submitted) == before:
            break
    else:
        pytest.fail("it goes on for ever")
    tried = [job["array"] for job in queue.submitted if "shards" in job["comment"]]
    assert tried == ["0%8", "1%8", "2%8", "3%8"], "each shard once"
    submit_study(study(tmp_path, *SMALL, *flags))
    assert queue.job("shards of mfcc")["array"] == "0-1%8", "somebody has submitted again"


def test_cancel_ends_the_wave_too_and_only_this_study(tmp_path, queue):
    submit_study(study(tmp_path / "other", *SMALL))
    submit_study(study(tmp_path / "one", *SMALL, "--at-most", "3"))
    others = len(queue.tasks) - 3
    assert cancel_study(study(tmp_path / "one", *SMALL)) == 3
    assert len(queue.tasks) == others
    with pytest.raises(InputError, match="nothing was submitted from it"):
        cancel_study(study(tmp_path / "none", *SMALL))


def test_what_one_command_does_is_not_what_a_study_is(tmp_path):
    config = study(tmp_path, "--slurm", "--dry-run", "--at-most", "5")
    assert "--dry-run" not in flags_of(config) and "--at-most" in flags_of(config)
    with pytest.raises(InputError, match="--at-most must be at least 3"):
        study(tmp_path, "--slurm", "--at-most", "2")
    with pytest.raises(InputError, match="go with --slurm"):
        study(tmp_path, "--cancel")


def test_a_dry_run_tells_what_would_be_asked_for_and_submits_nothing(tmp_path, queue, monkeypatch):
    rates = tmp_path / "rates.csv"
    rates.write_text("what,unit,seconds,where\nmfcc,track,36,a card\nshallow,pair,360,a card\n")
    monkeypatch.setattr(forecast, "RATES", rates)
    config = study(tmp_path / "root", *SMALL, "--dry-run", "--seeds", "1,2")
    (tmp_path / "root/trackid_sorted.csv").write_text("idx,trackid\n" + "0,a\n" * 100)
    (tmp_path / "root/log.tsv").write_text("x" * forecast.LINE * 20)
    nodes = foresee_study(config)
    lines = forecast.foretell(config, nodes)
    rated = ("shards of mfcc", "embedding mfcc", "shallow mfcc", "shallow noise")
    unknown = [node.stage.name for node in nodes if node.stage.name not in rated]
    said = "\n".join(lines)
    assert "shards of mfcc: 4 tasks, each 8 cpus, 12G, at most 10:00:00; about 1.0 h in all" in said
    assert "embedding mfcc: 8 cpus, 12G, at most 10:00:00; under a minute in all" in said
    assert "2 tasks, each 4 cpus, 20G, at most 48:00:00, 1 GPU; about 4.0 h" in next(
        line for line in lines if "shallow mfcc:" in line
    )
    end = lines[-4:]
    assert f"would submit {N_STAGES} jobs of" in end[0] and "nothing was submitted" in end[0]
    assert end[1:] == [
        "about 9.0 h, about 8.0 h of GPUs",
        "by rates of study/rates.csv, measured on: a card",
        f"without what has no rate: {', '.join(unknown)}",
    ]
    assert not queue.submitted and not study_file(tmp_path / "root").exists()


def test_rates_are_those_of_this_root_where_it_has_some(tmp_path):
    touch(tmp_path, "embeddings/x.json", "runs/knn-x-s1/metrics.json")
    assert forecast.rates_of(tmp_path) == {}
    made = {"seconds": 50.0, "n_tracks": 100}
    (tmp_path / "embeddings/x.json").write_text(json.dumps(made))
    assert forecast.rates_of(tmp_path) == {"x": ("track", 0.5)}


def test_the_table_of_rates_covers_every_stage_of_the_sample(tmp_path, queue):
    flags = ["--slurm", "--root", str(tmp_path / "sample")]
    known = ("mfcc", "musicnn")  # backbones that were measured
    names = ",".join(name for name in RECOMMENDERS if name in forecast.read_rates(forecast.RATES))
    config = parse_config(StudyConfig, "", [*flags, "--recommenders", names])
    assert config.embeddings == known and names.count(",") >= 6
    lines = forecast.foretell(config, foresee_study(config))
    assert not any(line.startswith("without") for line in lines)


def test_a_packed_log_has_more_plays_than_its_bytes_say(tmp_path, queue):
    config = study(tmp_path, *SMALL)
    (tmp_path / "log.tsv").write_text("x" * 45 * 20)
    assert forecast.sizes(config, [])["play"] == 20
    packed = dataclasses.replace(config, log=tmp_path / "log.tsv.bz2")
    (tmp_path / "log.tsv").rename(packed.log)
    assert forecast.sizes(packed, [])["pair"] == 100


def test_a_site_sets_resources_and_the_dry_run_tells_them(tmp_path, queue, monkeypatch):
    for name in ("cluster.sh", "train.sh", "stage.sh"):
        (tmp_path / name).write_text((HERE / name).read_text())
    (tmp_path / "cluster.env").write_text("TIME_train=1:00:00\nMEM_PER_CPU=3G\nPARTITION=gpu\n")
    monkeypatch.setattr(forecast.cluster, "HERE", tmp_path)
    asked = forecast.cluster.resources("train.sh", "train.py", ["--gres=none"])
    assert asked["time"] == "1:00:00" and asked["partition"] == "gpu" and "mem" not in asked
    assert forecast.gpus_of(asked) == 0 and asked["cpus-per-task"] == "4"


def test_a_wave_belongs_to_the_round_of_who_submitted(tmp_path, queue):
    submit_study(study(tmp_path, *SMALL, "--at-most", "3"))
    run_wave(tmp_path, queue, "--at-most", "3")
    assert Record.read(tmp_path).round == 1
    submit_study(study(tmp_path, *SMALL, "--at-most", "3"))
    assert Record.read(tmp_path).round == 2


def test_who_cancels_while_a_wave_submits_waits_for_it(tmp_path, queue):
    config = study(tmp_path, *SMALL, "--at-most", "4")
    submit_study(config)
    lock = study_file(tmp_path).with_name(".study.lock")
    began = threading.Event()

    def submits():
        with exclusive(lock, "the study"):
            began.set()
            time.sleep(0.5)

    wave = threading.Thread(target=submits)
    wave.start()
    began.wait()
    with pytest.raises(InputError, match="another process is working on the study"):
        submit_study(config)
    assert cancel_study(dataclasses.replace(config, cancel=True)) == 4
    wave.join()
