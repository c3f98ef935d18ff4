"""What the report says in words beside its numbers: what a reader can repeat, and how sure it is.

Each part is a title and sentences made from the tables alone. What was not run is not spoken of.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.artifacts import read_json
from core.names import PUBLISHED, is_published, row_label
from core.registry import CONTROLS, label, short_label
from evaluation.comparisons import ALPHA
from evaluation.controls import control_kind
from evaluation.words import certainty, leading, warm_up
from reporting.findings import listed, number
from reporting.similarity import linear_cka
from reporting.study import Study

PERTURBED = {
    "offset15": "another part of the track",
    "mp3_64": "mp3 at 64 kbit/s",
    "pitch+1": "a semitone up",
    "noise20": "noise 20 dB below",
    "lowpass": "nothing above 4 kHz",
}


def in_words(study: Study, metric: str, rows: np.ndarray) -> list[tuple[str, list[str]]]:
    """Return (title, sentences) of each question that the study answers.

    Args:
        metric: of the sentences, such as NDCG@50.
        rows: track_idx of a sample, for how alike embeddings are.
    """
    parts = [
        ("In which unit", unit(study)),
        ("For whom", for_whom(study, metric)),
        ("Up to how many plays of a track", up_to_how_many_plays(study)),
        ("Sound, or who plays", beyond_the_artist(study, metric)),
        ("What sound adds to listening", adds(study, metric)),
        ("Two representations together", together(study, metric, rows)),
        ("The same music in another state", robust(study)),
        ("At what cost", cost(study)),
        ("How sure", sure(study, metric)),
    ]
    return [(title, sentences) for title, sentences in parts if sentences]


def unit(study: Study) -> list[str]:
    """Say in which unit vectors were compared, and which rows are as published."""
    own = [run for run in study.runs if "scale" in run["options"]]
    usual = [run for run in own if not is_published(run["tag"])]
    scales = {run["options"]["scale"] for run in usual}
    said = []
    if scales == {"none"}:
        said.append("Vectors were compared as the audio models wrote them, so that a row's place "
                    "may be its unit's.")  # fmt: skip
    elif scales and "none" not in scales:
        said.append(f"Before any recommender saw them, vectors were brought to one unit "
                    f"({listed(sorted(scales))}), so that no row's place is its "
                    "unit's.")  # fmt: skip
    elif scales:
        said.append(f"Rows differ in the unit of their vectors ({listed(sorted(scales))}).")
    if len(usual) < len(own):
        said.append("Rows tagged published repeat all that the study's code did, mistakes "
                    "included; they are tested against each other only.")  # fmt: skip
    return said


def for_whom(study: Study, metric: str) -> list[str]:
    """Say how the leader of each recommender serves users and artists of each kind."""
    table = study.tables.get("segments")
    if table is None or metric not in table:
        return []
    said = []
    for row in _leaders(study, metric):
        own = table[_is_row(table, row)]
        for by, groups in (
            ("activity", {"head": "the most active users", "tail": "the least active"}),
            ("artist", {"user": "held-out tracks of artists that the user knows",
                        "new": "those of artists that train does not know"}),
        ):  # fmt: skip
            means = own[own.by == by].set_index("group")[metric]
            found = [f"{number(means[g])} for {what}" for g, what in groups.items() if g in means]
            if len(found) == len(groups):
                said.append(f"{_name(row)} has {metric} {listed(found)}.")
    return said


def up_to_how_many_plays(study: Study) -> list[str]:
    """Say up to how many plays of a track its sound says more than listening."""
    table = study.tables.get("crossings")
    return [] if table is None else [warm_up(row) for row in leading(table, study.results)]


def beyond_the_artist(study: Study, metric: str) -> list[str]:
    """Say what each representation gains over its artists' means."""
    said = []
    for pair in _pairs(study, metric):
        for one, other, sign in (("a", "b", 1), ("b", "a", -1)):
            name, tag = pair[f"embedding_{one}"], pair[f"tag_{one}"]
            means = f"{name}_artist_mean", tag
            if (pair[f"embedding_{other}"], pair[f"tag_{other}"]) != means:
                continue
            name, found = row_label(name, tag), _gain(pair, sign)
            more = pair["p_holm"] < ALPHA and sign * pair["difference"] > 0
            tail = "it says more than who plays" if more else "no more than who plays is shown"
            said.append(f"{label(pair['recommender'])}: {name} {found} over the means of its "
                        f"artists; {tail}.")  # fmt: skip
    return said


def adds(study: Study, metric: str) -> list[str]:
    """Say what a blend gains over the same blend of shuffled vectors, the only gain that counts."""
    table = study.tables.get("shuffled")
    if table is None or not len(table):
        return []
    said = []
    own = table[(table.recommender == "blend") & (table.metric == metric)]
    for row in own.to_dict("records"):
        parts = _blended(row["tag"])
        verdict = "sound adds" if row["beats_shuffled"] else "that sound adds is not shown"
        said.append(f"{parts} blended, over {row['embedding']}: {_gain(row, 1)} over the same "
                    f"blend of shuffled vectors; {verdict}.")  # fmt: skip
    return said


def together(study: Study, metric: str, rows: np.ndarray) -> list[str]:
    """Say what A+B gains over the better of both, and how alike the two are.

    Over one of them where the other was not run.
    """
    found: dict[tuple, list[tuple]] = {}
    for pair in _pairs(study, metric):
        for one, other, sign in (("a", "b", 1), ("b", "a", -1)):
            parts = pair[f"embedding_{one}"].split("+")
            if len(parts) != 2 or pair[f"embedding_{other}"] not in parts:
                continue
            if pair["tag_a"] != pair["tag_b"]:
                continue  # trained against frozen is another question
            key = pair["recommender"], pair[f"embedding_{one}"], pair[f"tag_{one}"]
            line = sign * pair["difference"], pair[f"embedding_{other}"], pair, sign
            found.setdefault(key, []).append(line)
    said, alike, gains = [], [], []
    for (recommender, name, tag), lines in found.items():
        gain, best, pair, sign = min(lines, key=lambda line: line[:2])  # the better one gains less
        better = ", the better of both" if len(lines) == 2 else ""
        cka = None
        if all(part in study.embeddings for part in name.split("+")):
            cka = linear_cka(*(study.vectors(part, rows) for part in name.split("+")))
            alike.append(cka)
            gains.append(gain)
        how = "" if cka is None else f"; the two are alike by {number(cka, 2)} (linear CKA)"
        said.append(f"{label(recommender)}: {row_label(name, tag)} {_gain(pair, sign)} over "
                    f"{row_label(best, tag)} alone{better}{how}.")  # fmt: skip
    if len(set(alike)) >= 3:
        ranks = pd.Series(alike).corr(pd.Series(gains), method="spearman")
        said.append(f"Over these {len(alike)} lines the rank correlation of gain and likeness is "
                    f"{number(ranks, 2)}.")  # fmt: skip
    return said


def robust(study: Study) -> list[str]:
    """Say what perturbations of the sound leave of neighbours and lists (robustness.py)."""
    path = study.root / "robustness.json"
    if not path.exists():
        return []
    made = read_json(path, "python robustness.py", ("rows", "metric", "k"))
    by_name: dict[str, list[str]] = {}
    for row in made["rows"]:
        loss = f"loses {number(row['loss'])} ({number(row['low'])} to {number(row['high'])})"
        by_name.setdefault(row["embedding"], []).append(
            f"{PERTURBED.get(row['perturb'], row['perturb'])}: {100 * row['neighbours']:.0f} % of "
            f"neighbours and {100 * row['lists']:.0f} % of lists stay, {made['metric']} {loss}"
        )
    return [f"{name}: {'; '.join(lines)}." for name, lines in by_name.items()]


def cost(study: Study) -> list[str]:
    """Say how long the tracks of each representation took, where its json tells."""
    found = []
    for name, facts in study.embeddings.items():
        seconds, tracks = facts.get("seconds"), facts.get("n_tracks")
        if seconds and tracks:
            found.append(f"{name} {1000 * seconds / tracks:,.0f} s on {facts.get('device', '?')}, "
                         f"{facts['width']:,} numbers a track")  # fmt: skip
    return [f"A thousand tracks took: {'; '.join(found)}."] if found else []


def sure(study: Study, metric: str) -> list[str]:
    """Say what letters hold for, and which differences would have been found."""
    table = study.tables.get("comparisons")
    if table is None or not len(table) or "detectable" not in table:
        return []
    return certainty(table, [metric])


def _blended(tag: str) -> str:
    """Return `KNN and EASE` of the tag that blend.py gives."""
    tag = tag.removesuffix(f"_{PUBLISHED}")
    hears_nothing = next((name for name in CONTROLS if tag.endswith(f"_{name}")), "")
    heard = tag.removesuffix(f"_{hears_nothing}")
    return listed([short_label(name) for name in (heard, hears_nothing) if name])


def _gain(row: dict, sign: int) -> str:
    """Return `gains .030 (95 % interval .010 to .050)`, from the first's side if sign is 1."""
    ends = sorted((sign * row["ci_low"], sign * row["ci_high"]))
    difference = sign * row["difference"]
    return f"gains {number(difference)} (95 % interval {number(ends[0])} to {number(ends[1])})"


def _pairs(study: Study, metric: str) -> list[dict]:
    table = study.tables.get("comparisons")
    return [] if table is None else table[table.metric == metric].to_dict("records")


def _leaders(study: Study, metric: str) -> list[dict]:
    """Return the best representation of each recommender, published ones left out."""
    models = study.models.dropna(subset=metric)
    keys = zip(models.recommender, models.embedding, models.tag, strict=True)
    own = [not (control_kind(*key) or is_published(key[2])) for key in keys]
    models = models[np.array(own, dtype=bool)]  # an empty list would be one of columns
    best = models.sort_values(metric).groupby("recommender", sort=False).tail(1)
    return best.sort_index().to_dict("records")


def _is_row(table: pd.DataFrame, row: dict) -> pd.Series:
    keys = ("recommender", "embedding", "tag")
    return np.logical_and.reduce([table[key] == row[key] for key in keys])


def _name(row: dict) -> str:
    return f"{label(row['recommender'])} over {row_label(row['embedding'], row['tag'])}"
