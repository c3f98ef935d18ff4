"""What was made from other things than are asked for, as the stages themselves would say it."""

import os
import shutil

import pandas as pd
import pytest
from conftest import call_main
from made_up_slurm import CONTROL_STAGES

import run_study
from core.artifacts import sha256, write_json
from core.options import InputError, parse_config
from core.splits import split_hash
from extract_item_embeddings.engine.audio_files import find_audio, fingerprint
from extract_item_embeddings.engine.finished import audio_hash
from recommenders.runs import Run
from study import checks
from study.config import StudyConfig
from study.graph import decide, look
from study.record import Record
from study.stages import plan


def days(n_users=30):
    """Return a listening log that the default split can split: a play of three tracks a month."""
    months = pd.date_range("2019-03-05", "2020-05-05", freq="MS")
    rows = [
        f"{user}\tT{(user + place) % 12}\t{month:%Y-%m-%d} 00:00:00"
        for user in range(n_users)
        for place, month in enumerate(months)
    ]
    return "\n".join(["user_id\ttrack_id\ttimestamp", *rows]) + "\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A root whose plays, split, one embedding and runs are made; (root, flags of its study)."""
    root = tmp_path_factory.mktemp("checks") / "root"
    (root / "audio").mkdir(parents=True)
    (root / "log.tsv").write_text(days())
    for number in range(12):
        (root / "audio" / f"T{number}.mp3").write_text(f"track {number}")
    (root / "options.yaml").write_text("knn: {center: false}\n")
    flags = ["--root", root, "--log", root / "log.tsv", "--audio", root / "audio"]
    call_main("0_get_plays_pqt", *flags)
    call_main("1_train_test_split", "--root", root)
    call_main("knn", "--root", root, "--embedding", "noise", "--width", 8)
    flags += ["--embeddings", "noise", "--recommenders", "knn", "--shuffled", "none"]
    return root, flags


@pytest.fixture
def copy(finished, tmp_path):
    """The same, to be changed: (root, flags)."""
    root = tmp_path / "root"
    shutil.copytree(finished[0], root)
    return root, [str(flag).replace(str(finished[0]), str(root)) for flag in finished[1]]


def changed(flags):
    """Return {stage: why} of what was made from other things."""
    stages = plan(parse_config(StudyConfig, "", list(map(str, flags))))
    return {stage.name: " ".join(why.values()) for stage in stages if (why := stage.changed())}


def test_what_was_made_from_these_inputs_has_not_changed(finished):
    assert set(changed(finished[1])) == {"knn noise"}, "it was made of another width"


def test_another_log_is_named_and_so_is_a_split_of_other_plays(copy):
    root, flags = copy
    (root / "other.tsv").write_text(days(31))
    other = [flag.replace("log.tsv", "other.tsv") for flag in flags]
    assert "other.tsv is not the log it was made from" in changed(other)["plays"]
    config = parse_config(StudyConfig, "", other)
    nodes = look(config, Record.read(root), [])
    with pytest.raises(InputError, match="plays: .*other.tsv is not the log.*--overwrite makes"):
        decide(nodes, overwrite=False)
    decide(nodes, overwrite=True)
    remade = ["plays", "split", *CONTROL_STAGES, "knn noise"]
    assert [n.stage.name for n in nodes if n.remade] == remade
    call_main("0_get_plays_pqt", *other[:6], "--overwrite")
    assert "plays.pqt has changed" in changed(other)["split"]


def test_an_edited_file_of_options_is_named_by_the_option(copy):
    root, flags = copy
    write = (root / "options.yaml").write_text
    write("shallow: {epochs: 1, width: 8}\nbert4rec: {epochs: 1}\n")
    made = ("--root", str(root), "--embedding", "noise", "--config", str(root / "options.yaml"))
    _, config = checks.options_of("train.py", made)
    with Run("shallow", config, split_hash=split_hash(root), embedding_hash="noise-8"):
        pass  # it has begun
    flags[flags.index("knn")] = "shallow"
    flags += ["--config", str(root / "options.yaml"), "--seeds", "1,2"]
    assert "shallow noise" not in changed(flags)
    write("shallow: {epochs: 2, width: 8}\nbert4rec: {epochs: 1}\n")
    assert "epochs was 1, now 2" in changed(flags)["shallow noise"]
    write("shallow: {epoch: 2}\n")
    with pytest.raises(InputError, match="unknown key 'epoch'"):
        changed(flags)


def test_an_embedding_of_other_tracks_or_other_audio_is_named(copy):
    root, _ = copy
    names = [f"T{i}" for i in sorted(range(12), key=str)]
    (root / "embeddings").mkdir()
    matrix, ids = root / "embeddings" / "mfcc.npy", root / "trackid_sorted.csv"
    matrix.write_text("")
    marks = fingerprint(find_audio(root / "audio", names), 1)
    facts = {"trackids_sha256": sha256(ids), "audio_sha256": audio_hash(marks, names, {})}
    write_json(matrix.with_suffix(".json"), facts)
    other = root / "other"
    shutil.copytree(root / "audio", other)
    ask = checks.of_embedding
    assert ask(root, "mfcc", root / "audio")() == ask(root, "mfcc", other)() == {}
    (other / "T3.mp3").write_text("another recording")
    assert "other audio" in ask(root, "mfcc", other)()[0]
    write_json(root / "runs/study.json", {"audio": str(other)})
    assert ask(root, "mfcc", other)() == {}, "it was looked at when the study was submitted"
    write_json(matrix.with_suffix(".json"), facts | {"trackids_sha256": "0"})
    assert "another trackid_sorted.csv" in ask(root, "mfcc", other)()[0]


def test_a_sample_of_other_sizes_is_named(tmp_path):
    write_json(
        tmp_path / "sample.json",
        {"options": {"seed": 0, "tracks": 40, "users": 400, "plays": 40_000}},
    )
    told = changed(["--root", tmp_path])
    assert "was made with --tracks 40, now came --tracks 1000" in told["sample"]
    assert sorted(os.listdir(tmp_path)) == ["sample.json"], "asking changes nothing"


def test_without_slurm_too_nothing_is_begun_and_overwrite_makes_what_has_changed(copy, monkeypatch):
    root, flags = copy
    (root / "other.tsv").write_text(days(31))
    flags = [flag.replace("log.tsv", "other.tsv") for flag in flags]
    called = {}

    def call(stage):
        called[stage.name] = "--overwrite" in stage.flags
        if stage.name in ("plays", "split"):
            call_main(stage.script[0].removesuffix(".py"), *stage.flags)

    flags += ["--at-once", "1"]  # what runs side by side is not called
    monkeypatch.setattr(run_study, "call", call)
    with pytest.raises(InputError, match="plays: .*Nothing was begun"):
        run_study.main(parse_config(StudyConfig, "", flags))
    assert not called
    run_study.main(parse_config(StudyConfig, "", [*flags, "--overwrite"]))
    assert [name for name, overwrite in called.items() if overwrite] == [
        *("plays", "split", "knn noise"),
    ]
    assert {"controls", "table", "report"} <= set(called)
