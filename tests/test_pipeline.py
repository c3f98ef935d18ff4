"""The README's commands as a user types them, and the real log through every stage."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metrics import mean_and_interval, per_user_metrics
from splits import read_split

HERE = Path(__file__).resolve().parents[1]
SIZES = {"make_sample.py": "--tracks 300 --users 200 --plays 20000"}  # a third of the sample


def readme_commands() -> list[str]:
    """Return the stage commands of the README, in order, on its sample folder."""
    lines = (HERE / "README.md").read_text(encoding="utf-8").splitlines()
    return [
        line.split("  #")[0].strip() for line in lines if re.match(r"    python |python ", line)
    ]


def shell(line: str, folder: Path, **more) -> subprocess.CompletedProcess:
    """Run a line in the project's folder, with this Python and every run under `folder`."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("OMP_NUM_THREADS", None)
    line = re.sub(r"\bsample(?=[/\s]|$)", str(folder / "sample"), line)
    return subprocess.run(
        line, shell=True, cwd=HERE, env=environment, capture_output=True, text=True, **more
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The folder in which the README's commands were run, each with success."""
    folder = tmp_path_factory.mktemp("study")
    for line in readme_commands():
        script = line.split()[1]
        done = shell(f"{line} {SIZES.get(script, '')}", folder)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return folder / "sample"


def test_the_readme_names_every_stage_script():
    scripts = {line.split()[1] for line in readme_commands()}
    assert scripts >= {
        "make_sample.py",
        "0_get_plays_pqt.py",
        "1_train_test_split.py",
        "knn.py",
        "train.py",
        "train_bert.py",
        "baselines.py",
        "metrics.py",
        "table.py",
    }


def test_the_table_has_a_row_for_every_run_of_the_readme(study):
    table = pd.read_csv(study / "tables" / "results.csv")
    rows = set(zip(table.recommender, table.embedding, strict=True))
    wanted = {
        (script, re.search(r"--embedding (\w+)", line)[1])
        for line in readme_commands()
        for script, name in (("knn", "knn.py"), ("shallow", "train.py"), ("bert4rec", "train_bert"))
        if f" {name}" in line
    }
    assert wanted and rows >= wanted | {("popular", "none"), ("random_lists", "none")}
    assert table["HitRate@50"].between(0, 1).all()
    assert dict(zip(table.embedding, table.width, strict=True))["musicnn"] == 200


def test_the_sample_is_not_saturated(study):
    table = pd.read_csv(study / "tables" / "results.csv").set_index("recommender")
    assert table.loc["random_lists", "HitRate@50"] < 0.8  # a third of the tracks, so lists hit more
    assert table.loc["popular", "HitRate@50"] < 0.95


@pytest.mark.parametrize("recommender", ["knn.py", "train.py", "train_bert.py"])
def test_with_frozen_tracks_real_embeddings_beat_their_shuffled_rows(study, recommender):
    vectors = np.load(study / "embeddings" / "musicnn.npy")
    shuffled = np.random.default_rng(0).permutation(vectors)
    np.save(study / "embeddings" / "shuffled.npy", shuffled)
    budget = "" if recommender == "knn.py" else "--config sample.yaml"
    ndcg = {}
    for name in ("musicnn", "shuffled"):
        line = f"python {recommender} --root sample --embedding {name} --tag content {budget}"
        done = shell(line, study.parent)
        assert done.returncode == 0, done.stderr
        run = next((study / "runs").glob(f"*-{name}-content-s1/recs.pqt"))
        per_user = pd.concat(
            per_user_metrics(read_split(study)[part], pd.read_parquet(run), (10,))
            for part in ("val", "test")
        )
        ndcg[name] = per_user.set_index("user_id")["NDCG@10"]
        for file in run.parent.iterdir():
            file.unlink()
        run.parent.rmdir()
    mean, half = mean_and_interval((ndcg["musicnn"] - ndcg["shuffled"]).to_numpy())
    assert mean - half > 0, f"{mean:.4f} ± {half:.4f}"


def test_what_is_finished_is_said_to_be_and_not_done_again(study):
    runs = sorted((study / "runs").glob("*/metrics.json"))
    before = {path: path.stat().st_mtime_ns for path in runs}
    for line in readme_commands():
        if "metrics.py" in line or "table.py" in line:
            continue
        done = shell(f"{line} {SIZES.get(line.split()[1], '')}", study.parent)
        assert done.returncode == 0, done.stderr
        assert "finished" in done.stdout and "--overwrite" in done.stdout, line
    assert {path: path.stat().st_mtime_ns for path in runs} == before


def test_run_all_on_ones_own_data_ends_with_the_table(study, tmp_path):
    if not (HERE / ".venv" / "bin" / "python").exists():
        pytest.skip("no .venv here: run_all.sh would spend minutes on making one")
    line = (
        f"bash run_all.sh --root {tmp_path}/own --log sample/userid_trackid_timestamp.tsv "
        "--audio sample/audio --embeddings mfcc --recommenders knn --seeds 1,2"
    )
    done = shell(line, study.parent)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| mfcc +\| +104 \| 0\.\d+ ± 0\.\d+ \|", done.stdout)
    assert "most popular tracks: 0." in done.stdout and "random lists (chance): 0." in done.stdout
    again = shell(line, study.parent)
    assert again.returncode == 0 and again.stdout.count("is finished") >= 6


@pytest.mark.parametrize("repeated", [False, True])
def test_the_real_log_goes_through_every_stage_to_a_table(shared, tmp_path, repeated):
    log = shared / "music4all" / "userid_trackid_timestamp.tsv"
    root = tmp_path / "sample"
    root.mkdir()
    ids = (shared / "music4all" / "trackid_sorted.csv").read_text()
    (root / "trackid_sorted.csv").write_text(ids)
    if repeated:  # the log holds one play a pair: without this, counts are never seen
        plays = pd.read_csv(log, sep="\t")
        times = np.random.default_rng(0).integers(1, 6, len(plays))
        plays = plays.loc[plays.index.repeat(times)]
        later = plays.groupby(level=0).cumcount() * pd.Timedelta("7min")
        plays["timestamp"] = pd.to_datetime(plays.timestamp) + later
        log = tmp_path / "repeated.tsv"
        plays.to_csv(log, sep="\t", index=False)
    commands = [
        f"python 0_get_plays_pqt.py --root sample --log {log}",
        "python 1_train_test_split.py --root sample --train-from 2019-02-01 --test-from 2019-02-15",
        "python knn.py --root sample --embedding noise",
        "python train.py --root sample --embedding random --epochs 2",
        "python train_bert.py --root sample --embedding random --epochs 1 --max-length 50",
        "python table.py --root sample",
    ]
    for line in commands:
        done = shell(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
    split = read_split(root)
    held_out = len(split["val"]) + len(split["test"])
    users = split["val"].user_id.nunique() + split["test"].user_id.nunique()
    assert (len(split["train"]), held_out, users) == (25_030, 12_069, 1_529)
    assert (split["train"]["count"].max() > 1) == repeated
    table = pd.read_csv(root / "tables" / "results.csv")
    assert set(table.recommender) == {"knn", "shallow", "bert4rec"}
