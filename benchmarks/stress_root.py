"""A small root of every stage for stress_files: its files, and for each the stages that read it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from core.artifacts import sha256, write_json
from core.options import parse_config
from core.registry import CONTROLS
from core.splits import read_split
from core.trackids import read_trackids
from core.users import original_users
from evaluation.tables import read_tables
from extract_item_embeddings.engine.parts import Part, Parts
from reporting.against import read_old
from reporting.study import read_study
from reporting.tracks import read_tracks
from reporting.users import user_rows
from sample_data.synthesis import describe as describe_track
from study.on_disk import missing_shards, tracks_of_shard
from study.record import Record

DATES = ("--train-from", "2019-02-01", "--test-from", "2019-02-15")
KNN, HALF = "runs/knn-toy-s1", "runs/shallow-toy-s1"
FIT = ("--embedding", "toy", "--epochs", "3", "--batch-size", "400", "--device", "cpu")
SAID = (  # keys of json files that a later stage could believe
    *("val", "test", "lists", "counts", "config", "rows", "users", "log", "sha256", "outcome"),
    *("gain", "options", "tracks", "licence"),
)


@dataclass(frozen=True)
class Stage:
    """A command, and what its numbers are: a function of the root after it."""

    script: str
    flags: tuple
    answer: Callable[[Path], object]

    def __call__(self, root: Path):
        call(self.script, "--root", root, *(str(f).replace("ROOT", str(root)) for f in self.flags))
        return self.answer(root)


@dataclass(frozen=True)
class Reader:
    """Stands for a command whose other work takes long: what it reads is its numbers."""

    script: str
    read: Callable[[Path], object]
    flags: tuple = ()

    def __call__(self, root: Path):
        return self.read(root)


def call(script: str, *flags) -> None:
    """Run a script's main in this process, without its words."""
    module = importlib.import_module(script)
    kinds = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == script]
    kind = next(v for v in kinds if v.__name__.endswith("Config"))
    with contextlib.redirect_stdout(io.StringIO()):
        module.main(parse_config(kind, module.__doc__, list(map(str, flags))))


def files(*names: str) -> Callable[[Path], object]:
    """Return the answer that is the content of files; of json what it says, without its seal."""

    def answer(root: Path):
        found = [path for name in names for path in root.glob(name)]
        return {path.relative_to(root).as_posix(): content(path, root) for path in found}

    return answer


def content(path: Path, root: Path):
    """Return what a file says that a later stage could believe, whatever the root is called."""
    if path.suffix == ".json":
        said = json.loads(path.read_text().replace(f"{root}/", "ROOT/"))
        return {name: said[name] for name in SAID if name in said}
    return sha256(path)


def tables(root: Path):
    """Return all tables as text, but the seconds that trials took: they are others each time."""
    found = read_tables(root)
    return {name: t.drop(columns="seconds", errors="ignore").to_csv() for name, t in found.items()}


def report(root: Path):
    """Return what report.py reads and shows, without its figures."""
    ids = read_trackids(root)
    study, split = read_study(root, len(ids)), read_split(root)
    tracks = read_tracks(root, ids, split["train"], ())
    rows = {key: row.column("NDCG@50").tolist() for key, row in user_rows(study).items()}
    names = original_users(root, split["test"].user_id.unique()).tolist()
    logs = [(run["folder"], run["log"], run["test"], run["options"]) for run in study.runs]
    vectors = {name: study.vectors(name, np.arange(9)).tolist() for name in study.matrices}
    return tables(root), rows, names, logs, vectors, tracks


def searches(root: Path):
    importlib.import_module("sweep").collect(root)
    return pd.read_csv(root / "tables" / "search.csv").drop(columns="seconds").to_csv()


def parts_of_shards(root: Path):
    """Return what run_study.py and study_status.py learn of an extraction in shards, and a join."""
    told = [(missing_shards(root, "half", 2), tracks_of_shard(root, "half", 2, 1))]
    parts = Parts(root / "embeddings" / "half.parts", 60, 8, 16, shards=2)
    changed = parts.changed({"width": 8})
    parts.write_matrix(root / "half.npy")
    return told, changed, sha256(root / "half.npy")


MADE = "runs/knn-toy-new-s1"
LOG = ("--log", "ROOT/log.tsv", "--users", "text")
STAGE_0 = Stage("0_get_plays_pqt", LOG, files("data/plays.*", "data/users.pqt"))
STAGE_1 = Stage(
    "1_train_test_split", DATES, files("data/t*.pqt", "data/val.pqt", "data/split.json")
)
SPLIT = Stage("1_train_test_split", (*DATES, "--overwrite"), STAGE_1.answer)
AGAIN = Stage("knn", ("--embedding", "toy"), files(f"{KNN}/*.pqt", f"{KNN}/*.json"))
NEW = Stage(
    "knn", ("--embedding", "toy", "--tag", "new"), files(f"{MADE}/*.pqt", f"{MADE}/metrics.json")
)
CHOSEN = Stage("knn", (*NEW.flags, "--config", "ROOT/searches/knn-noise/chosen.yaml"), NEW.answer)
RESUME = Stage("train", FIT, files(f"{HALF}/*.pqt"))
METRICS = Stage(
    "metrics", ("--run", "knn-toy-s1"), files(f"{KNN}/per_user*", f"{KNN}/metrics.json")
)
EXPORT = Stage("metrics", ("--run", "knn-toy-s1", "--export", "ROOT/lists.csv"), files("lists.csv"))
TABLE = Stage("table", ("--resamples", "100"), files("tables/*.csv"))
BLEND = Stage(
    "blend", ("--runs", "knn-toy-s1,popular-none-s1"), files("runs/blend*/*.pqt", "runs/blend*/m*")
)
ROBUST = Stage("robustness", ("--embeddings", "toy"), files("robustness.json"))
ARTISTS = Stage(
    "artist_controls",
    ("--embedding", "toy", "--artists", "ROOT/artists.csv"),
    files("embeddings/toy_artist*.npy"),
)
SPACE = ("--recommender", "knn", "--embeddings", "noise", "--space", "ROOT/space.yaml")
SEARCH = Stage(
    "sweep",
    (*SPACE, "--trials", "2", "--final-seeds", "none"),
    files("tables/search.csv", "searches/*/chosen.yaml"),
)
COLLECT = Reader("sweep", searches)
TABLE_OF = ("--table", "ROOT/downloads/table.csv", "--name")
IMPORT = Stage("import_embedding", (*TABLE_OF, "other"), files("embeddings/other.npy"))
IMPORTED = Stage("import_embedding", (*TABLE_OF, "imported"), files("embeddings/imported.*"))
GET = Stage(
    "get_data",
    ("--sources", "ROOT/sources.yaml", "--mirror", "ROOT/mirror", "--tables", "table"),
    files("downloads/*"),
)
SAMPLE = Stage(
    "make_sample",
    ("--root", "ROOT/sample", "--tracks", "16", "--users", "20", "--plays", "400"),
    files("sample/sample.json", "sample/*.tsv", "sample/audio/*"),
)
TABLES, REPORT = Reader("report", tables), Reader("report", report)
AGAINST = Reader("report", lambda root: read_old(root / "earlier").to_csv(), ("--against",))
AGAINST_ROOT = Reader("report", lambda root: read_old(root).to_csv(), ("--against",))
STUDY = Reader("run_study", lambda root: vars(Record.read(root)))
SHARDS = Reader("run_study", parts_of_shards)
TRIAL = "searches/knn-noise/trials/0000/runs/knn-noise-s1"
READERS: dict[str, tuple] = {  # of every file, the stages that read it
    "trackid_sorted.csv": (STAGE_0, STAGE_1, SPLIT, NEW, METRICS, IMPORT, IMPORTED, REPORT),
    "data/plays.pqt": (STAGE_0, STAGE_1, SPLIT),
    "data/plays.json": (STAGE_0, SPLIT, EXPORT, REPORT),
    "data/users.pqt": (STAGE_0, EXPORT, REPORT),
    **{
        f"data/{part}.pqt": (STAGE_1, NEW, METRICS, BLEND, ROBUST, ARTISTS, SEARCH, REPORT)
        for part in ("train", "val", "test")
    },
    "data/split.json": (STAGE_1, NEW, METRICS, BLEND, ROBUST, ARTISTS, SEARCH, REPORT),
    "embeddings/toy.npy": (NEW, AGAIN, ROBUST, ARTISTS, REPORT),
    "embeddings/toy.json": (NEW, ROBUST, ARTISTS, REPORT),
    "embeddings/toy_noise20.npy": (ROBUST, REPORT),
    "embeddings/toy_noise20.json": (ROBUST, REPORT),
    "embeddings/imported.npy": (IMPORTED, REPORT),
    "embeddings/imported.json": (IMPORTED, REPORT),
    "embeddings/half.parts/plan.json": (SHARDS,),
    "embeddings/half.parts/00000016.npz": (SHARDS,),
    "downloads/table.csv": (GET, IMPORT, IMPORTED),
    "downloads/table.csv.json": (GET, IMPORT, IMPORTED),
    f"{KNN}/config.yaml": (AGAIN, METRICS, TABLE, BLEND, REPORT),
    f"{KNN}/metrics.json": (AGAIN, METRICS, TABLE, BLEND, REPORT),
    f"{KNN}/recs.pqt": (AGAIN, METRICS, BLEND, EXPORT),
    f"{KNN}/per_user_test.pqt": (AGAIN, TABLE, REPORT),
    f"{KNN}/segments_test.pqt": (AGAIN, TABLE),
    "runs/popular-none-s1/recs.pqt": (BLEND,),
    f"{HALF}/last.pt": (RESUME,),
    f"{HALF}/best.pt": (RESUME,),
    f"{HALF}/config.yaml": (RESUME,),
    "runs/shallow-noise-s1/log.jsonl": (REPORT, TABLE),
    "runs/study.json": (STUDY,),
    "searches/knn-noise/begun.json": (SEARCH,),
    "searches/knn-noise/study.db": (SEARCH,),
    "searches/knn-noise/study.json": (SEARCH,),
    "searches/knn-noise/search.json": (COLLECT,),
    "searches/knn-noise/chosen.yaml": (CHOSEN,),
    f"{TRIAL}/metrics.json": (SEARCH,),
    f"{TRIAL}/config.yaml": (SEARCH,),
    "tables/results.csv": (TABLES, AGAINST_ROOT),
    "tables/comparisons.csv": (TABLES,),
    "tables/search.csv": (TABLES,),
    "tables/search.json": (TABLES,),
    "tables/tables.json": (TABLES, AGAINST_ROOT),
    "earlier/report.json": (AGAINST,),
    "earlier/data/results.csv": (AGAINST,),
    "about.tsv": (REPORT,),
    "about.json": (REPORT,),
    "sample/sample.json": (SAMPLE,),
    "sample/userid_trackid_timestamp.tsv": (SAMPLE,),
    f"sample/audio/{describe_track(0, 0).track_id}.mp3": (SAMPLE,),
}


def make_root(root: Path, seed: int) -> Path:
    """Make a root of every stage, but for what was stopped: the caller begins that training."""
    rng = np.random.default_rng(seed)
    (root / "embeddings").mkdir(parents=True)
    times = pd.to_timedelta(rng.integers(0, 28 * 86_400, 2_000), unit="s")
    tracks = (rng.random(2_000) ** 2 * 60).astype(int)
    users = [f"u{user}" for user in rng.integers(0, 40, 2_000)]
    log = {"user_id": users, "track_id": [f"track{t:04d}" for t in tracks]}
    log = pd.DataFrame(log).assign(timestamp=pd.Timestamp("2019-02-01") + times)
    log.to_csv(root / "log.tsv", sep="\t", index=False)
    STAGE_0(root), STAGE_1(root)
    ids = read_trackids(root)
    vectors = rng.standard_normal((60, 8), dtype=np.float32)
    moved = vectors + np.float32(0.1) * rng.standard_normal((60, 8), dtype=np.float32)
    for name, matrix in (("toy", vectors), ("toy_noise20", moved)):
        np.save(root / "embeddings" / f"{name}.npy", matrix)
        describe(root, name)
    add_downloads(root, ids, rng)
    add_parts(root, vectors)
    AGAIN(root)
    call("knn", "--root", root, "--embedding", "noise", "--width", "8")
    noise = ("--embedding", "noise", "--width", "8", "--epochs", "2", "--device", "cpu")
    call("train", "--root", root, *noise)
    call("baselines", "--root", root, "--only", [*CONTROLS][-2])  # by plays, the quickest
    (root / "space.yaml").write_text(yaml.safe_dump({"knn": {"scale": ["none", "whiten"]}}))
    SEARCH(root), TABLE(root)
    artists = [f"{track},artist {at % 7}" for at, track in enumerate(ids)]
    (root / "artists.csv").write_text("\n".join(["id,artist", *artists]) + "\n")
    genres = [f"{track}\tartist {at % 7}\tgenre {at % 3}" for at, track in enumerate(ids)]
    (root / "about.tsv").write_text("\n".join(["id\tartist\tgenres", *genres]) + "\n")
    write_json(root / "about.json", {"sha256": sha256(root / "about.tsv")})
    Record(root, "0" * 12, "somebody", stages={"split": [{"id": 7, "tasks": [0]}]}).write()
    shutil.copytree(root, root / "earlier")
    call("report", "--root", root / "earlier", "--neighbours", "drawn")
    (root / "earlier" / "report").rename(root / "report_of_earlier")
    shutil.rmtree(root / "earlier")
    (root / "earlier" / "data").mkdir(parents=True)
    for name in ("report.json", "data/results.csv"):
        (root / "report_of_earlier" / name).rename(root / "earlier" / name)
    shutil.rmtree(root / "report_of_earlier")
    SAMPLE(root)
    return root


def describe(root: Path, name: str) -> None:
    """Write the json of an embedding."""
    path = root / "embeddings" / f"{name}.npy"
    ids = sha256(root / "trackid_sorted.csv")
    write_json(path.with_suffix(".json"), {"sha256": sha256(path), "trackids_sha256": ids})


def add_downloads(root: Path, ids: list[str], rng) -> None:
    """Fetch a table of vectors from a folder, and import it."""
    rows = [",".join([track, *map(str, rng.normal(size=3))]) for track in ids]
    (root / "mirror").mkdir()
    path = root / "mirror" / "table.csv"
    path.write_text("\n".join(["id,a,b,c", *rows]) + "\n")
    source = {
        **{"group": "table", "file": path.name, "what": "a table", "licence": "CC0"},
        **{"addresses": [f"http://localhost/{path.name}"], "bytes": path.stat().st_size},
        "md5": hashlib.md5(path.read_bytes()).hexdigest(),
    }
    (root / "sources.yaml").write_text(yaml.safe_dump({"sources": {"table": source}}))
    GET(root), IMPORTED(root)


def add_parts(root: Path, vectors: np.ndarray) -> None:
    """Write the parts of an extraction in two shards that were not joined."""
    parts = Parts(root / "embeddings" / "half.parts", len(vectors), vectors.shape[1], 16, shards=2)
    parts.begin({"width": vectors.shape[1]})
    for window in parts.windows():
        part = Part.empty(len(window), vectors.shape[1])
        part.vectors[:] = vectors[window.start : window.stop]
        part.reasons[:] = [""] * len(window)
        parts.save(window, part)
