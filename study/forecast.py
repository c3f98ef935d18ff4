"""What a study will ask for and take, before anything is submitted: --dry-run.

Hours are estimated from rates: of the finished stages of this root where it has some, else of
rates.csv, which benchmarks/rates.py writes; where those were measured is said. What has no rate has
no estimate, and that is said too.
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

RATES = HERE / "study" / "rates.csv"  # what, unit, seconds a unit, where
LINE = 45  # bytes of a play in a listening log
PACKED = 5  # times smaller is a log that is packed


def foretell(config: StudyConfig, nodes: list[Node]) -> list[str]:
    """Return the lines of a dry run: the tree with arrays, resources and hours, and the sums."""
    units = sizes(config, nodes)
    table, own = read_rates(RATES), rates_of(config.root)
    rates = table | own
    asked = {n.stage.name: ask(config, n) for n in nodes if n.todo}
    hours = {n.stage.name: estimate(n, units, rates) for n in nodes if n.todo}

    def more(node: Node) -> str:
        if not node.todo:
            return ""
        n = len(node.todo)
        array = "" if not node.stage.array else "1 task, " if n == 1 else f"{n} tasks, each "
        took = hours[node.stage.name]
        about = "no estimate" if took is None else f"{_hours(took)} in all"
        return f" {array}{_resources(asked[node.stage.name])}; {about}"

    known = {name: took for name, took in hours.items() if took is not None}
    on_gpu = sum(took * gpus_of(asked[name]) for name, took in known.items())
    tasks = sum(len(node.todo) for node in nodes)
    lines = tree(nodes, more)
    lines.append(f"would submit {len(asked)} jobs of {tasks} tasks; nothing was submitted")
    on_gpus = f"{_hours(on_gpu)} of GPUs" if on_gpu else "none of GPUs"
    lines.append(f"{_hours(sum(known.values()))}, {on_gpus}")
    used = dict.fromkeys(kind for n in nodes if n.stage.name in known for kind in kinds_of(n))
    if foreign := [kind for kind in used if kind in table and kind not in own]:
        where = dict.fromkeys(place for kind, place in places(RATES).items() if kind in foreign)
        lines.append(f"by rates of study/{RATES.name}, measured on: {'; '.join(where)}")
    if unknown := [name for name in hours if hours[name] is None]:
        lines.append(f"without what has no rate: {', '.join(unknown)}")
    return lines


def ask(config: StudyConfig, node: Node) -> dict[str, str]:
    """Return what each of a stage's tasks would ask Slurm for."""
    batch = node.stage.batch
    return cluster.resources(batch, node.stage.script[0], cluster_options(config, node))


def sizes(config: StudyConfig, nodes: list[Node]) -> dict[str, int]:
    """Return how many there are of each unit: what the root holds, or what the inputs suggest.

    Units are track, play (a row of the log), pair (a user and a track of train) and run. Before
    there is a split every play is taken for a pair, so that an estimate is rather too long.
    """
    found = {"run": sum(_seeds(node) * len(_recommenders(node)) for node in nodes)}
    ids = config.root / "trackid_sorted.csv"
    if ids.exists():
        found["track"] = len(ids.read_bytes().splitlines()) - 1
    elif config.audio and config.audio.is_dir():
        found["track"] = len(scan(config.audio, config.pattern).files)
    elif config.log is None:
        found["track"] = 1000  # of the sample
    plays, train = (_rows(config.root / "data" / f"{name}.pqt") for name in ("plays", "train"))
    if plays is None and config.log is None:
        plays = 40_000
    elif plays is None and config.log.exists():
        packed = config.log.suffix in (".gz", ".bz2", ".zst", ".xz")
        plays = max(1, config.log.stat().st_size * (PACKED if packed else 1) // LINE)
    found |= {"play": plays} if plays else {}
    return found | ({"pair": train or plays} if train or plays else {})


def _rows(table: Path) -> int | None:
    return pyarrow.parquet.read_metadata(table).num_rows if table.exists() else None


def read_rates(path: Path) -> dict[str, tuple[str, float]]:
    """Return {recommender, embedding or stage: (unit, seconds a unit)} of a table of rates."""
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {row["what"]: (row["unit"], float(row["seconds"])) for row in csv.DictReader(file)}


def places(path: Path) -> dict[str, str]:
    """Return {recommender, embedding or stage: where its rate was measured}."""
    with open(path, encoding="utf-8", newline="") as file:
        return {row["what"]: row["where"] for row in csv.DictReader(file)}


def rates_of(root: Path) -> dict[str, tuple[str, float]]:
    """Return the rates of the finished embeddings and runs of a root, the newest of each kind."""
    found = {}
    for path in sorted((root / "embeddings").glob("*.json"), key=lambda p: p.stat().st_mtime_ns):
        made = read_json(path, "its extraction")
        if made.get("seconds") and made.get("n_tracks"):
            found[path.stem] = ("track", made["seconds"] / made["n_tracks"])
    pairs = _rows(root / "data" / "train.pqt")
    for path in sorted((root / "runs").glob("*/metrics.json"), key=lambda p: p.stat().st_mtime_ns):
        made = read_json(path, "its run")
        if made.get("seconds") and pairs:
            found[made["recommender"]] = ("pair", made["seconds"] / pairs)
    return found


def estimate(node: Node, units: dict[str, int], rates: dict) -> float | None:
    """Return the hours of all tasks of a stage together; None where no rate or size is known."""
    if "--join" in node.stage.flags:
        return 0.0
    total = 0.0
    for kind in kinds_of(node):
        unit, seconds = rates.get(kind, ("", 0.0))
        if unit not in units:
            return None
        share = len(node.todo) / len(node.stage.labels) * _seeds(node)
        total += seconds * units[unit] / 3600 * share
    return total


def kinds_of(node: Node) -> list[str]:
    """Return whose rates a stage goes by: its recommenders', its embedding's, or its own."""
    words = node.stage.name.split()
    return _recommenders(node) or [words[-1] if words[0] in ("embedding", "shards") else words[0]]


def _seeds(node: Node) -> int:
    flags = node.stage.flags
    return len(flags[flags.index("--seeds") + 1].split(",")) if "--seeds" in flags else 1


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
    if hours < 1 / 60:
        return "under a minute"
    return f"about {hours:,.1f} h" if hours >= 0.1 else f"about {hours * 60:,.1f} min"
