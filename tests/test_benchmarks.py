"""The benchmarks run after the set-up that README names: without what only tests need."""

import subprocess
import sys

import pytest
from conftest import HERE

FOR_TESTS = ("pytest", "hypothesis", "faiss", "playwright")
NAMES = sorted(
    path.stem for path in (HERE / "benchmarks").glob("*.py") if "__main__" in path.read_text()
)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_starts_without_what_only_tests_need(name):
    lines = [
        "import sys, runpy",
        f"sys.modules |= dict.fromkeys({FOR_TESTS})",  # importing one of them fails
        "sys.argv = ['x', '--help']",
        f"runpy.run_module('benchmarks.{name}', run_name='__main__')",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=HERE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_random_weights_for_a_benchmark_need_no_pytest(tmp_path):
    lines = [
        "import sys",
        "from pathlib import Path",
        f"sys.modules |= dict.fromkeys({FOR_TESTS})",
        "from tests.extract_item_embeddings import tiny_weights",
        f"tiny_weights.mert(Path({str(tmp_path)!r}) / 'weights')",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=HERE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_faiss_the_published_index_is_left_out_by_name(monkeypatch, capsys):
    from benchmarks import bench_training

    monkeypatch.setattr(bench_training.importlib.util, "find_spec", lambda name: None)
    size = bench_training.replace(
        bench_training.Size(), users=60, tracks=200, width=8, listed=20, many_tracks=300
    )
    config = bench_training.BenchConfig(repeats=1)
    found = bench_training.knn(size, config, (1e9, 1e9))
    assert "the published index is left out: faiss-cpu" in capsys.readouterr().out
    assert found["speedup"] == found["speedup_over_partial_sort"]
