"""Weights are brought to the login node, and jobs ask no hub then."""

import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from made_up_slurm import SMALL, made_up_queue, study, touch

import run_study
from core.options import InputError
from extract_item_embeddings.engine.backbone import Backbone
from study import weights
from study.config import flags_of
from study.stage import Stage
from study.stages import plan
from study.submission import OFFLINE


def test_a_backbone_without_weights_says_so(capsys):
    weights.main(weights.WeightsConfig("mfcc"))
    assert capsys.readouterr().out == "mfcc: needs no weights\n"
    with pytest.raises(InputError, match="--backbone nothing cannot be loaded"):
        weights.main(weights.WeightsConfig("nothing"))


def test_weights_are_asked_for_as_the_extraction_asks(monkeypatch, capsys):
    class Made(Backbone):
        name = "made"

        def weights(self):
            return {"source": "https://hub/made", "revision": "abc"}

    module = SimpleNamespace(__name__="extract_item_embeddings.made", Base=Backbone, Made=Made)
    monkeypatch.setitem(sys.modules, "extract_item_embeddings.made", module)
    weights.main(weights.WeightsConfig("made"))
    assert capsys.readouterr().out == "made: weights of https://hub/made at abc are here\n"


@dataclass
class Calls:
    stages: list

    def __call__(self, stage, *, as_jobs=False):
        self.stages.append(stage.python)


def test_every_extraction_that_is_missing_is_fetched_for_before_the_first_job(
    tmp_path, monkeypatch
):
    queue, calls = made_up_queue(monkeypatch), Calls([])
    monkeypatch.setattr(run_study, "call", calls)
    monkeypatch.setattr(run_study, "submit_study", lambda config: pytest.fail("it submits"))
    flags = ("--embeddings", "mfcc,musicnn,mule", "--fetch")
    touch(tmp_path, "embeddings/musicnn.npy", "embeddings/musicnn.json")
    run_study.main(study(tmp_path, *flags))
    assert calls.stages == [
        "python -m study.weights --backbone mfcc",
        "python -m study.weights --backbone mule",
    ]
    monkeypatch.undo()
    queue = made_up_queue(monkeypatch)
    monkeypatch.setattr(run_study, "call", calls)
    run_study.main(study(tmp_path / "r", *SMALL, "--fetch"))
    assert queue.environments and all(given == OFFLINE for given in queue.environments)


def test_without_a_hub_weights_are_looked_at_before_the_first_job(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    queue, calls = made_up_queue(monkeypatch), Calls([])

    def refuse(stage, **_):
        calls(stage)
        raise InputError("no weights here")

    monkeypatch.setattr(run_study, "call", refuse)
    with pytest.raises(InputError, match="weights of mert are not here.*DIR/mert/"):
        run_study.main(study(tmp_path, "--slurm", "--embeddings", "mert"))
    assert calls.stages == ["python -m study.weights --backbone mert"] and not queue.environments


def test_weights_of_ones_own_go_to_the_extraction_and_its_join_and_are_looked_at_first(
    tmp_path, monkeypatch
):
    touch(tmp_path, "own/mule/model.keras")
    own = tmp_path / "own"
    config = study(tmp_path, "--slurm", "--embeddings", "mule,mfcc", "--weights", own)
    stages = [stage for stage in plan(config) if stage.script[0] == "-m"]
    assert [("--weights" in s.flags, "mule" in s.name) for s in stages] == [
        *[(True, True)] * 2, *[(False, False)] * 2,
    ]  # fmt: skip
    assert run_study.fetching(stages[0])[-2:] == ("--weights", str(own / "mule"))
    assert f"--weights {own}" in " ".join(flags_of(config))
    with pytest.raises(InputError, match="nowhere is not a folder"):
        study(tmp_path, "--weights", tmp_path / "nowhere")


def test_what_is_fetched_for_jobs_goes_where_the_jobs_look(tmp_path, monkeypatch):
    monkeypatch.setattr(run_study, "HERE", tmp_path)
    (tmp_path / "cluster.env").write_text("export HF_HOME=/scratch/hub\n")
    code = "import os; open('said', 'w').write(os.environ.get('HF_HOME', ''))"
    stage = Stage(name="s", script=("-c", code), flags=(), missing=list)
    run_study.call(stage, as_jobs=True)
    assert (tmp_path / "said").read_text() == "/scratch/hub"
