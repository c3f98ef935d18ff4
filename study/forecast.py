"""What a study will ask for and take, before anything is submitted: --dry-run.

Hours are estimated from rates: of the finished stages of this root where it has some, else of
rates.csv, which benchmarks/rates.py writes. What has no rate has no estimate, and that is said.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet

from core.artifacts import read_json
from core.audio_folder import scan
from core.registry import ALL
from study import cluster
from study.config import HERE, StudyConfig
from study.fit import gpus_of
from study.graph import Node
from study.submission import cluster_options
from study.tree import tree

RATES = HERE / "study" / "rates.csv"  # what, unit (track or pair), seconds a unit, where
LINE = 45  # bytes of a play in a listening log, where the log itself has no first lines


def foretell(config: StudyConfig, nodes: list[Node]) -> list[str]:
    """Return the lines of a dry run: the tree with arrays, resources and hours, and the sums."""
    units = sizes(config, nodes)
    rates = read_rates(RATES) | rates_of(config.root)
    asked = {n.stage.name: ask(config, n) for n in nodes if n.todo}
    hours = {n.stage.name: estimate(n, units, rates) for n in nodes if n.todo}

    def more(node: Node) -> str:
        if not node.todo:
            return ""
        array = f"{len(node.todo)} tasks, each " if node.stage.array else ""
        took = hours[node.stage.name]
        about = "no estimate" if took is None else f"about {_hours(took)} in all"
        return f" {array}{_resources(asked[node.stage.name])}; {about}"

    known = {name: took for name, took in hours.items() if took is not None}
    on_gpu = sum(took * gpus_of(asked[name]) for name, took in known.items())
    tasks = sum(len(node.todo) for node in nodes)
    lines = tree(nodes, more)
    lines.append(f"would submit {len(asked)} jobs of {tasks} tasks; nothing was submitted")
    unknown = [name for name in hours if hours[name] is None]
    without = f", without {len(unknown)} stages that have no estimate" if unknown else ""
    lines.append(f"about {_hours(sum(known.values()))}, {_hours(on_gpu)} of GPUs{without}")
    return lines


def ask(config: StudyConfig, node: Node) -> dict[str, str]:
    """Return what each of a stage's tasks would ask Slurm for."""
    batch = node.stage.batch
    return cluster.resources(batch, node.stage.script[0], cluster_options(config, node))


def sizes(config: StudyConfig, nodes: list[Node]) -> dict[str, int]:
    """Return {"track": n, "pair": n}: what the root holds, or else what the inputs suggest.

    A pair is a user and a track of train. Before there is a split every play is taken for one, so
    that an estimate is rather too long.
    """
    found = {}
    ids, train = config.root / "trackid_sorted.csv", config.root / "data" / "train.pqt"
    if ids.exists():
        found["track"] = len(ids.read_bytes().splitlines()) - 1
    elif config.audio and config.audio.is_dir():
        found["track"] = len(scan(config.audio, config.pattern).files)
    elif config.log is None:
        found["track"] = 1000  # of the sample
    if train.exists():
        found["pair"] = pyarrow.parquet.read_metadata(train).num_rows
    elif config.log and config.log.exists():
        found["pair"] = max(1, config.log.stat().st_size // LINE)
    elif config.log is None:
        found["pair"] = 40_000
    return found


def read_rates(path: Path) -> dict[str, tuple[str, float]]:
    """Return {recommender or embedding: (unit, seconds a unit)} of a table of rates."""
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {row["what"]: (row["unit"], float(row["seconds"])) for row in csv.DictReader(file)}


def rates_of(root: Path) -> dict[str, tuple[str, float]]:
    """Return the rates of the finished embeddings and runs of a root, the newest of each kind."""
    found = {}
    for path in sorted((root / "embeddings").glob("*.json"), key=lambda p: p.stat().st_mtime_ns):
        made = read_json(path, "its extraction")
        if made.get("seconds") and made.get("n_tracks"):
            found[path.stem] = ("track", made["seconds"] / made["n_tracks"])
    train = root / "data" / "train.pqt"
    runs = sorted((root / "runs").glob("*/metrics.json"), key=lambda p: p.stat().st_mtime_ns)
    if train.exists() and runs:
        pairs = pyarrow.parquet.read_metadata(train).num_rows
        for path in runs:
            made = read_json(path, "its run")
            if made.get("seconds"):
                found[made["recommender"]] = ("pair", made["seconds"] / max(1, pairs))
    return found


def estimate(node: Node, units: dict[str, int], rates: dict) -> float | None:
    """Return the hours of all tasks of a stage together; None where no rate or size is known."""
    words = node.stage.name.split()
    if words[0] == "embedding" and "--join" in node.stage.flags:
        return 0.0
    extraction = words[0] in ("embedding", "shards")
    kinds = [words[-1]] if extraction else _recommenders(node)
    total = 0.0
    for kind in kinds:
        unit, seconds = rates.get(kind, ("", 0.0))
        if unit not in units:
            return None
        whole = seconds * units[unit] / 3600
        flags = node.stage.flags
        seeds = len(flags[flags.index("--seeds") + 1].split(",")) if "--seeds" in flags else 1
        total += whole * len(node.todo) / len(node.stage.labels) * seeds
    return total if kinds else None


def _recommenders(node: Node) -> list[str]:
    """Return which recommenders' runs a stage makes; none of one that makes no runs."""
    flags, script = node.stage.flags, node.stage.script[0]
    if "--seeds" not in flags:
        return []
    embedded = "--embedding" in flags
    names = [n for n, each in ALL.items() if each.script == script and each.hears == embedded]
    return [n for n in names if n == node.stage.name.split()[0]] or names


def _resources(asked: dict[str, str]) -> str:
    memory = asked.get("mem") or f"{asked.get('mem-per-cpu')} a cpu"
    gpus = gpus_of(asked)
    said = [f"{asked['cpus-per-task']} cpus", memory, f"at most {asked['time']}"]
    said += [f"{gpus} GPU"] if gpus else []
    said += [asked["partition"]] if "partition" in asked else []
    return ", ".join(said)


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 0.1 else f"{hours * 60:,.1f} min"
