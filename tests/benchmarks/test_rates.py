"""benchmarks.rates: rows of a finished root, beside those of others."""

import csv
import json

import pytest
from conftest import make_root

from benchmarks import rates
from core.options import InputError


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return {row["what"]: row for row in csv.DictReader(file)}


def test_a_root_adds_its_rows_and_leaves_the_others(tmp_path):
    root, out = make_root(tmp_path / "root"), tmp_path / "rates.csv"
    with pytest.raises(InputError, match="no finished embedding and no run"):
        rates.main(rates.RatesConfig(root=root, where="here", out=out))
    made = {"seconds": 50.0, "n_tracks": 100}
    (root / "embeddings/toy.json").write_text(json.dumps(made))
    out.write_text("what,unit,seconds,where\nmert,track,2,a card\ntoy,track,9,before\n")
    rates.main(rates.RatesConfig(root=root, where="here", out=out))
    assert rows(out)["toy"] == {"what": "toy", "unit": "track", "seconds": "0.5", "where": "here"}
    assert rows(out)["mert"]["where"] == "a card"


def test_stages_without_seconds_of_their_own_are_done_again(tmp_path, call):
    root, out = tmp_path / "root", tmp_path / "rates.csv"
    sizes = ("--tracks", 16, "--users", 20, "--plays", 800)
    call("make_sample", "--root", root, *sizes)
    log, audio = root / "userid_trackid_timestamp.tsv", root / "audio"
    call("0_get_plays_pqt", "--root", root, "--log", log, "--audio", audio)
    call("1_train_test_split", "--root", root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    stages = ("plays", "split")
    rates.main(rates.RatesConfig(root=root, where="here", stages=stages, out=out))
    found = rows(out)
    assert {name: found[name]["unit"] for name in found} == dict.fromkeys(stages, "play")
    assert all(float(row["seconds"]) > 0 for row in found.values())
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(InputError, match="--stages knows sample, plays"):
        rates.RatesConfig(where="here", stages=("knn",))
