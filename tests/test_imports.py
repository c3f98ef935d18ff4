"""Dependencies point one way, from room to room; read from the import statements of every file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
ENGINE_ROOM = "extract_item_embeddings.engine"
BASES, NETWORKS = "extract_item_embeddings.bases", "extract_item_embeddings.networks"
BACKBONES = "extract_item_embeddings"
# What each room may import beside itself: the rooms below it. The files that stand at the top of
# the project are "modules", which scripts and benchmarks import, or "scripts".
BELOW = {
    "core": set(),
    "sample_data": {"core"},
    "listening_log": {"core"},
    "open_data": {"core", "listening_log"},
    ENGINE_ROOM: {"core"},
    NETWORKS: {"core"},
    BASES: {"core", ENGINE_ROOM, NETWORKS},
    BACKBONES: {"core", ENGINE_ROOM, NETWORKS, BASES},
    "evaluation": {"core"},
    "recommenders": {"core", "evaluation"},
    "recommenders.networks": {"core", "recommenders"},
    "modules": {"core", "recommenders", "recommenders.networks"},
    "training": {"core", "evaluation", "recommenders", "recommenders.networks"},
    "reporting": {"core", "evaluation", "recommenders"},
    "study": {"core", "open_data", "evaluation", ENGINE_ROOM, "recommenders"},
    "scripts": {
        *("core", "sample_data", "listening_log", "open_data", "evaluation", "recommenders"),
        *("modules", "training", "reporting", "study", "recommenders.networks", ENGINE_ROOM),
    },
}
ROOMS = [*(room for room in BELOW if room not in ("modules", "scripts")), "benchmarks"]
FILES = {
    ".".join(path.relative_to(HERE).with_suffix("").parts): path
    for folder in [".", *(room.replace(".", "/") for room in ROOMS)]
    for path in sorted((HERE / folder).glob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
STARTED = {
    name
    for name, tree in TREES.items()
    if any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)
}
SCRIPTS = {name for name in STARTED if "." not in name}
NO_TORCH = (
    *("core.options", "core.artifacts", "core.trackids", "core.splits", "recommenders.runs"),
    *("recommenders.interactions", "recommenders.vectors", "recommenders.lists"),
    *("recommenders.ease", "evaluation.measures", "evaluation.results", "evaluation.comparisons"),
    *("evaluation.paired", "evaluation.chance", "evaluation.beyond", "evaluation.published"),
    *("evaluation.grids", "study.search", "study.stages", "listening_log.split_plays"),
    *("listening_log.plays", "listening_log.pairs", "listening_log.audit"),
    *("metrics", "knn", "table", "report", "sweep"),
)
# pyarrow is imported where a table is written, which no backbone does.
ENGINE = {"numpy", "pandas", "av", "soxr", "threadpoolctl", "tqdm", "yaml", "pyarrow"}


def imports(name: str) -> set[str]:
    """Return every module a file imports, also inside functions; those of this project in full."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= set(modules_of(node))
    return {own(module) if own(module) in FILES else module.partition(".")[0] for module in found}


def own(module: str) -> str:
    """Return the file that a module is: of a package its __init__."""
    return f"{module}.__init__" if f"{module}.__init__" in FILES else module


def modules_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the modules that one statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    inner = (f"{node.module}.{alias.name}" for alias in node.names)
    return [module if module in FILES else node.module for module in inner]


def room(name: str) -> str:
    """Return the room of a file of the project."""
    folder = name.rpartition(".")[0]
    return folder or ("scripts" if name in SCRIPTS else "modules")


def reached(name: str) -> set[str]:
    """Return what is imported by a file and by all it imports, transitively."""
    seen, left = set(), {name}
    while left:
        module = left.pop()
        seen.add(module)
        left |= imports(module) - seen if module in FILES else set()
    return seen


def test_the_files_are_found():
    assert {"knn", "train", "train_bert", "table", "metrics", "0_get_plays_pqt"} <= SCRIPTS
    modules = {"model", "dataset", "bert4rec"}
    assert {name for name in FILES if room(name) == "modules"} == modules
    assert {"core.options", "recommenders.vectors", "recommenders.nearest"} <= imports("knn")
    assert f"{ENGINE_ROOM}.__init__" in imports("extract_item_embeddings.mfcc")
    assert set(ROOMS) >= {
        ".".join(path.parent.relative_to(HERE).parts)
        for path in HERE.glob("[a-z]*/**/__init__.py")
        if path.relative_to(HERE).parts[0] != "tests"
    }


@pytest.mark.parametrize("name", [n for n in FILES if room(n) != "benchmarks"])
def test_every_arrow_points_down(name):
    for module in imports(name) & set(FILES):
        assert room(module) == room(name) or room(module) in BELOW[room(name)], module


@pytest.mark.parametrize("name", FILES)
def test_nothing_imports_a_script_or_a_backbone(name):
    backbones = {n for n in STARTED if room(n) == BACKBONES}
    assert not imports(name) & (SCRIPTS | backbones)


def test_only_backbones_stand_beside_their_engine():
    beside = {n for n in FILES if room(n) == BACKBONES and not n.endswith("__init__")}
    assert beside and beside <= STARTED  # and the command that starts several of them


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_goes_in_what_comes_out_and_where_to_begin(room):
    words = " ".join(ast.get_docstring(TREES[f"{room}.__init__"]).split())
    assert "Open `" in words
    for name in words.split("`")[1::2]:
        path = HERE / room.replace(".", "/") / name
        assert not name.endswith((".py", "/")) or path.exists(), name


@pytest.mark.parametrize("name", NO_TORCH)
def test_what_learns_nothing_needs_no_torch(name):
    assert not reached(name) & {"torch", "transformers", "tensorboard"}


def test_the_loop_knows_no_network():
    networks = {name for name in FILES if room(name) in ("modules", "recommenders.networks")}
    assert not reached("training.loop") & networks


@pytest.mark.parametrize(
    "name",
    [
        *(n for n in sorted(SCRIPTS) if n.startswith("train") and "torch" in reached(n)),
        "benchmarks.bench_training",
    ],
)
def test_how_threads_wait_is_settled_before_torch_is_loaded(name):
    body = [inner for node in TREES[name].body for inner in getattr(node, "body", [node])]
    lines = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert any("torch" in reached(own(m)) for node in lines for m in modules_of(node))
    first = next(i for i, node in enumerate(lines) if "training.threads" in ast.unparse(node))
    for node in lines[:first]:
        assert not any("torch" in reached(own(module)) for module in modules_of(node))


def test_the_engine_needs_little_so_that_old_environments_can_use_it():
    outside = reached(f"{ENGINE_ROOM}.extraction") - set(FILES)
    assert outside - set(sys.stdlib_module_names) <= ENGINE


@pytest.mark.parametrize("name", FILES)
def test_only_the_options_read_the_command_line(name):
    read = {
        ast.unparse(node)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert ("sys.argv" in read) == (name == "core.options")


def test_the_engine_starts_without_what_decoders_and_small_backbones_do_not_need():
    blocked = ("torch", "transformers", "pandas", "pyarrow", "librosa", "duckdb")
    lines = [
        "import sys",
        f"sys.modules |= dict.fromkeys({blocked})",  # importing one of them fails
        "import extract_item_embeddings.engine",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=HERE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
