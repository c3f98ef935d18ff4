"""How embeddings, tags and runs are called: the names become folders and rows of tables."""

from __future__ import annotations

import re

from core.options import InputError

NAME = re.compile(r"[a-z0-9_]+")
SHUFFLED = "shuffled"  # tag of the control


def check_name(what: str, name: str) -> str:
    """Return the name of an embedding or tag, or raise InputError: it becomes a file's name."""
    if not NAME.fullmatch(name):
        raise InputError(f"{what} '{name}' must be lower-case letters, digits and '_' only")
    return name


def shuffled_tag(tag: str | None) -> str:
    """Return the tag of the shuffled control of a row with that tag."""
    if tag and tag != SHUFFLED and not tag.endswith(f"_{SHUFFLED}"):
        return f"{tag}_{SHUFFLED}"
    return tag or SHUFFLED


def plain_tag(tag: str | None) -> str | None:
    """Return the tag of the row of which `tag` is the shuffled control; None if it is of none."""
    if tag == SHUFFLED:
        return ""
    return tag.removesuffix(f"_{SHUFFLED}") if tag and tag.endswith(f"_{SHUFFLED}") else None


def run_name(recommender: str, embedding: str, seed: int, tag: str | None = None) -> str:
    """Return the name of a run's folder."""
    return f"{recommender}-{embedding}{f'-{tag}' if tag else ''}-s{seed}"
