"""Every backbone: what it gives, whose weights it needs, what it costs, and whether it runs here.

    python backbones.py --list
    python backbones.py --list --markdown        # the table of docs/extraction.md

Reads reporting/model_sizes.yaml (parameters) and extract_item_embeddings/costs.yaml (measured).

parameters  of what is run: a text side or a decoder is not counted
weights     what is fetched once
hours       for the 56,512 tracks of Music4All on the cores of this machine, without a GPU, from
            the measured seconds of one core (- where none were measured); with --markdown on two
here        whether this machine can run it now, or what is lacking
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import yaml

from core.late import options_are_read
from core.options import InputError, option, run

if options_are_read(__name__):
    from extract_item_embeddings.engine.found import backbone_class, backbone_names

HERE = Path(__file__).resolve().parent
STUDY = 56_512  # tracks
CORES = 2  # of the documentation's table
ACTIVATIONS = 3.0  # memory of a forward pass in one clip at a time, in sizes of the weights
COLUMNS = ("backbone", "width", "audio", "parameters", "licence", "weights", "hours")


@dataclass(frozen=True)
class BackbonesConfig:
    list: bool = option(False, "print the table")
    markdown: bool = option(False, "as docs/extraction.md has it, the same on every machine")


def main(config: BackbonesConfig) -> None:
    if not config.list:
        raise InputError("nothing to do; --list prints the table, see --help")
    rows = [facts(name, CORES if config.markdown else cores()) for name in backbone_names()]
    if config.markdown:
        print(markdown(rows))
        return
    lines = [(*COLUMNS, "here"), *((*row[:-1], here(row[0])) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(n) for text, n in zip(line, widths, strict=True)).rstrip())


def facts(name: str, n_cores: int) -> tuple[str, ...]:
    """Return a row: the texts of COLUMNS, then what the backbone is in one sentence."""
    kind, cost = backbone_class(name), costs().get(name) or {}
    parameters, megabytes = sizes().get(name), cost.get("megabytes")
    source = cost.get("source") or f"hub {getattr(kind, 'repository', '')}"
    hours = STUDY * cost["core_seconds"] / n_cores / 3600 if "core_seconds" in cost else None
    return (
        name,
        f"{kind.embedding_size:,}",
        f"{kind.sample_rate / 1000:g} kHz",
        f"{parameters / 1e6:,.1f} M" if parameters else "-",
        kind.licence or "-",
        f"{megabytes:,} MB, {source}" if megabytes else "-",
        "-" if hours is None else f"{hours:,.1f}" if hours < 100 else f"{hours:,.0f}",
        sys.modules[kind.__module__].__doc__.partition("\n")[0],
    )


def markdown(rows: list[tuple[str, ...]]) -> str:
    """Return the table of the documentation."""
    lines = ["| " + " | ".join((*COLUMNS, "what")) + " |", "|" + "---|" * (len(COLUMNS) + 1)]
    return "\n".join(lines + ["| " + " | ".join((f"`{row[0]}`", *row[1:])) + " |" for row in rows])


def here(name: str) -> str:
    """Say whether this machine can run the backbone now, or what is lacking."""
    kind, cost = backbone_class(name), costs().get(name) or {}
    if lacking := kind.lacking():
        return f"needs {', '.join(lacking)}"
    gigabytes = 4 * sizes().get(name, 0) * ACTIVATIONS / 1e9
    if cost.get("gpu") and not has_gpu():
        return "needs a GPU"
    if gigabytes > memory_gigabytes():
        return f"needs about {gigabytes:.0f} GB of memory"
    repository, source = getattr(kind, "repository", None), cost.get("source", "")
    by_hand = source and "wheel" not in source
    if by_hand or (repository and not is_cached(repository, kind.revision)):
        return "yes, once the weights are fetched"
    return "yes"


def is_cached(repository: str, revision: str) -> bool:
    """Say whether the hub's cache on this machine holds the repository at the revision."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot_download(repository, revision=revision, local_files_only=True)
    except (LocalEntryNotFoundError, OSError, ValueError):
        return False
    return True


def has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def memory_gigabytes() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def cores() -> int:
    return len(os.sched_getaffinity(0))


def costs() -> dict[str, dict]:
    path = HERE / "extract_item_embeddings" / "costs.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def sizes() -> dict[str, int]:
    return yaml.safe_load((HERE / "reporting" / "model_sizes.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    run(main, BackbonesConfig, __doc__)
