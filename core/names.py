"""How embeddings, tags and runs are called: the names become folders and rows of tables."""

from __future__ import annotations

import re

from core.options import InputError

NAME = re.compile(r"[a-z0-9_]{1,100}")  # of which several fit into a file's 255 bytes
SHUFFLED = "shuffled"  # tag of the control
PUBLISHED = "published"  # tag of what --as-published makes
TRAINED = "trained"  # tag of the study's runs whose tracks are learned as well
TUNED = "tuned"  # of runs with the options that sweep.py chose
NONE = "none"  # what stands for the embedding of a recommender that hears nothing
WITHOUT_FILE = ("random", "noise")  # embeddings that need none: learned from nothing, and fixed


def check_name(what: str, name: str) -> str:
    """Return the name of an embedding or tag, or raise InputError: it becomes a file's name."""
    if not NAME.fullmatch(name):
        shown = name if len(name) < 60 else f"{name[:57]}..."
        raise InputError(
            f"{what} '{shown}' must be lower-case letters, digits and '_' only, 100 at most"
        )
    return name


def check_new_embedding(name: str) -> str:
    """Return the name of an embedding that is to be a file; one with a meaning is refused."""
    if name in (*WITHOUT_FILE, NONE):
        raise InputError(
            f"embedding '{name}' is the name of one that has no file; choose another --name"
        )
    return check_name("embedding", name)


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


def published_tag(tag: str | None) -> str:
    """Return the tag of a row with that tag as the published code made it; one of these stays."""
    plain = plain_tag(tag)
    if plain is not None:
        return shuffled_tag(published_tag(plain))
    if tag and tag != PUBLISHED and not tag.endswith(f"_{PUBLISHED}"):
        return f"{tag}_{PUBLISHED}"
    return tag or PUBLISHED


def is_published(tag: str | None) -> bool:
    """Say whether a tag is of a row that ran what the published code did, or of its control."""
    return bool(tag) and published_tag(tag) == tag


def run_name(recommender: str, embedding: str, seed: int, tag: str | None = None) -> str:
    """Return the name of a run's folder."""
    return f"{recommender}-{embedding}{f'-{tag}' if tag else ''}-s{seed}"


def is_shuffled(tag: str | None) -> bool:
    """Say whether a tag is of the control whose vectors were given to the wrong tracks."""
    return plain_tag(tag) is not None


def unshuffled(tag: str) -> str:
    """Return the tag of the row itself, or of that which a shuffled control belongs to."""
    plain = plain_tag(tag)
    return tag if plain is None else plain


def row_label(embedding: str, tag: str) -> str:
    """Return the name of a row for people: `musicnn`, or `musicnn (shuffled)`."""
    return f"{embedding} ({tag})" if tag else embedding
