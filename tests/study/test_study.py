"""The study's list of stages, and what of it is submitted, over a queue that is made up."""

import json
import os
import re

import pytest
from conftest import HERE, shell
from made_up_slurm import CONTROL_RUNS, CONTROL_STAGES, N_STAGES, SMALL, made_up_queue, study, touch

from core.artifacts import write_json
from core.options import InputError, parse_config
from core.registry import RECOMMENDERS
from extract_item_embeddings.engine.parts import Part, Parts
from study import cluster
from study.cluster import node_share
from study.config import StudyConfig, flags_of
from study.graph import look
from study.progress import describe
from study.record import Record
from study.stages import plan
from study.submission import submit_study
from study.tree import tree

SHUFFLED = ("published_shuffled",)

USUAL = "knn,shallow,bert4rec"


@pytest.fixture
def queue(monkeypatch):
    return made_up_queue(monkeypatch)


def test_every_stage_comes_after_what_it_needs_here_and_in_slurm(tmp_path):
    for flags in ((), ("--slurm",)):
        seen = set()
        for stage in plan(study(tmp_path, "--seeds", "1,2", *flags)):
            assert set(stage.needs) <= seen
            seen.add(stage.name)


def test_here_and_in_slurm_the_same_commands_run(tmp_path):
    here = {s.python for s in plan(study(tmp_path, "--seeds", "1,2"))}
    there = [s.python for s in plan(study(tmp_path, "--seeds", "1,2", "--slurm", "--shards", "4"))]
    assert here == {re.sub(r" --shards 4( --join)?$", "", line) for line in there}


def test_without_log_and_audio_a_sample_is_made_first(tmp_path):
    stages = plan(parse_config(StudyConfig, "", ["--root", str(tmp_path / "s")]))
    assert [stage.name for stage in stages[:3]] == ["sample", "plays", "split"]
    assert f"--audio {tmp_path}/s/audio" in stages[1].python
    assert f"--config {HERE}/sample.yaml" in next(s for s in stages if "bert" in s.name).python


def test_every_stage_that_looks_for_clips_is_told_which(tmp_path):
    stages = plan(study(tmp_path, "--pattern", "**/*.mp3"))
    hears = [s.name for s in stages if "--audio" in s.python]
    assert hears == ["plays", "embedding mfcc", "embedding musicnn", "report"]
    assert all("--pattern '**/*.mp3'" in s.python for s in stages if s.name in hears)
    with pytest.raises(InputError, match="--pattern needs --audio DIR"):
        parse_config(StudyConfig, "", ["--root", str(tmp_path / "s"), "--pattern", "*.mp3"])


def test_trained_tracks_and_shuffled_rows_are_runs_of_their_own(tmp_path):
    def runs(*flags):
        flags = ("--embeddings", "mfcc,random", "--recommenders", USUAL, *flags)
        config = study(tmp_path, *flags)
        found = {s.name: s.python for s in plan(config) if s.needs and s.needs[0] == "split"}
        return {name: line for name, line in found.items() if name not in CONTROL_STAGES}

    usual = ["knn mfcc", "knn mfcc shuffled", "knn noise", "shallow mfcc", "shallow mfcc shuffled"]
    usual += ["shallow random", "shallow noise", "bert4rec mfcc", "bert4rec random"]
    assert list(runs()) == [*usual, "bert4rec noise"]
    assert set(USUAL.split(",")) <= set(study(tmp_path).recommenders), "they are run unasked"
    both = runs("--tracks", "frozen,trained", "--shuffled", "none")
    assert set(both) == {name for name in runs() if "shuffled" not in name} | {
        "shallow mfcc trained",
        "bert4rec mfcc trained",
    }
    assert both["shallow mfcc trained"].endswith(" --train-tracks true --tag trained")
    assert runs()["knn mfcc shuffled"].endswith(" --shuffle")
    trained = runs("--tracks", "trained", "--shuffled", "none")
    assert {"knn mfcc", "shallow mfcc trained"} <= set(trained) and "shallow mfcc" not in trained


def test_as_published_every_run_and_the_extractions_that_can_are_so(tmp_path):
    names = ("--as-published", "--recommenders", "all", "--embeddings", "mfcc,mert,random")
    stages = {s.name: s for s in plan(study(tmp_path, *names))}
    runs = {name: s for name, s in stages.items() if "published" in name and s.needs[0] == "split"}
    made = [f"{n} {tag}" for n in ("mfcc", "mert_published") for tag in ("published", *SHUFFLED)]
    assert [name for name in runs if name.startswith("knn ")] == [
        *(f"knn {each}" for each in made),
        "knn noise published",
    ]
    assert "shallow random published" in runs and "hybrid mert_published published" in runs
    for name, stage in runs.items():
        assert "--as-published" in stage.flags and "--train-tracks" not in stage.flags
        assert ("--shuffle" in stage.flags) == ("shuffled" in name)
    others = [n for n in stages if n.split()[0] in RECOMMENDERS and n not in runs]
    assert not others, "no row that is not as published is made beside them"
    assert stages["embedding mert_published"].python.endswith("--as-published")
    assert not stages["embedding mfcc"].python.endswith("--as-published")
    touch(tmp_path, "runs/shallow-mfcc-published-s1/metrics.json")
    touch(tmp_path, "embeddings/mert_published.npy", "embeddings/mert_published.json")
    assert stages["shallow mfcc published"].missing() == []
    assert stages["embedding mert_published"].missing() == []
    submitted = {s.name: s for s in plan(study(tmp_path, *names, "--slurm", "--shards", "2"))}
    assert submitted["shards of mert_published"].batch == "extract_item_embeddings/mert.sh"
    assert "knn mert_published published" in submitted
    with pytest.raises(InputError, match="leave --tracks away"):
        study(tmp_path, "--as-published", "--tracks", "frozen")


def test_an_unknown_choice_of_runs_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="--tracks knows frozen, trained, got 'melted'"):
        study(tmp_path, "--tracks", "melted")
    with pytest.raises(InputError, match="--shuffled knows .*knn, .*, none, got 'x'"):
        study(tmp_path, "--shuffled", "x")


def test_what_is_on_the_disk_is_not_missing(tmp_path):
    config = study(tmp_path, "--seeds", "1,2,3", "--recommenders", "knn,shallow")
    stages = {stage.name: stage for stage in plan(config)}
    assert stages["shallow mfcc"].missing() == [0, 1, 2] and stages["knn mfcc"].missing() == [0]
    touch(tmp_path, "runs/shallow-mfcc-s2/metrics.json", "runs/knn-mfcc-s1/metrics.json")
    assert stages["shallow mfcc"].missing() == [0, 2] and stages["knn mfcc"].missing() == [0]
    touch(
        tmp_path,
        *(f"runs/{r}-mfcc-s{s}/metrics.json" for r in ("knn", "shallow") for s in (1, 2, 3)),
    )
    assert stages["shallow mfcc"].missing() == stages["knn mfcc"].missing() == []
    touch(tmp_path, "data/plays.pqt")
    assert stages["plays"].missing() == [0]
    touch(tmp_path, "data/plays.json")
    assert stages["plays"].missing() == []


def test_the_table_is_made_again_when_a_run_is_newer(tmp_path):
    config = study(tmp_path, "--embeddings", "noise", "--recommenders", "knn")
    table = plan(config)[-2]
    runs = [
        *("runs/knn-noise-s1/metrics.json", *CONTROL_RUNS),
    ]
    touch(tmp_path, *runs[:-1], "tables/results.csv")
    assert table.missing() == [0], "a run is missing"
    touch(tmp_path, runs[-1])
    os.utime(tmp_path / "tables/results.csv", (2e9, 2e9))
    assert table.missing() == []
    os.utime(tmp_path / runs[0], (3e9, 3e9))
    assert table.missing() == [0]


def test_shards_are_missing_that_lack_a_track_or_hold_a_failed_one(tmp_path):
    write_json(tmp_path / "embeddings/mfcc.parts/plan.json", {"shards": 3, "window": 2, "width": 4})
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n" + "0,a\n" * 6)
    parts = Parts(tmp_path / "embeddings/mfcc.parts", 6, 4, 2, 3)
    for window in parts.windows()[:2]:
        part = Part.empty(2, 4)
        part.reasons = ["", "bad file" if window.start else ""]
        parts.save(window, part)
    shards = plan(study(tmp_path, "--slurm", "--shards", "3"))[2]
    assert shards.name == "shards of mfcc" and shards.missing() == [1, 2]
    other = plan(study(tmp_path, "--slurm", "--shards", "4"))[2]
    with pytest.raises(InputError, match="begun with --shards 3, now 4"):
        other.missing()
    touch(tmp_path, "embeddings/mfcc.npy", "embeddings/mfcc.json")
    assert other.missing() == [], "a finished embedding needs no shards"


def test_everything_is_submitted_once_each_job_after_those_it_needs(tmp_path, queue):
    config = study(tmp_path, "--seeds", "1,2", *SMALL)
    nodes = submit_study(config)
    ids = {node.stage.name: node.submitted for node in nodes}
    assert len(queue.submitted) == len(nodes) == N_STAGES
    assert "dependency" not in queue.job("plays")
    assert queue.job("shards of mfcc")["dependency"] == f"afterok:{ids['plays']}"
    assert queue.job("shards of mfcc")["array"] == "0-3%8"
    assert queue.job("embedding mfcc")["dependency"] == f"afterok:{ids['shards of mfcc']}"
    assert queue.job("embedding mfcc")["args"][-3:] == ["--shards", "4", "--join"]
    after = f"afterok:{ids['split']}:{ids['embedding mfcc']}"
    assert queue.job("shallow mfcc")["dependency"] == after
    assert queue.job("shallow mfcc")["array"] == "0-1%8"
    assert queue.job("table")["batch"] == "stage.sh" and queue.job("table")["args"][0] == "table.py"
    assert all(job["kill-on-invalid-dep"] == "yes" for job in queue.submitted)

    again = submit_study(config)
    assert len(queue.submitted) == N_STAGES and not any(node.submitted for node in again)
    record = json.loads((tmp_path / "runs/study.json").read_text())
    assert record["stages"]["shallow mfcc"][0]["tasks"] == [0, 1]
    assert parse_config(StudyConfig, "", record["flags"]) == config


def test_only_what_failed_is_submitted_again_and_what_waits_for_it(tmp_path, queue):
    config = study(tmp_path, *SMALL)
    submit_study(config)
    ids = {job["comment"].split(": ")[1]: job["id"] for job in queue.submitted}
    touch(tmp_path, "data/plays.pqt", "data/plays.json", "data/split.json")
    queue.becomes("COMPLETED", ids["plays"])
    queue.becomes("FAILED", ids["shards of mfcc"], 1)
    queue.becomes("RUNNING", ids["shards of mfcc"], 2)
    nodes = submit_study(config)
    new = [node.stage.name for node in nodes if node.submitted]
    assert new == [
        "shards of mfcc",
        "embedding mfcc",
        "knn mfcc",
        "shallow mfcc",
        "table",
        "report",
    ]
    assert queue.job("shards of mfcc")["array"] == "1%8"
    waits = queue.job("embedding mfcc")["dependency"].removeprefix("afterok:").split(":")
    old, repeated = ids["shards of mfcc"], queue.job("shards of mfcc")["id"]
    assert waits == [f"{old}_0", f"{old}_2", f"{old}_3", str(repeated)]
    assert str(ids["embedding mfcc"]) in queue.cancelled and str(ids["table"]) in queue.cancelled
    assert str(ids["shallow noise"]) not in queue.cancelled


def test_another_study_does_not_get_in_the_way(tmp_path, queue):
    submit_study(study(tmp_path / "one", *SMALL))
    submit_study(study(tmp_path / "other", *SMALL))
    assert len(queue.submitted) == 2 * N_STAGES


def test_trainings_share_a_node_of_n_gpus(tmp_path, queue, monkeypatch):
    monkeypatch.setattr(
        cluster, "nodes", lambda *_: {(64, 256000, 4), (8, 4000, 0), (12, 64000, 4)}
    )
    assert node_share(4, "train.sh") == ["--cpus-per-task=3", "--mem=15200M"]
    assert node_share(2, "train.sh") == ["--cpus-per-task=4", "--mem=20480M"], "no more than usual"
    with pytest.raises(InputError, match="--gpus 8: no node has so many, the largest has 4"):
        node_share(8, "train.sh")
    submit_study(study(tmp_path / "four", *SMALL, "--gpus", "4"))
    assert queue.job("shallow mfcc")["mem"] == "15200M" and "mem" not in queue.job("knn mfcc")
    submit_study(study(tmp_path / "none", *SMALL, "--gpus", "0"))
    assert queue.job("shallow mfcc")["gres"] == "none"


def test_the_tree_shows_each_job_below_what_it_waits_for(tmp_path, queue):
    lines = tree(submit_study(study(tmp_path, *SMALL)))
    assert lines[0] == "plays: 100" and re.match("      └─ shallow mfcc: 10\\d_.0.", lines[-1])
    assert "   └─ embedding mfcc: 103" in lines
    assert sum("table" in line for line in lines) == 1 and len(lines) == N_STAGES


def test_what_a_stage_is_said_to_do(tmp_path, queue):
    config = study(tmp_path, *SMALL)
    submit_study(config)
    ids = {job["comment"].split(": ")[1]: job["id"] for job in queue.submitted}
    touch(tmp_path, "data/plays.pqt", "data/plays.json")
    queue.becomes("RUNNING", ids["shards of mfcc"], 0, 1)
    queue.becomes("OUT_OF_MEMORY", ids["shards of mfcc"], 2)
    for name in ("embedding mfcc", "knn mfcc"):
        queue.becomes("CANCELLED", ids[name])
    nodes = look(config, Record.read(tmp_path), queue.tasks)
    by_name = {node.stage.name: node for node in nodes}
    states = {name: describe(node, by_name, 5) for name, node in by_name.items()}
    assert states["plays"][0] == "done" and states["split"][0] == "waiting"
    state, lines = states["shards of mfcc"]
    assert state == "failed" and "tasks 2" in lines[0] and "102_0 running" in lines[0]
    assert "set MEM_mfcc in cluster.env" in lines[1]
    assert (
        f"SLURM_ARRAY_TASK_ID=2 python -m extract_item_embeddings.mfcc --root {tmp_path}"
        in lines[-1]
    )
    assert states["knn mfcc"] == ("cancelled", ["cancelled  knn mfcc: it needs embedding mfcc"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recommenders", "knn,als"], ", got 'als'"),
        (["--embeddings", "mfc"], "'mfc' is unknown"),
        (["--log", "x"], "--log and --audio go together"),
        (["--slurm", "--shards", "0"], "--shards and --at-once must be at least 1"),
        (["--seed", "1"], "unknown flag '--seed'; did you mean '--seeds'"),
    ],
)
def test_wrong_options_are_refused_by_name(flags, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse_config(StudyConfig, "", flags)


def test_the_flags_of_a_study_give_it_again_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse_config(StudyConfig, "", ["--root", "r", "--slurm", "--seeds", "3,4"])
    assert flags_of(config) == ["--root", f"{tmp_path}/r", "--seeds", "3,4", "--slurm"]


def test_a_stage_that_fails_ends_the_study_with_its_exit_code(tmp_path):
    (tmp_path / "audio").mkdir()
    line = f"python run_study.py --root {tmp_path} --log {tmp_path}/none --audio {tmp_path}/audio"
    done = shell(line, tmp_path)
    assert done.returncode == 2 and "0_get_plays_pqt.py ended with exit code 2" in done.stderr
    assert "--log" in done.stderr.splitlines()[0]


def test_without_a_study_the_status_says_how_to_submit_one(tmp_path):
    done = shell(f"python study_status.py --root {tmp_path}", tmp_path)
    assert done.returncode == 2 and f"bash {HERE}/run_all.sh --slurm" in done.stderr


def test_one_command_that_makes_three_recommenders_runs_is_one_stage(tmp_path):
    names = "bimodal_content,bimodal_average,bimodal_collaborative"
    flags = ("--embeddings", "mfcc", "--recommenders", names)
    stages = {s.name: s for s in plan(study(tmp_path, *flags))}
    own = [name for name in stages if name.startswith("bimodal")]
    assert own == ["bimodal_average mfcc", "bimodal_average mfcc shuffled", "bimodal_average noise"]
    assert "elsa" in stages[own[0]].needs and stages["elsa"].batch == "train_elsa.sh"
    assert stages["elsa"].training and stages["elsa"].missing() == [0]
    everything = plan(study(tmp_path, "--recommenders", "all"))
    flags = {s.name: s.flags for s in everything}["table"]
    assert flags[-2:] == ("--layout", "journal")
    assert "--layout" not in stages["table"].flags
    runs = {s.name for s in everything}
    assert {"hybrid mfcc", "hybrid mfcc shuffled", "bimodal_average mfcc shuffled"} <= runs
