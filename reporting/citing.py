"""How a report is cited, and of which day, code and split its numbers are."""

from __future__ import annotations

from datetime import UTC, datetime

from reporting.study import Study

STUDY = """\
@inproceedings{tamm2024comparative,
  author    = {Tamm, Yan-Martin and Aljanaki, Anna},
  title     = {Comparative Analysis of Pretrained Audio Representations in Music
               Recommender Systems},
  booktitle = {Proceedings of the 18th ACM Conference on Recommender Systems (RecSys '24)},
  year      = {2024},
  eprint    = {2409.08987},
  archiveprefix = {arXiv},
}"""


def made_from(study: Study) -> dict:
    """Return `runs`, their `split`, their `commit` ('' if they differ) and the table's `date`."""
    commits = [run["commit"] for run in study.runs if run.get("commit")]
    made = (study.root / "tables" / "results.csv").stat().st_mtime
    return {
        "runs": study.runs,
        "split": study.runs[0]["split"] if study.runs else "",
        "commit": commits[-1] if len(set(commits)) == 1 else "",
        "date": f"{datetime.fromtimestamp(made, UTC):%-d %B %Y}",
    }


def short_commit(commit: str) -> str:
    """Return its first letters; a `+`, what was not committed yet, is kept."""
    return commit[:12] + ("+" if commit.endswith("+") else "")


def bibtex(study: Study, name: str) -> str:
    """Return the entry of the study, and one of these numbers under the report's name."""
    made = made_from(study)
    note = f"{made['date']}, split {made['split'][:12]}"
    note += f", code {short_commit(made['commit'])}" if made["commit"] else ""
    own = [
        "@misc{numbers,",
        f"  title = {{{name}: a report of {len(study.runs)} runs}},",
        f"  year  = {{{made['date'][-4:]}}},",
        f"  note  = {{{note}}},",
        "}",
    ]
    return "\n".join([STUDY, *own])
