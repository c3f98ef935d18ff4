"""What the report tells of: the tables, the runs behind them, the embeddings, and the tracks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.cores import by_parts
from core.names import NAME, WITHOUT_FILE
from core.options import InputError
from core.registry import CONTROLS, is_chance
from evaluation.finished import made_of, read_finished, read_log
from evaluation.tables import read_tables, runs_of_tables, stated_k
from recommenders.embedding_files import BLOCK, Matrix, read_matrix
from recommenders.vectors import NOISE_SEED

TABLE = "python table.py"


@dataclass(frozen=True)
class Study:
    """One root, read.

    Attributes:
        root: the folder.
        tables: frames of root/tables/*.csv by name; `results` is there, others may not be.
        runs: of every finished run config.yaml and metrics.json in one dict, with `folder` (name)
            and `log` (its epochs, [] for a run that learns nothing); by folder name.
        embeddings: {name: facts} of embeddings/NAME.npy with a row for each track, and last of
            `noise` if a run has it; facts are those of NAME.json, with `width`.
        matrices: of `embeddings`, each as it was when the study was read.
        synthetic: the root was made by make_sample.py.
    """

    root: Path
    tables: dict[str, pd.DataFrame]
    runs: list[dict]
    embeddings: dict[str, dict]
    matrices: dict[str, Matrix]
    synthetic: bool

    @property
    def results(self) -> pd.DataFrame:
        return self.tables["results"]

    @property
    def models(self) -> pd.DataFrame:
        """Rows of `results` that rank by an embedding."""
        return self.results[~self.results.recommender.isin(CONTROLS)]

    @property
    def recommenders(self) -> list[str]:
        return list(dict.fromkeys(self.models.recommender))

    @property
    def k(self) -> int:
        """The list length the report speaks of: 50, or the longest there is."""
        return stated_k(self.results)

    def lines(self, metric: str) -> dict[str, float]:
        """Return what chance and the controls without an embedding reach: `chance`, `popular`, ...

        Chance is what random lists are expected to reach, where table.py computed it, else what
        those that were drawn reach. A control that was not run is left out.
        """
        means = self.results[self.results.tag == ""].set_index("recommender")[metric].to_dict()
        chance = self.tables.get("chance", pd.DataFrame({"metric": [], "chance": []}))
        exact = dict(zip(chance.metric, chance.chance, strict=True))
        found = {
            "chance" if is_chance(name) else name: means.get(name) for name in reversed(CONTROLS)
        }
        found["chance"] = exact.get(metric, found.get("chance"))
        return {name: float(value) for name, value in found.items() if value is not None}

    def vectors(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of some tracks, float32 (n, width); NaN becomes 0, like no vector."""
        if name == "noise":
            n_tracks = max(rows) + 1
            width = self.embeddings[name]["width"]
            rng = np.random.default_rng(NOISE_SEED)
            return rng.standard_normal((n_tracks, width), dtype=np.float32)[rows]
        vectors = self.matrices[name].rows(rows)

        def clean(part: slice) -> None:
            for start in range(part.start, part.stop, BLOCK):
                block = vectors[start : min(start + BLOCK, part.stop)]
                if not np.isfinite(block.sum()):  # nan_to_num looks three times at each number
                    np.nan_to_num(block, copy=False)

        by_parts(clean, len(vectors))
        return vectors


def read_study(root: Path, n_tracks: int) -> Study:
    """Read a root after table.py.

    Args:
        n_tracks: rows that an embedding must have; others are left out.

    Raises:
        InputError: the table is missing, or older than a run.
    """
    told = runs_of_tables(root)  # before the tables: of older ones it tells of other runs
    tables = read_tables(root)
    runs = [_read_run(path) for path in sorted((root / "runs").glob("*/metrics.json"))]
    runs = _in_table(root, tables["results"], runs, told)
    matrices = _read_matrices(root, n_tracks)
    _refuse_others(root, runs, matrices)
    embeddings = {
        name: {**each.facts, "width": each.vectors.shape[1]} for name, each in matrices.items()
    }
    noise = tables["results"].query("embedding == 'noise'")
    if len(noise):
        embeddings["noise"] = {"width": int(noise.width.iloc[0])}
    return Study(root, tables, runs, embeddings, matrices, (root / "sample.json").exists())


def _read_run(path: Path) -> dict:
    folder = path.parent
    known = read_finished(folder)
    return {**known, "folder": folder.name, "log": read_log(folder, known)}


def _in_table(root: Path, results: pd.DataFrame, runs: list[dict], told: dict) -> list[dict]:
    """Return the runs of the table, which `--runs` may have chosen; refuse an older table.

    A run that was made again while the table was is older than it and another one: what the table
    tells of a run counts, and the files' times only where it tells nothing.
    """
    made = (root / "tables" / "results.csv").stat().st_mtime
    for run in runs:
        if known := told.get(run["folder"]):
            if known != made_of(run):
                raise InputError(
                    f"{root}/runs/{run['folder']} is not the run that tables/results.csv tells of, "
                    f"it was made or measured again; run {TABLE} --root {root} first"
                )
        elif (root / "runs" / run["folder"] / "metrics.json").stat().st_mtime > made:
            raise InputError(
                f"{root}/runs/{run['folder']} is newer than tables/results.csv; run {TABLE} "
                f"--root {root} first"
            )
    rows = set(zip(results.recommender, results.embedding, results.tag, strict=True))
    return [run for run in runs if (run["recommender"], run["embedding"], run["tag"] or "") in rows]


def _read_matrices(root: Path, n_tracks: int) -> dict[str, Matrix]:
    """Return the embeddings under the root with a row for each track, by name."""
    paths = sorted((root / "embeddings").glob("*.npy"))
    names = [p.stem for p in paths if NAME.fullmatch(p.stem) and p.stem not in WITHOUT_FILE]
    # Each is hashed, which takes longer than all else here.
    parts = by_parts(lambda part: [read_matrix(root, name) for name in names[part]], len(names))
    found = {}
    for name, matrix in zip(names, [matrix for part in parts for matrix in part], strict=True):
        perturbed = (matrix.facts.get("options") or {}).get("perturb")
        if len(matrix.vectors) == n_tracks and not perturbed:
            found[name] = matrix
    return found


def _refuse_others(root: Path, runs: list[dict], matrices: dict[str, Matrix]) -> None:
    """Refuse an embedding that is not the one its runs were made from: its figures would be."""
    for run in runs:
        matrix = matrices.get(run["embedding"])
        if matrix and matrix.sha256 != run["embedding_hash"]:
            raise InputError(
                f"{root}/embeddings/{run['embedding']}.npy is not the one that {run['folder']} was "
                "made from; put that one back, or make the run again with --overwrite"
            )
