"""What several test files share: a toy root with tastes, commands, the reference data."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # toys: threads would only wait for each other

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from forked import Forked, Started  # noqa: E402

from core.options import parse_config  # noqa: E402

HERE = Path(__file__).resolve().parents[1]
# Files of minutes, the longest first.
LONGEST = ("test_slurm.py", "test_pipeline.py", "test_backbones.py", "test_report_large.py")


def pytest_configure(config):
    # As model.py does for its users; pytest would show it all the same.
    config.addinivalue_line("filterwarnings", "ignore:Sparse CSR tensor support is in beta")


def pytest_collection_modifyitems(items):
    """Begin with the longest files: one that is left to the end has a worker to itself."""
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session", autouse=True)
def forks():
    """Let commands begin where the libraries are loaded, see forked.py."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(subprocess, "Popen", Forked)
        yield


@pytest.fixture(autouse=True)
def fresh(request, monkeypatch):
    """Let commands of a test that is marked so start in fresh interpreters."""
    if request.node.get_closest_marker("fresh_starts"):
        monkeypatch.setattr(subprocess, "Popen", Started)


@pytest.fixture
def make(folders):
    """Return a function kind, *flags -> that backbone with its tiny weights, loaded.

    A file of tests that takes it has a fixture `folders`: {name: folder of a backbone's weights}.
    """

    def build(kind, *flags, folder=None, device="cpu"):
        flags = ["--audio", ".", "--weights", folder or folders[kind.name], *flags]
        backbone = kind.from_config(parse_config(kind.config_class, "", list(map(str, flags))))
        backbone.load(device)
        return backbone

    return build


@pytest.fixture
def shared() -> Path:
    """The folder with the reference data (golden/, music4all/, slurm/)."""
    folder = os.environ.get("MUSIC_SHARED")
    if not folder:
        pytest.skip("MUSIC_SHARED does not name the folder of the reference data")
    return Path(folder)


@pytest.fixture
def command():
    """Run a script, or a module with -m, as a user does: (name, *flags) -> finished process."""

    def run(script, *flags, **options):
        script = script if script.startswith("-") else HERE / script
        return subprocess.run(
            [sys.executable, script, *map(str, flags)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=HERE,
            **options,
        )

    return run


@pytest.fixture
def call():
    """Run a script's main in this process: (name without .py, *flags); its errors are raised."""
    return call_main


@pytest.fixture
def toy_root(tmp_path):
    """Write a small split whose tastes follow the vectors of embeddings/toy.npy.

    Call it as toy_root() or with make_root's options.
    """
    return lambda name="root", **options: make_root(tmp_path / name, **options)


def call_main(script: str, *flags):
    """Run a script's main in this process; its errors are raised."""
    module = importlib.import_module(script)
    own = [v for v in vars(module).values() if getattr(v, "__module__", "") == script]
    kind = next(v for v in own if isinstance(v, type) and v.__name__.endswith("Config"))
    return module.main(parse_config(kind, module.__doc__, list(map(str, flags))))


def shell(line: str, folder: Path, **more) -> subprocess.CompletedProcess:
    """Run a line of the README as a user does, but with this Python and its sample/ in `folder`."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    line = in_folder(line, folder)
    return subprocess.run(
        line, shell=True, cwd=HERE, env=environment, capture_output=True, text=True, **more
    )


def forked(line: str, folder: Path) -> subprocess.CompletedProcess:
    """Run a line of the README as `shell` does, but without a shell, so that it can be forked."""
    first, *words = shlex.split(in_folder(line, folder))
    assert first == "python"
    return subprocess.run([sys.executable, *words], cwd=HERE, capture_output=True, text=True)


def in_folder(line: str, folder: Path) -> str:
    """Return a line of the README with its sample/ in `folder`."""
    return re.sub(r"\bsample(?=[/\s]|$)", str(folder / "sample"), line)


def flip(path: Path, at: int) -> None:
    """Turn the lowest bit of one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def make_root(root: Path, *, users=24, tracks=160, tastes=4, width=8, heard=12, seed=0) -> Path:
    """Write data/{train,val,test}.pqt, trackid_sorted.csv and embeddings/{toy,shuffled}.npy.

    Every user plays tracks of one taste: `heard` of train and three held out, which are val's for
    even users and test's for odd ones. The first track is in nobody's train, so item_idx and
    track_idx differ. `shuffled` holds the rows of `toy` in another order.
    """
    import pandas as pd  # which the environments of single backbones do not have

    rng = np.random.default_rng(seed)
    taste = np.arange(tracks) % tastes
    rows = []
    for user in range(users):
        liked = np.flatnonzero(taste == user % tastes)
        liked = rng.permutation(liked[liked > 0])[: heard + 3]
        for place, track in enumerate(liked):
            part = "train" if place < heard else ("val", "test")[user // tastes % 2]
            rows.append((part, 10 * user + 7, track, place, rng.integers(1, 9)))
    plays = pd.DataFrame(rows, columns=["part", "user_id", "track_idx", "place", "count"])
    days = pd.to_timedelta(plays.pop("place") // 2, unit="D")  # pairs of tracks share a time
    plays["timestamp"] = (pd.Timestamp("2019-03-01") + days).astype("datetime64[us]")
    known = plays.track_idx[plays.part == "train"]
    plays = plays[plays.track_idx.isin(known)].sort_values(["user_id", "track_idx"])

    (root / "data").mkdir(parents=True)
    for part, table in plays.groupby("part"):
        columns = ["user_id", "track_idx", "timestamp", "count"]
        table[columns].to_parquet(root / "data" / f"{part}.pqt", index=False)
    ids = pd.DataFrame({"idx": range(tracks), "trackid": [f"T{i:015d}" for i in range(tracks)]})
    ids.to_csv(root / "trackid_sorted.csv", index=False, lineterminator="\n")

    vectors = rng.normal(size=(tastes, width))[taste] + 0.3 * rng.normal(size=(tracks, width))
    (root / "embeddings").mkdir()
    np.save(root / "embeddings" / "toy.npy", vectors.astype(np.float32))
    np.save(root / "embeddings" / "shuffled.npy", rng.permutation(vectors).astype(np.float32))
    return root
