"""Bring the weights of one backbone to this machine, as its extraction would: for jobs offline.

    python -m study.weights --backbone mert

Reads   the hub, or its cache (HF_HOME), or the folder that the backbone asks for
Writes  that cache

`run_all.sh --fetch` calls it for every embedding of a study that is not extracted yet.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from core.options import InputError, option, parse_config, run


@dataclass(frozen=True)
class WeightsConfig:
    backbone: str = option(help="file of extract_item_embeddings/, without .py")
    weights: Path | None = option(None, "folder of its weights; auto: the hub's")


def main(config: WeightsConfig) -> None:
    try:
        module = importlib.import_module(f"extract_item_embeddings.{config.backbone}")
    except ModuleNotFoundError as error:
        raise InputError(f"--backbone {config.backbone} cannot be loaded: {error}") from error
    found = fetch(backbone_of(module), config.weights)
    print(f"{config.backbone}: {found}", flush=True)


def backbone_of(module) -> type:
    """Return the backbone that a module is for: the class with its name."""
    name = module.__name__.rpartition(".")[2]
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__dict__.get("name") == name
    )


def fetch(backbone_class, folder: Path | None = None) -> str:
    """Return where the weights are from, once they are here; errors are the extraction's own.

    Args:
        folder: of the weights, where they are not the hub's.
    """
    own = ["--weights", str(folder)] if folder else []
    config = parse_config(backbone_class.config_class, "", ["--audio", ".", *own])
    weights = backbone_class.from_config(config).weights()
    if not weights:
        return "needs no weights"
    at = f" at {weights['revision']}" if "revision" in weights else ""
    return f"weights of {weights.get('source', 'its own')}{at} are here"


if __name__ == "__main__":
    run(main, WeightsConfig, __doc__)
