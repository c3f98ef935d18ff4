"""Several backbones in one command: every file is decoded once for all of them.

    python -m extract_item_embeddings --root R --audio DIR --backbones musicnn,vgg_msd,mfcc
    python -m extract_item_embeddings --root R --audio DIR --backbones mert,muq --weights FOLDER

Writes embeddings/NAME.npy and NAME.json for each, as `python -m extract_item_embeddings.NAME` does
with its own defaults; what that has begun or finished counts here, and the other way round. All
models are in memory at once: on a GPU name as many as fit. With --weights, the weights of NAME are
in FOLDER/NAME.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

from core.options import InputError, option, run
from extract_item_embeddings.engine.backbone import ExtractConfig
from extract_item_embeddings.engine.found import backbone_class, backbone_names
from extract_item_embeddings.engine.jobs import Job
from extract_item_embeddings.engine.together import extract_together


@dataclass(frozen=True, kw_only=True)
class TogetherConfig(ExtractConfig):
    backbones: tuple[str, ...] = option(help="names, such as musicnn,mfcc", outcome=False)
    weights: Path | None = option(
        None, "folder of folders NAME with weights' files; auto: each from its hub", outcome=False
    )


def main(config: TogetherConfig) -> None:
    known = backbone_names()
    for name in config.backbones:
        if name not in known:
            raise InputError(f"--backbones: '{name}' is none of {', '.join(known)}")
    jobs = [prepare(name, config) for name in dict.fromkeys(config.backbones)]
    for job in jobs:
        job.backbone.pick_device(config.device)  # before the first hour is spent
    extract_together(jobs)


def prepare(name: str, config: TogetherConfig) -> Job:
    """Return the job of a backbone with its defaults and the shared options."""
    kind = backbone_class(name)
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(ExtractConfig)}
    if config.weights and "weights" in {f.name for f in dataclasses.fields(kind.config_class)}:
        options["weights"] = config.weights / name
    return Job.prepare(kind, kind.config_class(**options))


if __name__ == "__main__":
    run(main, TogetherConfig, __doc__)
