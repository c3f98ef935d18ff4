"""The pages: what the templates are given, and the folder they are written to."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.artifacts import atomic_path
from core.names import is_published, row_label
from core.registry import label
from evaluation.controls import control_kind
from evaluation.measures import HEADLINE
from reporting.citing import bibtex, made_from, short_commit
from reporting.findings import NAMED, listed, number
from reporting.study import Study
from reporting.tables import cell, column, further_tables, results_table, trained_rows

TEMPLATES = Path(__file__).resolve().parent / "templates"
LOCAL = re.compile(r"""(?<![\w.:/\\-])(?:~|[A-Za-z]:)?[/\\](?:[^/\\\s'",]+[/\\])+([^/\\\s'",]*)""")
NAME = "Audio representations for music recommenders"


def environment() -> Environment:
    """Return the templates' environment: every value is escaped, an unknown one is an error."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_index(folder: Path, study: Study, told: dict, figures: dict, facts: dict) -> Path:
    """Write index.html.

    Args:
        told: of answer.answer, by the first of the metrics.
        figures: {name: {name, width, height (of the wide image, in pixels of the page), alt}}.
        facts: metrics (names, the first is the headline's), n_map, sampled, tracks_what, factors
            (of factors.factor_table).
    """
    results = results_table(study)
    return _write(
        folder / "index.html",
        "index.html",
        page="index",
        title="Which pretrained audio representations help music recommenders?",
        answer=told,
        metric=facts["metrics"][0],
        percent=lambda value: f"{100 * value / told['limit']:.2f}%",
        number=number,
        label=label,
        facts=_facts(study),
        results=results,
        recommenders=study.recommenders,
        trained_shown=any(row["kind"] == "trained" for row in results["rows"]),
        trained_rows=trained_names(study),
        starred="groups" in study.tables and any(map(is_published, study.results.tag)),
        lettered="groups" in study.tables,
        bibtex=bibtex(study, NAME),
        further=further_tables(study),
        figures={name: figures.get(name) for name in FIGURES} | figures,
        run_table=_run_table(study),
        embedding_table=_embedding_table(study),
        synthetic=study.synthetic,
        **facts,
        **made_from(study),
    )


def trained_names(study: Study) -> str:
    """Return which rows learned their tracks' vectors too, by tag where all rows of one did."""
    trained = trained_rows(study)
    keys = zip(study.models.recommender, study.models.embedding, study.models.tag, strict=True)
    keys = [key for key in keys if not control_kind(*key)]
    named: dict[str, None] = {}
    for kind, embedding, tag in keys:
        if (kind, embedding, tag) in trained:
            whole = tag and all((r, e, t) in trained for r, e, t in keys if t == tag)
            one = f"{label(kind)} over {row_label(embedding, tag)}"
            named[f"rows marked ({tag})" if whole else one] = None
    names = list(named)
    if len(names) > NAMED:
        return f"{len(names)} rows, named in the leaderboard"
    return listed(names)


FIGURES = (
    "forest",
    *("metric-hitrate", "metric-ndcg", "significance-hitrate", "significance-ndcg"),
    *("ranks", "curves", "maps", "similarity"),
)


def write_listen(folder: Path, study: Study, data: dict, silence: str) -> Path:
    """Write listen.html.

    Args:
        data: of listening.listening_data, with `audio` (the start of every link, '' without).
        silence: why there is no audio, said where there is none.
    """
    return _write(
        folder / "listen.html",
        "listen.html",
        page="listen",
        title="Listen: " + NAME,
        data=data,
        silence=silence,
        shown=study.k,
        **made_from(study),
    )


def _write(path: Path, template: str, **values) -> Path:
    text = (
        environment().get_template(template).render(name=NAME, short_commit=short_commit, **values)
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _facts(study: Study) -> list[tuple[str, str]]:
    users = sorted({int(n) for n in study.results.users})
    keys = zip(study.results.recommender, study.results.embedding, study.results.tag, strict=True)
    represent = np.array([not control_kind(*key) for key in keys], bool)
    own = study.results[represent]  # a control has seeds of its own
    seeds = sorted({int(n) for n in (own if len(own) else study.results).seeds})
    span = " to ".join(dict.fromkeys((f"{seeds[0]}", f"{seeds[-1]}")))
    return [
        (" or ".join(f"{n:,}" for n in users), "test users"),
        (str(len(study.runs)), "runs"),
        (span, "seed each" if span == "1" else "seeds each"),
        (str(len([n for n in study.embeddings if n != "noise"])), "embeddings"),
    ]


def _run_table(study: Study) -> dict:
    columns = [column("run", False), column("recommender", False), column("representation", False),
               column("seed"), column(f"{HEADLINE[0]}@{study.k}"), column("epochs"),
               column("seconds"), column("peak MB"), column("learned"), column("device", False),
               column("not default", False)]  # fmt: skip
    rows = []
    for run in study.runs:
        kind = run["recommender"]
        metric = run["test"].get(f"{HEADLINE[0]}@{study.k}", {}).get("mean", float("nan"))
        changed = ", ".join(f"{k}={v}" for k, v in (run.get("changed") or {}).items()
                            if k != "embedding")  # fmt: skip
        epochs = f"{run['epochs']}, best {run['best_epoch']}" if "epochs" in run else "–"
        name = cell(run["folder"], config=_configuration(run))
        rows.append(
            [
                name,
                cell(label(kind)),
                cell(row_label(run["embedding"], run["tag"] or "")),
                cell(run["seed"], float(run["seed"])),
                cell(number(metric), float(metric)),
                cell(epochs, float(run.get("epochs", float("nan")))),
                _count(run.get("seconds")),
                _count(run.get("peak_memory_mb")),
                _count(run.get("parameters")),
                cell(run.get("device", "–")),
                cell(changed or "–"),
            ]
        )
    return {"id": "runs", "columns": columns, "rows": rows}


def _count(value) -> dict:
    return cell("–") if value is None else cell(f"{value:,.0f}", float(value))


def _configuration(run: dict) -> dict[str, dict]:
    """Return what a run recorded, in groups, as text."""
    facts = ("options_file", "split", "embedding_hash", "commit", "device", "width", "frozen",
             "stopped_by", "best_value")  # fmt: skip
    groups = {
        "options": run["options"],
        "versions": run.get("versions") or {},
        "made from": {key: run[key] for key in facts if run.get(key) is not None},
    }
    return {title: {k: _text(v) for k, v in values.items()} for title, values in groups.items()}


def _embedding_table(study: Study) -> dict:
    columns = [column("embedding", False), column("width"), column("tracks without a vector"),
               column("seconds"), column("device", False), column("weights", False)]  # fmt: skip
    rows = []
    for name, facts in study.embeddings.items():
        if name == "noise":
            continue
        weights = facts.get("weights") or {}
        own = {k: v for k, v in facts.items() if k not in ("versions", "weights", "failed")}
        config = {
            "facts": {k: _text(v) for k, v in own.items()},
            "weights": {k: _text(v) for k, v in weights.items()},
            "versions": {k: _text(v) for k, v in (facts.get("versions") or {}).items()},
        }
        source = weights.get("source") or weights.get("repository") or ", ".join(weights)
        rows.append(
            [
                cell(name, config=config),
                cell(f"{facts['width']:,}", float(facts["width"])),
                _count(len(facts["failed"]) if "failed" in facts else None),
                _count(facts.get("seconds")),
                cell(facts.get("device") or "–"),
                cell(_text(source or None)),
            ]
        )
    return {"id": "embeddings", "columns": columns, "rows": rows}


def _text(value) -> str:
    """Return a recorded value as text; of a path on the machine of whoever ran it only the name."""
    if isinstance(value, dict | list):
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    else:
        text = "–" if value is None else str(value)
    return LOCAL.sub(r"\1", text)
