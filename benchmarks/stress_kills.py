"""Which stages stress_files kills at each of their renames and removals, and what comes after.

Every stage here replaces what a finished root holds: by --overwrite, with other options, so that
old and new can be told apart. After each kill each later stage must end with an error, or with the
numbers of before or of afterwards; and the same command again must end as if undisturbed.

Killed elsewhere: downloads, which have threads (tests/open_data/test_get_data.py), extractions
(stress_extraction.py, tests/extract_item_embeddings), the record of Slurm jobs
(tests/study/test_submission.py). A file that is written alone, as robustness.json, has one rename,
which is core.artifacts' (tests/core/test_artifacts.py).
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stress_root import (
    AGAINST_ROOT,
    ARTISTS,
    BLEND,
    COLLECT,
    DATES,
    EXPORT,
    KNN,
    LOG,
    METRICS,
    NEW,
    REPORT,
    ROBUST,
    SAMPLE,
    SPACE,
    SPLIT,
    STAGE_0,
    STAGE_1,
    TABLE,
    TABLE_OF,
    TABLES,
    Reader,
    Stage,
    files,
)

NOISE = ("--embedding", "noise", "--width", "8", "--epochs", "2", "--device", "cpu")
FASTER = ("--overwrite", "--learning-rate", "0.01")


@dataclass(frozen=True)
class Kill:
    """A stage to kill.

    Attributes:
        stage: that is killed.
        later: stages that read what it writes, by name.
        first: that makes what is replaced, where the root has none.
        record: the file that says "complete" of a run or search; without it, the later stages
            leave it out, which is right as well.
    """

    stage: Stage
    later: dict[str, Stage | Reader]
    first: Stage | None = None
    record: str = ""

    def prepared(self, root: Path) -> Path:
        """Bring a copy of the root to where the stage begins."""
        if self.first:
            self.first(root)
        return root


def trained(script: str, run: str, *flags) -> Kill:
    """Return the kill of a training that is made again with another learning rate."""
    answer = files(f"{run}/*.pqt", f"{run}/metrics.json")
    again = Stage("metrics", ("--run", Path(run).name), answer)
    stage = Stage(script, (*flags, *FASTER), answer)
    return Kill(
        stage,
        {"METRICS": again, "TABLE": TABLE},
        Stage(script, flags, answer),
        record=f"{run}/metrics.json",
    )


def other(stage: Stage, *flags) -> Stage:
    return Stage(stage.script, (*stage.flags, *flags), stage.answer)


AFTER = {"NEW": NEW, "METRICS": METRICS, "TABLE": TABLE, "REPORT": TABLES}
SAID_OF_RUN = files("runs/blend*/*.pqt", "runs/blend*/m*")
ON_ARTISTS = Stage("knn", ("--embedding", "toy_artist_mean"), files("runs/knn-toy_artist*/*.pqt"))
POPULAR = "runs/popular-none-s1"
CONTROL = Path(POPULAR).name.partition("-")[0]
PAGE = files("report/report.json", "report/data/*.csv")
KILLED = {
    "stage 0": Kill(Stage("0_get_plays_pqt", (*LOG, "--overwrite"), STAGE_0.answer),
                    {**AFTER, "SPLIT": SPLIT, "EXPORT": EXPORT}),
    "stage 1": Kill(
        Stage("1_train_test_split", (*DATES, "--seed", 7, "--overwrite"), STAGE_1.answer),
        {**AFTER, "BLEND": BLEND},
    ),
    "knn": Kill(
        Stage("knn", ("--embedding", "toy", "--scale", "rms", "--overwrite"),
              files(f"{KNN}/*.pqt", f"{KNN}/*.json")),
        {**AFTER, "BLEND": BLEND},
        record=f"{KNN}/metrics.json",
    ),
    "train": trained("train", "runs/shallow-noise-s1", *NOISE),
    "train_bert": trained("train_bert", "runs/bert4rec-noise-s1", *NOISE),
    "train_elsa": trained("train_elsa", "runs/elsa-none-s1", *NOISE[4:]),
    "train_hybrid": trained("train_hybrid", "runs/hybrid-noise-s1", *NOISE),
    "baselines": Kill(
        Stage("baselines", ("--only", CONTROL, "--overwrite"), files(f"{POPULAR}/*.pqt")),
        {"BLEND": BLEND, "TABLE": TABLE},
        record=f"{POPULAR}/metrics.json",
    ),
    "metrics": Kill(other(METRICS, "--k", "7"), AFTER),
    "blend": Kill(other(BLEND, "--overwrite"), {"TABLE": TABLE}, BLEND,
                  record="runs/blend-toy-knn_popular-s1/metrics.json"),
    "table": Kill(other(TABLE, "--runs", "knn-toy-*"),
                  {**AFTER, "AGAINST": AGAINST_ROOT, "PAGE": REPORT}),
    "report": Kill(
        Stage("report", ("--neighbours", "drawn", "--seed", "3", "--overwrite"), PAGE),
        {"AGAINST": Reader("report", AGAINST_ROOT.read)},
        Stage("report", ("--neighbours", "drawn"), PAGE),
    ),
    "sweep": Kill(  # its table holds seconds, which are others each time
        Stage("sweep", (*SPACE, "--trials", "1", "--final-seeds", "none", "--overwrite"),
              files("searches/*/chosen.yaml")),
        {"COLLECT": COLLECT, "REPORT": TABLES},
        record="searches/knn-noise/search.json",
    ),
    "import": Kill(
        Stage("import_embedding", (*TABLE_OF, "toy", "--overwrite"), files("embeddings/toy.npy")),
        {"NEW": NEW, "ROBUST": ROBUST, "ARTISTS": ARTISTS},
    ),
    "artist_controls": Kill(other(ARTISTS, "--seed", "2"), {"KNN": ON_ARTISTS}, ARTISTS),
    "make_sample": Kill(other(SAMPLE, "--seed", "1", "--overwrite"), {}),
}  # fmt: skip


def moments(kill: Kill, root: Path, work: Path, steps, killed: type) -> Iterator[tuple[int, Path]]:
    """Yield (n, root of which the stage was killed before its n-th step), to the stage's end."""
    for n in itertools.count():
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(root, work)
        with steps(n):
            try:
                kill.stage(work)
                return
            except killed:
                pass
        yield n, work
