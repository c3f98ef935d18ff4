"""The made-up log is what it says, and the benchmark of the stages runs and compares."""

import bz2
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from benchmarks import make_log
from benchmarks.bench_stages import check_same
from core.options import WorkError

HERE = Path(__file__).resolve().parents[2]


def made(tmp_path, name, **options):
    path = tmp_path / name
    make_log.main(make_log.LogConfig(out=path, **options))
    return path.read_bytes()


def test_the_made_up_log_has_the_rows_columns_and_times_it_should(tmp_path, monkeypatch):
    monkeypatch.setattr(make_log, "CHUNK", 10_000)
    made(tmp_path, "log.tsv", rows=45_000)
    log = pd.read_csv(tmp_path / "log.tsv", sep="\t", parse_dates=["timestamp"])
    assert list(log.columns) == ["user_id", "track_id", "timestamp"] and len(log) == 45_000
    assert log.timestamp.is_monotonic_increasing and (log.track_id.str.len() == 16).all()
    assert str(log.timestamp.min()) < "2005-03" and str(log.timestamp.max()) > "2020-03"
    assert log.user_id.nunique() <= 21
    pairs = log.groupby(["user_id", "track_id"]).size()
    assert 1.5 < pairs.mean() < 10 and pairs.max() > 20
    made(tmp_path, "late.tsv", rows=45_000, start="2019-02-20")
    late = pd.read_csv(tmp_path / "late.tsv", sep="\t")
    assert late.timestamp.min().startswith("2019-02-2")


def test_packed_logs_hold_the_same_and_other_seeds_others(tmp_path, monkeypatch):
    monkeypatch.setattr(make_log, "CHUNK", 3_000)
    plain = made(tmp_path, "log.tsv", rows=10_000)
    assert plain == made(tmp_path, "again.tsv", rows=10_000)
    assert plain != made(tmp_path, "other.tsv", rows=10_000, seed=1)
    assert bz2.decompress(made(tmp_path, "log.tsv.bz2", rows=10_000)) == plain
    assert gzip.decompress(made(tmp_path, "log.tsv.gz", rows=10_000)) == plain
    made(tmp_path, "log.tsv.zst", rows=10_000)
    with pa.input_stream(tmp_path / "log.tsv.zst", compression="zstd") as stream:
        assert stream.read() == plain


def test_the_benchmark_ends_in_its_figures():
    command = [sys.executable, "-m", "benchmarks.bench_stages", "--rows", "20000"]
    said = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout
    figures = json.loads(said.splitlines()[-1])
    assert figures["rows"] == 20_000
    assert figures["speedup"] > 0 and 0 < figures["memory_ratio"] < 10
    assert said.count("stage 0") == said.count("stage 1") == 2


def test_other_rows_of_the_two_versions_are_an_error(tmp_path):
    roots = {name: tmp_path / name for name in ("ours", "pandas")}
    frame = pd.DataFrame({"user_id": [1], "track_idx": [2], "timestamp": [3], "count": [4]})
    for name, root in roots.items():
        (root / "data").mkdir(parents=True)
        for part in ("train", "val", "test"):
            changed = frame + (name == "pandas" and part == "val")
            changed.to_parquet(root / "data" / f"{part}.pqt")
    with pytest.raises(WorkError, match="val.pqt of pandas has other rows"):
        check_same(roots)
