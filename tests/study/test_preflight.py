"""What is found before the first job is submitted, so that none is submitted in vain."""

import pytest
from made_up_slurm import SMALL, made_up_queue, study, touch

from core.options import InputError
from study import cluster
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
    monkeypatch.setattr(cluster, "_call", lambda words, **_: "gpu:a100:2|64|256000\n")
    assert "--gpus 8: no node has so many" in refused(tmp_path, queue, "--gpus", "8")


def test_limits_are_read_from_what_slurm_shows(monkeypatch):
    shown = "Configuration data as of now\nMaxArraySize   = 1001\nMaxJobCount = 9\nX = a\n"
    monkeypatch.setattr(cluster, "_call", lambda words: shown)
    assert cluster.limits() == {"MaxArraySize": 1001, "MaxJobCount": 9}
