"""Every recommender, once: what the rest of the project has to know of it stands here.

The options' sections, the search, the study's plan, its Slurm jobs, the tables, the report and the
benchmarks read this list; nothing else knows a recommender by name, but its own script. So a new
one is a script and a line here (docs/adding.md). It lies in the lowest room because the options
of every script read it, and it imports nothing, so that a shell can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Recommender:
    """One recommender.

    Attributes:
        name: of runs, sections of yaml files, rows of tables.
        label: for people, in tables and figures.
        script: at the project's top, with `section` NAME in its options.
        batch: Slurm file; stage.sh takes any script, one of its own states what it needs.
        options_file: yaml at the project's top that people edit, read before --config and flags.
        hears: ranks by an embedding's vectors, so it is compared; else it is a control.
        learns: has epochs (training.fit_options), a job a seed, and the study's --config.
        trains_tracks: --train-tracks true learns the tracks' vectors as well.
        from_nothing: takes the embedding `random`, vectors that are learned from nothing.
        ranks_cold: ranks tracks that train does not know, by their vectors.
        learns_from: controls by default whose runs its training reads.
        made_by: another recommender whose command makes this one's runs as well.
        shuffled: the study makes its shuffled control of each embedding, unless asked otherwise.
        by_default: the study runs it, unless asked otherwise.
        space: what a sweep varies where search.yaml has no section of that name, in its syntax.
        short: label where there is little room; default: the label.
        dashes: matplotlib's pattern of a control's line in figures; None: no line is drawn.
        wants_gpu: hours at the study's size without one, so that it is run there only if asked for.
        is_chance: its lists are random, so that chance is what it is expected to reach.
    """

    name: str
    label: str
    script: str
    batch: str = "stage.sh"
    options_file: str | None = None
    hears: bool = True
    learns: bool = False
    trains_tracks: bool = False
    from_nothing: bool = False
    ranks_cold: bool = True
    learns_from: tuple[str, ...] = ()
    made_by: str = ""
    shuffled: bool = True
    by_default: bool = True
    space: Mapping = field(default_factory=dict)
    short: str = ""
    dashes: tuple | None = None
    wants_gpu: bool = False
    is_chance: bool = False


LISTED = (
    Recommender(
        name="knn",
        label="KNN",
        script="knn.py",
        batch="knn.sh",
    ),
    Recommender(
        name="shallow",
        label="Shallow Net",
        script="train.py",
        batch="train.sh",
        options_file="model.yaml",
        learns=True,
        trains_tracks=True,
        from_nothing=True,
    ),
    Recommender(
        name="bert4rec",
        label="BERT4Rec",
        script="train_bert.py",
        batch="train_bert.sh",
        options_file="bert4rec.yaml",
        learns=True,
        trains_tracks=True,
        from_nothing=True,
        wants_gpu=True,
        shuffled=False,  # a third of the sample study's time
    ),
    Recommender(
        name="bimodal_collaborative",
        label="Bimodal Collaborative",
        short="Bimodal Collab.",
        script="train_bimodal.py",
        made_by="bimodal_average",
        ranks_cold=False,
        by_default=False,
    ),
    Recommender(
        name="bimodal_average",
        label="Bimodal Average",
        script="train_bimodal.py",
        batch="train_bimodal.sh",
        options_file="bimodal.yaml",
        learns=True,
        learns_from=("elsa",),
        ranks_cold=False,
        by_default=False,
    ),
    Recommender(
        name="bimodal_content",
        label="Bimodal Content",
        script="train_bimodal.py",
        made_by="bimodal_average",
        by_default=False,
    ),
    Recommender(
        name="hybrid",
        label="Hybrid",
        script="train_hybrid.py",
        batch="train_hybrid.sh",
        options_file="hybrid.yaml",
        learns=True,
        by_default=False,
    ),
    Recommender(
        name="elsa",
        label="ELSA, which hears nothing",
        short="ELSA",
        script="train_elsa.py",
        batch="train_elsa.sh",
        options_file="elsa.yaml",
        hears=False,
        learns=True,
        dashes=(0, (8, 2, 1, 2, 1, 2)),
    ),
    Recommender(
        name="ease",
        label="EASE, which hears nothing",
        short="EASE",
        script="baselines.py",
        hears=False,
        dashes=(0, (8, 2, 1, 2)),
    ),
    Recommender(
        name="popular",
        label="most popular tracks",
        short="most popular",
        script="baselines.py",
        hears=False,
        dashes=(0, (4, 2)),
    ),
    Recommender(
        name="random_lists",
        label="random lists",
        script="baselines.py",
        hears=False,
        is_chance=True,
    ),
)
ALL = {each.name: each for each in LISTED}  # in the order of every table
RECOMMENDERS = {name: each for name, each in ALL.items() if each.hears}
CONTROLS = {name: each for name, each in ALL.items() if not each.hears}


def label(name: str) -> str:
    """Return the label of a recommender; of one that is not listed its name."""
    return ALL[name].label if name in ALL else name


def short_label(name: str) -> str:
    """Return the label where there is little room."""
    return (ALL[name].short if name in ALL else "") or label(name)


def is_chance(name: str) -> bool:
    """Say whether a recommender's lists are random."""
    return name in ALL and ALL[name].is_chance


def place(name: str) -> int:
    """Return the recommender's place in tables: as listed, one of one's own before the controls."""
    order = [*RECOMMENDERS, *CONTROLS]
    return order.index(name) if name in order else len(RECOMMENDERS)
