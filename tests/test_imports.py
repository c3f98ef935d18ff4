"""Dependencies point one way, read from the import statements of every file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
PACKAGES = (
    *(".", "extract_item_embeddings", "listening_log", "reporting", "sample_data", "study"),
    "benchmarks",
)
FILES = {
    ".".join(path.relative_to(HERE).with_suffix("").parts): path
    for folder in PACKAGES
    for path in sorted((HERE / folder).glob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
SCRIPTS = {
    name
    for name, tree in TREES.items()
    if any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)
}
NO_TORCH = (
    *("config", "artifacts", "trackids", "splits", "interactions", "vectors", "recommend"),
    *("metrics", "runs", "preprocess", "knn", "baselines", "table", "report"),
    *("results", "comparisons", "paired", "chance", "beyond", "ease", "published", "grids"),
    *("search", "sweep"),
    *("listening_log.plays", "listening_log.pairs", "listening_log.audit"),
)
# pyarrow is imported where a table is written, which no backbone does.
ENGINE = {"numpy", "pandas", "soundfile", "soxr", "threadpoolctl", "tqdm", "yaml", "pyarrow"}


def imports(name: str) -> set[str]:
    """Return every module a file imports, also inside functions; those of this project in full."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & set(FILES)) or {node.module}
    return {module if module in FILES else module.partition(".")[0] for module in found}


def reached(name: str) -> set[str]:
    """Return what is imported by a file and by all it imports, transitively."""
    seen, left = set(), {name}
    while left:
        module = left.pop()
        seen.add(module)
        left |= imports(module) - seen if module in FILES else set()
    return seen


def test_the_files_are_found():
    assert {"knn", "train", "train_bert", "table", "0_get_plays_pqt"} <= SCRIPTS
    assert {"config", "training", "model", "extract_item_embeddings.engine"} <= set(FILES) - SCRIPTS
    assert {"config", "vectors", "recommend"} <= imports("knn")


@pytest.mark.parametrize("name", FILES)
def test_nothing_imports_a_script(name):
    assert not imports(name) & (SCRIPTS - {"metrics"})


@pytest.mark.parametrize("name", NO_TORCH)
def test_what_learns_nothing_needs_no_torch(name):
    assert not reached(name) & {"torch", "transformers", "tensorboard"}


def test_the_loop_knows_no_network():
    assert not reached("training") & {"model", "bert4rec", "dataset"}


@pytest.mark.parametrize("name", ["train", "train_bert", "benchmarks.bench_training"])
def test_how_threads_wait_is_settled_before_torch_is_loaded(name):
    names = [alias.name for node in TREES[name].body for alias in getattr(node, "names", [])]
    assert names.index("threads") < names.index("torch")


def test_the_engine_needs_little_so_that_old_environments_can_use_it():
    outside = reached("extract_item_embeddings.engine") - set(FILES)
    assert outside - set(sys.stdlib_module_names) <= ENGINE


@pytest.mark.parametrize("name", FILES)
def test_only_the_configuration_reads_the_command_line(name):
    attributes = {
        ast.unparse(node) for node in ast.walk(TREES[name]) if isinstance(node, ast.Attribute)
    }
    assert ("sys.argv" in attributes) == (name == "config")


def test_the_engine_and_mule_start_without_what_old_environments_lack():
    blocked = ("torch", "transformers", "pandas", "pyarrow", "librosa", "tensorflow", "duckdb")
    lines = [
        "import sys",
        f"sys.modules |= dict.fromkeys({blocked})",  # importing one of them fails
        "import extract_item_embeddings.engine, extract_item_embeddings.mule",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=HERE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
