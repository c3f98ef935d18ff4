"""Which rows are controls, there to be beaten: one answer for tables, figures, cards and words."""

from __future__ import annotations

from core.names import WITHOUT_FILE, is_shuffled
from core.registry import CONTROLS

OF_ARTISTS = ("_artist_mean", "_artist_shuffle")  # what artist_controls.py makes of an embedding


def knows_no_sound(embedding: str) -> bool:
    """Say whether vectors are noise, or learned from nothing: what helps has to beat them."""
    return embedding in WITHOUT_FILE


def control_kind(recommender: str, embedding: str, tag: str) -> str:
    """Return what a row is a control of, in words; '' for a representation that is compared."""
    if recommender in CONTROLS:
        return "hears nothing"
    if is_shuffled(tag):
        return "shuffled control"
    if knows_no_sound(embedding):
        return "random control"
    return "artist control" if embedding.endswith(OF_ARTISTS) else ""


def is_control(row: tuple[str, str]) -> bool:
    """Say whether a row (embedding, tag) of a recommender that ranks by vectors is a control."""
    return bool(control_kind("", *row))
