"""What each figure shows, in words, for those who do not see it: made from the rows it draws."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from core.names import WITHOUT_FILE, row_label
from core.registry import label, short_label
from evaluation.controls import is_control
from reporting.curves import has_losses
from reporting.findings import listed, number
from reporting.matrices import ALPHA, difference_matrix
from reporting.study import Study


def metric_text(study: Study, metric: str) -> str:
    """Return every mean of the figure with half its interval, controls apart."""
    parts = []
    for recommender in study.recommenders:
        rows = study.models[study.models.recommender == recommender].dropna(subset=metric)
        if not len(rows):
            continue
        rows = rows.sort_values([metric, "embedding", "tag"], ascending=[False, True, True])
        told: dict[bool, list[str]] = {False: [], True: []}
        for row in rows.to_dict("records"):
            name = row_label(row["embedding"], row["tag"])
            control = is_control((row["embedding"], row["tag"]))
            told[control].append(f"{name} {number(row[metric])} ± {number(row[f'{metric}_ci95'])}")
        own = f"highest first {', '.join(told[False])}" if told[False] else "no representation"
        parts.append(f"{label(recommender)}: {own}")
        if told[True]:
            parts[-1] += f"; controls {', '.join(told[True])}"
    lines = [f"{short_label(name)} {number(value)}" for name, value in study.lines(metric).items()]
    text = f"{metric}, means with 95 % intervals. {'. '.join(parts)}."
    return f"{text} Lines: {', '.join(lines)}." if lines else text


def significance_text(study: Study, metric: str) -> str:
    """Return who lies significantly above whom, and who is not told apart from whom."""
    table = study.tables["comparisons"]
    pairs = table[table.metric == metric]
    parts = []
    for recommender in study.recommenders:
        own = pairs[pairs.recommender == recommender]
        if not len(own):
            continue
        names, differences, p_values = difference_matrix(own)
        told = []
        for row, name in enumerate(names):
            below = [
                other
                for at, other in enumerate(names)
                if p_values[row, at] < ALPHA and differences[row, at] > 0
            ]
            if below:
                told.append(f"{name} above {listed(below)}")
        equal = int(np.sum(np.triu(p_values >= ALPHA, 1)))
        told.append(f"{equal} of {len(own)} pairs are not told apart")
        parts.append(f"{label(recommender)}: {'; '.join(told)}.")
    return f"Significant differences in {metric}. " + " ".join(parts)


def rank_text(rows: pd.DataFrame) -> str:
    """Return the order of every recommender with widths and sizes.

    Args:
        rows: of figures.rank_rows.
    """
    parts = []
    for recommender, own in rows.groupby("recommender", sort=False):
        told = []
        for row in own.sort_values(["rank", "embedding"]).to_dict("records"):
            known = [f"{what} {row[what]:,.0f}" for what in ("width", "size") if row[what] > -1]
            facts = f" ({', '.join(known)})" if known else ""
            told.append(f"{row['rank']:g} {row['embedding']}{facts}")
        parts.append(f"{label(recommender)}: {', '.join(told)}.")
    return "Ranks, 1 is best. " + " ".join(parts)


def curve_text(study: Study) -> str:
    """Return of every row that learned its lowest validation loss, the mean over its seeds."""
    lowest: dict[str, dict[str, list[float]]] = {}
    for run in study.runs:
        if has_losses(run):
            name = row_label(run["embedding"], run["tag"] or "")
            losses = [record["val_loss"] for record in run["log"]]
            lowest.setdefault(run["recommender"], {}).setdefault(name, []).append(min(losses))
    parts = []
    for recommender in study.recommenders:
        means = {name: float(np.mean(v)) for name, v in lowest.get(recommender, {}).items()}
        if means:
            told = [f"{name} {means[name]:.3g}" for name in sorted(means, key=means.__getitem__)]
            parts.append(f"{label(recommender)}: {', '.join(told)}.")
    return "Lowest validation loss of each row. " + " ".join(parts)


def map_text(maps: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Return the share of the variance that each map shows."""
    told = [f"{name} {shares.sum():.0%}" for name, (_, shares) in maps.items()]
    return f"The two widest axes of each embedding show of its variance: {', '.join(told)}."


def similarity_text(names: list[str], matrices: dict[str, np.ndarray]) -> str:
    """Return the most and the least alike pair of each matrix, and what noise has at most."""
    parts = []
    for title, values in matrices.items():
        pairs = {pair: values[pair] for pair in combinations(range(len(names)), 2)}
        real = {p: v for p, v in pairs.items() if not {names[p[0]], names[p[1]]} & {*WITHOUT_FILE}}
        told = []
        for word, choose in (("most alike", max), ("least alike", min)):
            if len(real) > (word == "least alike"):
                one, other = choose(real, key=real.__getitem__)
                told.append(
                    f"{word} {names[one]} and {names[other]}, {number(values[one, other], 2)}"
                )
        chance = [v for p, v in pairs.items() if p not in real]
        if chance:
            told.append(f"with noise at most {number(max(chance), 2)}")
        parts.append(f"{title}: {'; '.join(told)}.")
    return " ".join(parts)
