"""--as-published: all that the study's published code did, mistakes included, in one place.

Each option of a recommender's `published` in the registry is one difference between that code and
what is the default here; README's "Differences" names every one, and a test compares the two. What
the published code did and no option gives is in NOT_OFFERED, with the reason.
"""

from __future__ import annotations

from core.options import InputError, plain
from core.registry import ALL

SETS = {name: dict(each.published) for name, each in ALL.items() if each.published}
NOT_OFFERED = {
    "padding vector": "trained as an output that stands for nothing",
    "loss of an epoch": "a short last batch counts like a full one; below what is printed",
    "L2": "over frozen vectors too, which adds a constant",
    "BERT4Rec's validation users": "in the metrics as well, which then are of other users",
}


def check_unchanged(config) -> None:
    """Raise InputError where one of the options of SETS was asked to be something else."""
    fields = type(config).__dataclass_fields__
    for name, value in SETS[type(config).section].items():
        given = getattr(config, name)
        if plain(given) not in (plain(fields[name].default), plain(value)):
            flag = "--" + name.replace("_", "-")
            raise InputError(
                f"--as-published sets {flag} to {value}, got {given}; leave one of them away"
            )
