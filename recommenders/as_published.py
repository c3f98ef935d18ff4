"""--as-published: all that the study's published code did, mistakes included, in one place.

Each line is one difference between that code and what is the default here; README's "Differences"
names the option of every line, and a test compares the two. What the published code did and no
option gives is in NOT_OFFERED, with the reason.
"""

from __future__ import annotations

from core.options import InputError, plain

SETS = {
    "knn": {
        "scale": "none",  # cosines of raw vectors
    },
    "shallow": {
        "scale": "none",
        "train_tracks": True,  # a flag named freeze that trains when set
        "train_users": False,
        "negatives": "published",  # whatever is drawn, from the first 17,052 alone
        "fresh_validation": True,  # new negatives each epoch
    },
    "bert4rec": {
        "scale": "none",
        "train_tracks": True,
        "max_length": 300,
        "predict_length": 50,  # after training on 300
        "val_min_tracks": 10,
        "fresh_validation": True,  # new masks each epoch
    },
}
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
