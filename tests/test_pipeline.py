"""The README's commands as a user types them, and what they leave behind."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import HERE, forked, shell
from pages import SIZES as SCREENS
from pages import violations

from core.registry import ALL
from core.splits import read_split
from evaluation.measures import mean_and_interval, per_user_metrics

pytest_plugins = ("browsing",)
SIZES = {"make_sample.py": "--tracks 200 --users 200 --plays 12000"}  # a fifth of the clips


def readme_commands() -> list[str]:
    """Return the stage commands of the README, in order, on its sample folder."""
    lines = (HERE / "README.md").read_text(encoding="utf-8").splitlines()
    return [
        line.split("  #")[0].strip() for line in lines if re.match(r"    python |python ", line)
    ]


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
        "report.py",
    }


def test_the_readme_tells_what_every_file_is_for():
    tree = (HERE / "README.md").read_text(encoding="utf-8").split("## What is where")[1]
    listed = {each.script for each in ALL.values()}  # the tree names the list
    names = ["registry.py", *({path.name for path in HERE.glob("*.py")} - listed)]
    inits = HERE.glob("[a-z]*/**/__init__.py")
    rooms = [path.parent.relative_to(HERE).as_posix() for path in inits]
    assert [name for name in (*names, *rooms) if not re.search(rf"\b{name}\b", tree)] == []


def test_the_table_has_a_row_for_every_run_of_the_readme(study):
    table = pd.read_csv(study / "tables" / "results.csv")
    rows = set(zip(table.recommender, table.embedding, strict=True))
    wanted = {
        (script, re.search(r"--embedding (\w+)", line)[1])
        for line in readme_commands()
        for script, name in (("knn", "knn.py"), ("shallow", "train.py"), ("bert4rec", "train_bert"))
        if f" {name}" in line
    }
    assert wanted and rows >= wanted | {
        (name, "none") for name in ("popular", "random_lists", "ease")
    }
    assert table["HitRate@50"].between(0, 1).all()
    assert dict(zip(table.embedding, table.width, strict=True))["musicnn"] == 200


def test_the_report_holds_every_track_and_every_run_of_the_readme(study):
    page = (study / "report" / "index.html").read_text(encoding="utf-8")
    runs = [path.parent.name for path in (study / "runs").glob("*/metrics.json")]
    assert runs and all(name in page for name in runs)
    assert "Synthetic sample" in page
    listen = (study / "report" / "listen.html").read_text(encoding="utf-8")
    played = pd.read_parquet(study / "data" / "train.pqt").track_idx.unique()
    ids = (study / "trackid_sorted.csv").read_text().split()[1:]
    assert all(f'"{ids[row].split(",")[1]}"' in listen for row in played)


@pytest.fixture(scope="module")
def folder(study) -> Path:
    return study / "report"


@pytest.mark.parametrize("size", SCREENS)
def test_the_samples_report_stands_in_a_browser(visit, size):
    for name in ("index.html", "listen.html", "listen.html#user=", "listen.html#map="):
        page = visit(name, size, "dark")
        if name != "index.html":
            page.locator("li.track:visible").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[size][0], name
        assert violations(page) == [], name


@pytest.mark.parametrize("recommender", ["knn", "shallow", "bert4rec"])
def test_with_frozen_tracks_real_embeddings_beat_their_shuffled_rows(study, recommender):
    start = f"python {ALL[recommender].script} --root sample --embedding musicnn"
    line = next(line for line in readme_commands() if line.startswith(start))
    done = forked(f"{line} --shuffle --tag content", study.parent)
    assert done.returncode == 0, done.stderr
    real, control = (f"{recommender}-musicnn{tag}-s1" for tag in ("", "-content_shuffled"))
    ndcg = {}
    for run in (real, control):
        lists = pd.read_parquet(study / "runs" / run / "recs.pqt")
        per_user = pd.concat(
            per_user_metrics(read_split(study)[part], lists, (10,)) for part in ("val", "test")
        )
        ndcg[run] = per_user.set_index("user_id")["NDCG@10"]
    shutil.rmtree(study / "runs" / control)
    difference = ndcg[real] - ndcg[control]
    mean, half = mean_and_interval(difference.to_numpy())
    assert mean - half > 0, f"{mean:.4f} ± {half:.4f}"


def test_what_is_finished_is_said_to_be_and_not_done_again(study):
    runs = sorted((study / "runs").glob("*/metrics.json"))
    before = {path: path.stat().st_mtime_ns for path in runs}
    for line in readme_commands():
        if any(name in line for name in ("metrics.py", "table.py", "report.py")):
            continue
        done = forked(f"{line} {SIZES.get(line.split()[1], '')}", study.parent)
        assert done.returncode == 0, done.stderr
        assert "finished" in done.stdout and "--overwrite" in done.stdout, line
    assert {path: path.stat().st_mtime_ns for path in runs} == before


def test_run_all_on_ones_own_data_ends_with_the_table_and_the_report(study, tmp_path):
    if not (HERE / ".venv" / "bin" / "python").exists():
        pytest.skip("no .venv here: run_all.sh would spend minutes on making one")
    log = pd.read_csv(study / "userid_trackid_timestamp.tsv", sep="\t")
    some = sorted(log.track_id.unique())[::2]  # half is enough, and half as long
    log[log.track_id.isin(some)].to_csv(tmp_path / "log.tsv", sep="\t", index=False)
    (tmp_path / "audio").mkdir()
    for track_id in some:
        (tmp_path / "audio" / f"{track_id}.mp3").symlink_to(study / "audio" / f"{track_id}.mp3")
    line = (
        f"bash run_all.sh --root {tmp_path}/own --log {tmp_path}/log.tsv --config sample.yaml "
        f"--audio {tmp_path}/audio --embeddings mfcc --recommenders knn --seeds 1,2"
    )
    done = shell(line, study.parent)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| mfcc +\| +104 \| +0\.\d+ ± 0\.\d+ \(seeds 0.000\) [ab]+", done.stdout)
    assert "most popular tracks: 0." in done.stdout and "random lists: 0." in done.stdout
    page = tmp_path / "own" / "report" / "index.html"
    last = done.stdout.splitlines()[-2:]
    assert last[0] == f"open    {page}" and last[1].startswith("took ") and page.exists()
    second = shell(line.replace("bash run_all.sh", "python run_study.py"), study.parent)
    assert second.returncode == 0 and second.stdout.count("is finished") >= 6
    assert f"{page} is up to date" in second.stdout
