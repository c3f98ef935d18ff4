"""What changed since an earlier study: the rows whose numbers moved beyond their intervals."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from core.artifacts import read_json
from core.options import InputError
from evaluation.measures import HEADLINE
from evaluation.tables import KEYS, metric_names, read_csv, read_results
from reporting.findings import number
from reporting.gains import row_name

KEPT = "results.csv"  # of a report's data folder: the table it was made from
TOLD = 40  # lines on the page


def read_old(path: Path) -> pd.DataFrame:
    """Return the results of an earlier root or report.

    Raises:
        InputError: the folder is neither, or the table is not the one that it tells of.
    """
    table = path / "tables" / "results.csv"
    if table.exists():
        return read_results(path)
    table = path / "data" / KEPT
    if table.exists():
        remedy, record = "python report.py in the root it was made from", path / "report.json"
        told = read_json(record, remedy).get("sha256", {}) if record.exists() else {}
        return read_csv(table, remedy, told.get(f"data/{KEPT}"))
    raise InputError(
        f"--against {path} is no root with tables/results.csv and no report with data/{KEPT}; "
        "name the folder of an earlier study, or of its report"
    )


def name_of(path: Path) -> str:
    """Return what an earlier root or report is called: of a report, the name of its root."""
    path = path.resolve()
    return path.parent.name if path.name == "report" and path.parent.name else path.name


def changes(new: pd.DataFrame, old: pd.DataFrame, name: str) -> dict:
    """Return what changed, for the page.

    A number moved when each mean lies outside the other's 95 % interval. Rows are told with the
    headline's metrics first.

    Args:
        new, old: as results.csv.
        name: of the earlier study.

    Returns:
        `told`, a sentence; `rows`, a line for each number that moved, new row and lost row.
    """
    ours = {tuple(row[k] for k in KEYS): row for row in new.to_dict("records")}
    theirs = {tuple(row[k] for k in KEYS): row for row in old.to_dict("records")}
    both = [key for key in ours if key in theirs]
    metrics = [m for m in metric_names(new) if {m, f"{m}_ci95"} <= {*new} & {*old}]
    metrics.sort(key=lambda m: m.split("@")[0] not in HEADLINE)  # stable: else in their order
    lines, moved = [], set()
    for key in both:
        for metric in metrics:
            before, after = theirs[key], ours[key]
            far = abs(after[metric] - before[metric])
            if far > max(before[f"{metric}_ci95"], after[f"{metric}_ci95"]):
                moved.add(key)
                lines.append(
                    f"{row_name(key)}: {metric} {number(before[metric])} "
                    f"(± {number(before[f'{metric}_ci95'])}) became {number(after[metric])} "
                    f"(± {number(after[f'{metric}_ci95'])})"
                )
    lines = [*lines[:TOLD], *([f"and {len(lines) - TOLD} more numbers"] if lines[TOLD:] else [])]
    lines += [f"{row_name(key)} is new" for key in ours if key not in theirs]
    lines += [f"{row_name(key)} is there no more" for key in theirs if key not in ours]
    if not both:
        return {"told": f"Against {name}: no row is in both studies.", "rows": lines}
    told = f"Against {name}: of {len(both)} rows in both studies {len(moved) or 'none'} moved "
    told += "beyond their intervals" + (", each mean outside the other’s." if moved else ".")
    return {"told": told, "rows": lines}
