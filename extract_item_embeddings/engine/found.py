"""The backbones that there are: a file and a batch file of the same name beside the engine."""

from __future__ import annotations

import importlib
from pathlib import Path

from extract_item_embeddings.engine.backbone import Backbone

FOLDER = Path(__file__).resolve().parents[1]


def backbone_names() -> list[str]:
    """Return the names of all backbones, sorted."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if p.with_suffix(".sh").exists())


def backbone_class(name: str) -> type[Backbone]:
    """Return the class that the backbone's file defines."""
    module = importlib.import_module(f"extract_item_embeddings.{name}")
    kinds = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Backbone)]
    (found,) = [kind for kind in kinds if kind.__module__ == module.__name__]
    return found
