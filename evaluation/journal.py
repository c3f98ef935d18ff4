"""The tables of the extended study (journal.json), hot and cold: ours in their order, and beside.

Sections follow each other as there: a recommender, then the same over shuffled rows. A cell is the
mean, its interval over users and, where the row has a shuffled control, how much more it reaches
than that in %, with the paired interval and a dagger where it does not beat it. What is not in
their tables (recommenders added here, tags) stands after what it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from core.names import NONE, is_shuffled, row_label, unshuffled
from core.registry import CONTROLS, label
from core.registry import place as registered_place
from evaluation.grids import escape, markdown

FILE = Path(__file__).with_name("journal.json")
PARTS = {"hot": "tracks of train", "cold": "cold tracks, ranked among themselves"}
PRETRAINED = "‡ tracks were trained; cold ones, which were not, are as the audio model made them."
NUMBERS = ("", "_ci95", "_change", "_change_low", "_change_high", "_beats_shuffled")


def read_journal() -> dict:
    """Return journal.json.

    Returns:
        study, data, train, test and cold (sizes of the split), unit (of the numbers), metrics,
        backbones (theirs -> our embeddings), notes (known mistakes: part, about, text), and hot
        and cold: lists of sections with label, recommender, shuffled, tag and
        {backbone: [[mean, interval] of each metric]}.
    """
    return json.loads(FILE.read_text(encoding="utf-8"))


def journal_table(
    part: str, results: pd.DataFrame, shuffled: pd.DataFrame, pretrained: set[tuple] = frozenset()
) -> pd.DataFrame:
    """Return journal_hot.csv or journal_cold.csv: the rows in the order of their table.

    Args:
        part: hot or cold.
        results: of that part, as results.csv.
        shuffled: of that part, as shuffled.csv.
        pretrained: (recommender, embedding, tag) of rows that learned their tracks' vectors and
            rank cold ones by those of the audio model.

    Returns:
        section, recommender, embedding, tag, pretrained, seeds, users; for each metric M its M,
        M_ci95, M_change (% more than the shuffled control), M_change_low, M_change_high (paired
        bootstrap, 95 %), M_beats_shuffled; empty where there is no control. 1 is true, 0 false.
    """
    known, lines = read_journal(), []
    metrics = [name for name in known["metrics"] if name in results]
    compared = {
        (row.recommender, row.embedding, row.tag, row.metric): row for row in shuffled.itertuples()
    }
    for name, rows in _sections(known, part, results):
        for _, row in rows.iterrows():
            line = {"section": name, "recommender": row.recommender, "embedding": row.embedding}
            known_as = (row.recommender, row.embedding, row.tag)
            line |= {"tag": row.tag, "pretrained": int(known_as in pretrained)}
            line |= {"seeds": row.seeds, "users": row.users}
            for metric in metrics:
                own = compared.get((row.recommender, row.embedding, row.tag, metric))
                change = (np.nan,) * 4
                if own is not None:
                    change = (own.change, own.change_low, own.change_high, int(own.beats_shuffled))
                values = (row[metric], row[f"{metric}_ci95"], *change)
                line |= {f"{metric}{n}": v for n, v in zip(NUMBERS, values, strict=True)}
            lines.append(line)
    columns = ["section", "recommender", "embedding", "tag", "pretrained", "seeds", "users"]
    return pd.DataFrame(lines, columns=columns + [f"{m}{n}" for m in metrics for n in NUMBERS])


def _sections(known: dict, part: str, results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (label, rows of results): theirs in order, other recommenders, what hears nothing."""
    shuffled = results.tag.map(is_shuffled).astype(bool)
    tags = results.tag.map(unshuffled)
    special = {section["tag"] for section in known[part] if "tag" in section}
    backbones = [name for names in known["backbones"].values() for name in names]
    place = {name: i for i, name in enumerate(backbones)}
    listed = {section["recommender"] for section in known[part]}
    others = [name for name in results.recommender.unique() if name not in {*listed, *CONTROLS}]
    order = [*known[part]]
    for name in sorted(others, key=registered_place):
        order += [
            {"label": label(name), "recommender": name},
            {"label": f"{label(name)} Shuffle", "recommender": name, "shuffled": True},
        ]
    for name in CONTROLS:
        if name not in listed:
            order.append({"label": "Hears nothing", "recommender": name})
    for section in order:
        if "tag" in section:
            tagged = tags == section["tag"]
        else:
            tagged = ~tags.isin(special)
        own = (results.recommender == section["recommender"]) & tagged
        rows = results[own & (shuffled == section.get("shuffled", False))]
        if len(rows):
            first = rows.embedding.map(lambda name: place.get(name, len(place)))
            yield (
                section["label"],
                rows.assign(first=first).sort_values(["first", "embedding", "tag"], kind="stable"),
            )


def cells(table: pd.DataFrame, chance: dict[str, float], *, between: str, dagger: str) -> list:
    """Return the table as lines of texts, the heading first; a section's name is a line of one.

    Args:
        table: as journal_table returns it.
        chance: of each metric, exactly.
        between: what stands between a mean and its interval.
        dagger: the mark of what does not beat its shuffled rows.
    """
    metrics = [name for name in table if "@" in name and name.split("@")[1].isdecimal()]
    lines: list[list[str]] = [["", *metrics]]
    for name, rows in table.groupby("section", sort=False):
        lines.append([name])
        for _, row in rows.iterrows():
            mine = row_label(row.embedding, row.tag)
            if row.embedding == NONE:
                mine = row_label(label(row.recommender), row.tag)
            mine += " ‡" if row.pretrained else ""
            lines.append([mine, *(_cell(row, metric, between, dagger) for metric in metrics)])
    if chance:
        lines += [["Chance"], ["random lists, exactly", *(f"{chance[m]:.4f}" for m in metrics)]]
    return lines


def _cell(row: pd.Series, metric: str, between: str, dagger: str) -> str:
    text = f"{row[metric]:.4f}{between}{row[f'{metric}_ci95']:.4f}"
    change = row[f"{metric}_change"]
    if not np.isfinite(change):
        return text
    low, high = row[f"{metric}_change_low"], row[f"{metric}_change_high"]
    mark = "" if row[f"{metric}_beats_shuffled"] else f" {dagger}"
    return f"{text} ({change:+.0f} % [{low:+.0f}, {high:+.0f}]){mark}"


def in_markdown(table: pd.DataFrame, part: str, chance: dict[str, float]) -> str:
    """Return journal_hot.md or journal_cold.md."""
    lines = cells(table, chance, between=" ± ", dagger="†")
    width = len(lines[0])
    grid = [line if len(line) > 1 else [f"**{line[0]}**", *[""] * (width - 1)] for line in lines]
    return "\n".join(
        [
            f"{part.capitalize()}: {PARTS[part]}; mean ± 95 % interval over users",
            "(more than the same recommender over shuffled rows, in %, with the paired 95 %",
            "interval; † does not beat it).",
            "",
            markdown(grid),
            "",
            *([PRETRAINED, ""] if table.pretrained.any() else []),
        ]
    )


def in_tex(table: pd.DataFrame, part: str, chance: dict[str, float], caption: str) -> str:
    r"""Return journal_hot.tex or journal_cold.tex: a longtable, for \input; needs booktabs."""
    lines = cells(table, chance, between="±", dagger="†")
    width = len(lines[0])
    rows = []
    for line in lines[1:]:
        if len(line) == 1:
            rows.append(rf"\midrule\multicolumn{{{width}}}{{l}}{{\emph{{{escape(line[0])}}}}}")
        else:
            texts = [escape(text) for text in line]
            text = " & ".join(texts).replace("±", r"\,$\pm$\,").replace("†", r"$\dagger$")
            rows.append(text.replace("‡", r"$\ddagger$"))
    return "\n".join(
        [
            "% \\usepackage{booktabs,longtable}",
            rf"\begin{{longtable}}{{l{'r' * (width - 1)}}}",
            rf"\caption{{{escape(f'{part.capitalize()} lists ({PARTS[part]}) {caption}')}}}\\",
            r"\toprule",
            " & ".join(map(escape, lines[0])) + r" \\",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{longtable}",
            "",
        ]
    )


def compare_page(ours: dict[str, pd.DataFrame], data: str, same: bool) -> str:
    """Return compare_published.md of the extended study: theirs and ours, side by side.

    Args:
        ours: hot and cold, as journal_table returns them; a part that is not there has no rows.
        data: what ours was measured on.
        same: it is their split.
    """
    known = read_journal()
    lines = [
        "# Ours beside the extended study's numbers",
        "",
        f"- Published: {known['study']}, on {known['data']}.",
        f"- Ours: on {data}.",
        "",
    ]
    if not same:
        lines += ["**Different data: the two cannot be compared.**", ""]
    lines += ["Letters are the notes at the end, on what is known of the published numbers.", ""]
    for part, what in PARTS.items():
        lines += [f"## {part.capitalize()}: {what}", ""]
        lines += [markdown(_beside(known, part, ours.get(part))), ""]
    lines += ["## Notes", ""]
    lines += [f"- {_mark(i)}: {note['text']}" for i, note in enumerate(known["notes"])]
    return "\n".join([*lines, ""])


def _mark(place: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[place]


def _beside(known: dict, part: str, ours: pd.DataFrame | None) -> list[list[str]]:
    """Return a line for each published row and each of our rows of it, the heading first."""
    metrics = known["metrics"]
    heads = [f"{metric}, {whose}" for metric in metrics for whose in ("theirs", "ours")]
    lines = [["", "backbone", *heads, "our row"]]
    whole = "".join(
        _mark(i) for i, n in enumerate(known["notes"]) if not n["about"] and n["part"] in ("", part)
    )
    for section in known[part]:
        for backbone, numbers in section["numbers"].items():
            about = {section["recommender"], backbone, f"tag {section.get('tag')}"}
            marks = "".join(
                _mark(i)
                for i, note in enumerate(known["notes"])
                if note["part"] in ("", part) and about & set(note["about"])
            )
            head = [f"{section['label']} [{marks + whole}]", backbone]
            theirs = [_theirs(pair, known["unit"]) for pair in numbers]
            names = known["backbones"].get(backbone, [backbone])
            mine = [] if ours is None else ours[ours.section == section["label"]]
            rows = [] if ours is None else [r for _, r in mine.iterrows() if r.embedding in names]
            for row in rows or [None]:
                cells = []
                for metric, their in zip(metrics, theirs, strict=True):
                    some = row is not None and f"{metric}_ci95" in row
                    own = f"{row[metric]:.4f} ± {row[f'{metric}_ci95']:.4f}" if some else "-"
                    cells += [their, own]
                named = "-" if row is None else row_label(row.embedding, row.tag)
                lines.append([*head, *cells, named])
    return lines


def _theirs(pair: list[int], unit: float) -> str:
    mean, *interval = (f"{unit * number:.4f}" for number in pair)
    return " ± ".join([mean, *interval])
