"""The benchmarks run after the set-up that README names: without what only tests need."""

import os
import subprocess
import sys

from conftest import HERE

from benchmarks import bench_training
from benchmarks.full_size import Size

FOR_TESTS = ("pytest", "hypothesis", "faiss", "playwright")


def test_benchmarks_and_their_random_weights_need_nothing_that_only_tests_need(tmp_path):
    """In a forked command, whose libraries did without them as well."""
    names = sorted(path.stem for path in (HERE / "benchmarks").glob("*.py"))
    lines = [
        "import sys",
        "from pathlib import Path",
        f"sys.modules |= dict.fromkeys({FOR_TESTS})",  # importing one of them fails
        *(f"import benchmarks.{name}" for name in names),
        "from tests.extract_item_embeddings import tiny_weights",
        f"tiny_weights.mert(Path({str(tmp_path)!r}) / 'weights')",
    ]
    (tmp_path / "imports.py").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, tmp_path / "imports.py"],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_without_faiss_the_published_index_is_left_out_by_name(monkeypatch, capsys):
    monkeypatch.setattr(bench_training.importlib.util, "find_spec", lambda name: None)
    size = Size(users=60, tracks=2000, pairs=1200, width=8, listed=20, many_tracks=2000)
    config = bench_training.BenchConfig(repeats=1)
    found = bench_training.knn(size, config, (1e9, 1e9))
    assert "the published index is left out: faiss-cpu" in capsys.readouterr().out
    assert found["speedup"] == found["speedup_over_partial_sort"]
