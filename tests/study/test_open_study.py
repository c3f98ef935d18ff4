"""run_all.sh --onion: what it plans, what it says before it begins, and all of it at small size."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

import run_study
from benchmarks import make_onion
from core.options import InputError, WorkError, parse_config
from study import config as study_config
from study import estimates
from study.config import StudyConfig, flags_of
from study.estimates import announce
from study.stages import plan
from tests.open_data.unreliable_server import first_times, serving

HERE = Path(__file__).resolve().parents[2]


def asked(*flags):
    return parse_config(StudyConfig, "", [str(flag) for flag in flags])


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    monkeypatch.setattr(study_config, "has_gpu", lambda: False)
    monkeypatch.setattr(estimates, "has_gpu", lambda: False)


def test_the_flag_alone_and_small():
    full, small = asked("--onion"), asked("--onion", "small", "--root", "r")
    assert (full.onion, full.published, full.root) == ("full", False, Path("onion"))
    assert full.embeddings == ("mfcc_stats_onion", "musicnn_onion", "maest_onion")
    assert full.recommenders == tuple(
        n for n, each in study_config.RECOMMENDERS.items() if each.by_default and not each.wants_gpu
    )
    assert (small.onion, small.published, small.root) == ("small", True, Path("r"))
    assert small.embeddings == ("mfcc_stats_onion", "maest_onion")
    assert asked("--onion", "--published").published


def test_what_wants_a_gpu_is_run_where_there_is_one_or_if_asked_for(monkeypatch):
    assert "bert4rec" not in asked("--onion").recommenders
    assert "bert4rec" in asked("--onion", "--recommenders", "knn,shallow,bert4rec").recommenders
    assert "bert4rec" in asked("--onion", "--recommenders", "all").recommenders
    monkeypatch.setattr(study_config, "has_gpu", lambda: True)
    assert "bert4rec" in asked("--onion").recommenders
    assert "bert4rec" in asked().recommenders


@pytest.mark.parametrize(
    "flags",
    [
        ("--published",),
        ("--tables", "maest"),
        ("--mirror", "m"),
        ("--onion", "--log", "l", "--audio", "a"),
        ("--onion", "--slurm"),
        ("--onion", "tiny"),
    ],
)
def test_what_does_not_go_together(flags):
    with pytest.raises(InputError, match="--onion"):
        asked(*flags)


def test_the_flags_of_a_study_give_it_again(tmp_path):
    config = asked("--onion", "small", "--root", tmp_path, "--tables", "gems", "--mirror", "m")
    again = asked(*flags_of(config))
    assert dataclasses.asdict(again) == {
        **dataclasses.asdict(config),
        "sources": config.sources.absolute(),
    }


@pytest.mark.parametrize("flags", [(), ("small",), ("--published", "--tables", "jukebox,gems")])
def test_every_stage_comes_after_those_it_needs(tmp_path, flags):
    config = asked("--onion", *flags, "--root", tmp_path)
    stages = plan(config)
    names = [stage.name for stage in stages]
    for at, stage in enumerate(stages):
        assert set(stage.needs) <= set(names[:at]), stage.name
    assert names[0] == "data" and names[-1] == "report"
    assert ("plays" in names) != config.published
    for stage in stages:
        if "--embedding" in stage.flags:
            assert ("--missing", "mean") == stage.flags[stage.flags.index("--missing") :][:2]
    assert "--audio" not in stages[-1].flags
    assert ("journal" in stages[-2].flags) == config.published  # whose table is beside ours then


def test_a_mirror_is_a_server_or_a_folder_seen_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for mirror, given in (("made", str(tmp_path / "made")), ("http://h/x", "http://h/x")):
        flags = plan(asked("--onion", "small", "--root", "r", "--mirror", mirror))[0].flags
        assert flags[flags.index("--mirror") + 1] == given


def test_a_table_that_is_not_listed_is_named(tmp_path):
    with pytest.raises(InputError, match="did you mean 'jukebox'"):
        plan(asked("--onion", "--root", tmp_path, "--tables", "jukbox"))


def test_it_says_first_what_it_fetches_keeps_and_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "product_rate", lambda: estimates.REFERENCE)
    config = asked("--onion", "--root", tmp_path, "--tables", "maest,jukebox")
    said = announce(config, plan(config))
    assert "userid_trackid_timestamp.tsv.bz2         2,211,449,511 bytes  CC BY 4.0" in said
    assert "id_jukebox.tsv.bz2" in said and "about 2,129" in said
    assert "disk needed: about" in said and "GB at 2 MB/s" not in said
    assert "left out: BERT4Rec; ask with --recommenders, best with a GPU" in said
    hours = [line for line in said.splitlines() if line.strip().startswith("shallow jukebox_onion")]
    assert hours and "an epoch" in hours[0]
    slow = tmp_path / "slow.yaml"
    slow.write_text("shallow: {hidden: 0}\n")
    config = asked("--onion", "--root", tmp_path, "--tables", "jukebox", "--config", slow)
    assert (
        "shorter: a --config with hidden: 256 or project: 256, max_minutes, or a GPU"
        in announce(config, plan(config))
    )


def test_small_says_so_and_what_is_here_is_not_fetched(tmp_path):
    config = asked("--onion", "small", "--root", tmp_path)
    for source in estimates.open_sources(config, about=True):
        path = tmp_path / "downloads" / source.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert "nothing, all of it is here" in announce(config, plan(config))


def test_the_estimate_of_an_epoch_is_the_measured_one():
    # By bench_epochs, with the study's options, at 154 GFLOP/s.
    config = dataclasses.replace(asked("--onion"), config=HERE / "model.yaml")
    for width, measured in ((104, 39), (200, 63), (768, 474)):
        seconds, note = estimates._shallow(config, width, 154e9)
        assert seconds / 100 == pytest.approx(measured, rel=0.25), width
        assert "an epoch" in note


def test_elsa_takes_its_own_epochs_or_the_minutes_that_it_is_given(tmp_path):
    config = asked("--onion")
    seconds, note = estimates._learning(config, "elsa", 100.0)
    assert seconds == 3700 and note == "  at most; 2 min an epoch"  # an hour, and the last epoch
    own = tmp_path / "own.yaml"
    own.write_text("elsa: {epochs: 3}\n")
    config = dataclasses.replace(config, config=own)
    assert estimates._learning(config, "elsa", 100.0)[0] == 300
    own.write_text("elsa: {}\n")
    assert estimates._learning(config, "elsa", 100.0)[0] == 50 * 100  # elsa.yaml's


def test_what_is_optional_may_fail(tmp_path, monkeypatch, capsys):
    import run_study

    done = []

    def call(stage, **more):
        done.append(stage.name)
        if stage.name == "about":
            raise WorkError("no address answers")
        if stage.name == "split":
            return
        if stage.name == "report":
            raise InputError("the end")

    monkeypatch.setattr(run_study, "call", call)
    with pytest.raises(InputError, match="the end"):
        run_study.main(asked("--onion", "small", "--root", tmp_path))
    assert done[-1] == "report" and "about" in done
    assert "goes on without about: no address answers" in capsys.readouterr().out


def test_from_nothing_to_the_report_with_one_command(tmp_path, capfd):
    """The rehearsal at small size: every file as it is published, from a server that throttles.

    The command's main runs in this process, so that the stages it starts are forked.
    """
    made = tmp_path / "made"
    only = ("log", "mfcc_stats", "genres", "artists", "journal")
    make_onion.main(make_onion.OnionConfig(out=made, scale=0.0004, only=only, start="2018-01-20"))
    files = {f"/{path.relative_to(made)}": path.read_bytes() for path in made.rglob("*.*")}
    listed = yaml.safe_load((made / "data_sources.yaml").read_text())["sources"]
    assert {source["file"] for source in listed.values()} <= {name[1:] for name in files}
    slow = {"/id_mfcc_stats.tsv.bz2": first_times(1, 429, Retry_After="0")}
    root = tmp_path / "onion"
    with serving(files, slow) as server:
        words = ["--onion", "small", "--root", root]
        words += ["--sources", made / "data_sources.yaml", "--mirror", server.address]
        words += ["--tables", "mfcc_stats", "--recommenders", "knn", "--shuffled", "none"]
        run_study.main(asked(*words))
    said = capfd.readouterr().out
    assert "status 429; again in 0 s" in said
    assert "not the published split: train has" in said  # it is made up
    table = pd.read_csv(root / "tables" / "results.csv")
    assert {"mfcc_stats_onion", "noise"} <= set(table.embedding)
    assert "mfcc_stats_onion" in (root / "tables" / "compare_published.md").read_text()
    facts = json.loads((root / "embeddings" / "mfcc_stats_onion.json").read_text())
    assert facts["width"] == 104 and 0.9 < facts["coverage"]["share_of_tracks"] < 1
    assert (root / "report" / "index.html").exists()
    known = pd.read_csv(root / "about.tsv", sep="\t")
    assert known.genres.str.startswith("genre ").any() and known.artist.notna().any()
