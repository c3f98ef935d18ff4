"""The study's table as people read it: markdown for a screen, booktabs for a paper.

Embeddings down, recommenders across. In a column the best is bold and the second best underlined
(of the embeddings; controls stand below and do not compete), letters are the groups that cannot be
told apart, and a dagger marks an embedding that does not beat its own shuffled rows.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from core.names import WITHOUT_FILE, is_published, is_shuffled, row_label
from core.registry import CONTROLS, is_chance, label


def is_control(embedding: str, tag: str) -> bool:
    """Return whether a row of the grid is there to be beaten."""
    return embedding in WITHOUT_FILE or is_shuffled(tag)


def grid(tables: dict[str, pd.DataFrame], metric: str, style: Callable, between: str) -> list[list]:
    """Return the cells of a metric's grid as texts, the heading first.

    Args:
        tables: results, groups and shuffled, as tables.py describes them.
        style: a function of (text, rank or None, letters, unbeaten) that marks a cell.
        between: what stands between a mean and its interval.
    """
    table = tables["results"]
    models = table[~table.recommender.isin(CONTROLS)]
    recommenders = list(dict.fromkeys(models.recommender))
    marks = _marks(tables, metric)
    ranks = _ranks(models, metric)
    lines = [["", "width", *map(label, recommenders)]]
    keys = sorted(
        models[["embedding", "tag"]].drop_duplicates().itertuples(index=False),
        key=lambda k: (is_control(k.embedding, k.tag), k.embedding, k.tag),
    )
    for embedding, tag in keys:
        rows = models[(models.embedding == embedding) & (models.tag == tag)]
        by_recommender = {row["recommender"]: row for _, row in rows.iterrows()}
        cells = []
        for name in recommenders:
            row = by_recommender.get(name)
            if row is None or pd.isna(row[metric]):
                cells.append("-")
                continue
            key = (name, embedding, tag)
            text = number(row, metric, between)
            cells.append(style(text, ranks.get(key), *marks.get(key, ("", False))))
        lines.append([row_label(embedding, tag), str(rows.width.iloc[0]), *cells])
    return lines


def number(row: pd.Series, metric: str, between: str) -> str:
    """Return mean and interval, and the deviation over seeds where there are several."""
    text = f"{row[metric]:.3f}{between}{row[f'{metric}_ci95']:.3f}"
    spread = row.get(f"{metric}_seed_sd")
    return text if pd.isna(spread) else f"{text} (seeds {spread:.3f})"


def _ranks(models: pd.DataFrame, metric: str) -> dict[tuple, int]:
    """Return 1 for the best and 2 for the second best embedding of each recommender."""
    controls = [is_control(*key) for key in zip(models.embedding, models.tag, strict=True)]
    real = models[~pd.Series(controls, index=models.index, dtype=bool)]
    ranks = {}
    for name, own in real.groupby("recommender"):
        if len(own) > 1:
            places = own[metric].rank(ascending=False, method="min")
            for (_, row), place in zip(own.iterrows(), places, strict=True):
                if place <= 2:
                    ranks[name, row.embedding, row.tag] = int(place)
    return ranks


def _marks(tables: dict[str, pd.DataFrame], metric: str) -> dict[tuple, tuple[str, bool]]:
    """Return {row: (letters, whether it fails to beat its shuffled rows)}.

    Rows as published are tested among themselves: their letters have a star.
    """
    found = {}
    for row in tables["groups"].itertuples():
        if row.metric == metric:
            starred = f"{row.letters}*" if is_published(row.tag) and row.letters else row.letters
            found[row.recommender, row.embedding, row.tag] = (starred, False)
    for row in tables["shuffled"].itertuples():
        if row.metric == metric:
            key = (row.recommender, row.embedding, row.tag)
            found[key] = (found.get(key, ("", False))[0], not row.beats_shuffled)
    return found


def in_markdown(text: str, rank: int | None, letters: str, unbeaten: bool) -> str:
    """Mark a cell for markdown."""
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(rank, text)
    return text + (f" {letters}" if letters else "") + (" †" if unbeaten else "")


def in_tex(text: str, rank: int | None, letters: str, unbeaten: bool) -> str:
    """Mark a cell for LaTeX."""
    text = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(rank, text)
    raised = letters.replace("'", r"\prime ").replace("*", r"\ast ")
    raised += r"\dagger" if unbeaten else ""
    return text + (rf"$^{{\mathrm{{{raised}}}}}$" if raised else "")


def controls(table: pd.DataFrame, chance: pd.DataFrame, metric: str) -> list[str]:
    """Return a sentence for each recommender without an embedding, chance exactly known."""
    lines = []
    exact = dict(zip(chance.metric, chance.chance, strict=True))
    for _, row in table[table.recommender.isin(CONTROLS)].iterrows():
        if metric not in row or pd.isna(row[metric]):
            continue
        text = f"{label(row.recommender)}{f' ({row.tag})' if row.tag else ''}: "
        text += number(row, metric, " ± ")
        if is_chance(row.recommender) and metric in exact:
            text += f"; chance is {exact[metric]:.4f}"
        lines.append(text)
    return lines


def markdown(lines: list[list[str]]) -> str:
    """Return a markdown table of the cells, the first line its heading, columns aligned."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = (
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        text.append("| " + " | ".join(cells) + " |")
    rule = "|" + "|".join(
        "-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)
    )
    return "\n".join([text[0], rule + "|", *text[1:]])


def tex(tables: dict[str, pd.DataFrame], metrics: list[str], caption: str) -> str:
    r"""Return results.tex: a table for each metric, for \input; needs booktabs."""
    parts = ["% \\usepackage{booktabs}"]
    for metric in metrics:
        head, *lines = grid(tables, metric, in_tex, r"\,$\pm$\,")
        control = tables["results"].recommender.isin(CONTROLS)
        rows = [" & ".join([escape(line[0]), *line[1:]]) for line in lines]
        rule = next(
            (
                i
                for i, line in enumerate(lines)
                if line[0].split(" (")[0] in WITHOUT_FILE or line[0].endswith("shuffled)")
            ),
            None,
        )
        if rule:
            rows[rule] = "\\midrule\n" + rows[rule]
        if control.any():
            below = controls(tables["results"], tables["chance"], metric)
            text = r"\\ ".join(escape(line).replace("±", r"$\pm$") for line in below)
            rows.append(rf"\midrule\multicolumn{{{len(head)}}}{{l}}{{\shortstack[l]{{{text}}}}}")
        parts += [
            r"\begin{table}",
            rf"\caption{{{escape(metric)} {escape(caption)} {_explained(tables, metric)}}}",
            rf"\label{{tab:{metric.lower().replace('@', '-')}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(map(escape, head)) + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    return "\n".join(parts)


def _explained(tables: dict[str, pd.DataFrame], metric: str) -> str:
    """Return what bold, underlined, raised letters and the dagger of a LaTeX table mean."""
    bold, underlined = r"\textbf{Bold}", r"\underline{underlined}"
    told = [f"{bold}: the best of a column; {underlined}: the second best; controls stand apart."]
    marks = _marks(tables, metric).values()
    if any(letters for letters, _ in marks):
        told.append(
            "Rows of a column that share a raised letter cannot be told apart (paired permutation "
            "test, Holm-corrected)."
        )
    if any(letters.endswith("*") for letters, _ in marks):
        told.append(r"$\ast$: letters of rows as published, which are tested among themselves.")
    if any(unbeaten for _, unbeaten in marks):
        told.append(
            r"$\dagger$: not significantly above the same vectors given to the wrong tracks."
        )
    return " ".join(told)


def escape(text: str) -> str:
    """Return the text with what LaTeX would take for commands escaped."""
    replaced = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(replaced.get(c, f"\\{c}" if c in "_%&#${}" else c) for c in text)
