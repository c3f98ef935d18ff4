"""What is found before the first job is submitted, so that none is submitted in vain."""

import pytest
from made_up_slurm import SMALL, made_up_queue, study, touch

from core.options import InputError
from study import cluster, preflight
from study.fit import memory_of
from study.submission import submit_study


@pytest.fixture
def queue(monkeypatch):
    return made_up_queue(monkeypatch)


def refused(root, queue, *flags):
    """Return what a submission is refused with; it has submitted nothing."""
    with pytest.raises(InputError) as told:
        submit_study(study(root, *SMALL, *flags))
    assert not queue.submitted and not (root / "runs/study.json").is_file()
    return str(told.value)


def test_a_root_that_cannot_be_written(tmp_path, queue):
    touch(tmp_path, "runs")
    assert f"{tmp_path}/runs cannot be written" in refused(tmp_path, queue)


def test_a_log_or_audio_that_is_not_there(tmp_path, queue):
    config = study(tmp_path, *SMALL)
    (tmp_path / "log.tsv").unlink()
    with pytest.raises(InputError, match="log.tsv is missing"):
        submit_study(config)
    (tmp_path / "log.tsv").touch()
    (tmp_path / "audio").rmdir()
    with pytest.raises(InputError, match="audio is not a folder"):
        submit_study(config)
    assert not queue.submitted


def test_an_array_beyond_what_this_slurm_takes(tmp_path, queue, monkeypatch):
    monkeypatch.setattr(cluster, "limits", lambda: {"MaxArraySize": 5})
    assert "array up to 5, " in refused(tmp_path, queue, "--shards", "6")
    assert "up to 4 (MaxArraySize); give fewer --shards" in refused(
        tmp_path, queue, "--shards", "6"
    )
    submit_study(study(tmp_path, *SMALL, "--shards", "5"))


def test_gpus_that_no_node_has(tmp_path, queue, monkeypatch):
    monkeypatch.setattr(cluster, "nodes", lambda *_: {(64, 256000, 2)})
    assert "--gpus 8: no node has so many" in refused(tmp_path, queue, "--gpus", "8")


def test_a_job_that_no_node_can_hold(tmp_path, queue, monkeypatch):
    monkeypatch.setattr(cluster, "nodes", lambda *_: {(64, 10000, 2), (4, 30000, 0)})
    said = refused(tmp_path, queue)
    assert "plays asks for 4 cpus, 16,384 MB" not in said
    assert said.startswith("shards of mfcc asks for 8 cpus, 12,288 MB and 0 GPUs, and no node of ")
    assert said.endswith("4 cpus, 30,000 MB and 0 GPUs; set MEM_mfcc or CPUS_mfcc in cluster.env")
    monkeypatch.setattr(cluster, "nodes", lambda *_: {(64, 256000, 0)})
    said = refused(tmp_path, queue)
    assert "asks for 4 cpus, 20,480 MB and 1 GPUs" in said and "give --gpus 0" in said
    submit_study(study(tmp_path, *SMALL, "--gpus", "0"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("GPU_FLAGS=--partition=gpu --gres=gpu:1", "--gres=gpu:1: command not found"),
        ("if true; then", "syntax error"),
        ("module load python", ""),
        ('CPU_FLAGS="--partition=cpu --qos=x"', ""),
    ],
)
def test_a_setting_that_bash_would_leave_out(tmp_path, monkeypatch, line, told):
    monkeypatch.setattr(preflight, "HERE", tmp_path)
    preflight.check_settings()
    (tmp_path / "cluster.env").write_text(f"TIME=1:00:00\n{line}\n")
    if not told:
        preflight.check_settings()
        return
    with pytest.raises(InputError, match=f"cluster.env: line [23]: .*{told}.*need quotes"):
        preflight.check_settings()


def test_what_sbatch_refuses_but_not_what_it_could_not_start_today(tmp_path, queue, monkeypatch):
    monkeypatch.setattr(cluster, "refusal", lambda *_: "Invalid account specified")
    assert "plays would not be taken by Slurm: Invalid account" in refused(tmp_path, queue)
    today = "Requested node configuration is not available"  # of nodes that are drained, too
    monkeypatch.setattr(cluster, "refusal", lambda *_: today)
    assert submit_study(study(tmp_path, *SMALL))


def test_memory_is_read_as_slurm_writes_it():
    asked = [{"mem": "12G"}, {"mem": "500"}, {"mem-per-cpu": "300M", "cpus-per-task": "4"}, {}]
    assert [memory_of(each) for each in asked] == [12288, 500, 1200, 0]


def test_nodes_are_read_from_what_slurm_shows(monkeypatch):
    shown = "gpu:tesla:2(S:0-1),gpu:a100:2|64|256000\n(null)|8|4000\ngpu:v100:4|12|64000+\n"
    monkeypatch.setattr(cluster, "_call", lambda words: shown)
    assert cluster.nodes() == {(64, 256000, 4), (8, 4000, 0), (12, 64000, 4)}


def test_limits_are_read_from_what_slurm_shows(monkeypatch):
    shown = "Configuration data as of now\nMaxArraySize   = 1001\nMaxJobCount = 9\nX = a\n"
    monkeypatch.setattr(cluster, "_call", lambda words: shown)
    assert cluster.limits() == {"MaxArraySize": 1001, "MaxJobCount": 9}
