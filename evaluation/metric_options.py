"""What options say of metrics: METRIC@k, and the lengths that lists are cut at.

Apart from measures.py, so that --help needs none of its libraries (core.late).
"""

from __future__ import annotations

import re

from core.options import InputError

LIST_LENGTH = 100  # tracks kept for each user, at most; the largest --k
KS = (10, 20, 50, 100)


def check_lengths(ks, what: str = "--k") -> None:
    """Raise InputError if a k is below 1 or beyond the length of list that is kept."""
    for k in ks:
        if not 1 <= k <= LIST_LENGTH:
            raise InputError(
                f"{what} must be between 1 and {LIST_LENGTH}, a list's length, got {k}"
            )


def check_metric(flag: str, name: str, others: tuple[str, ...] = ()) -> None:
    """Raise InputError unless the name is a metric with an @k that lists have, or another one."""
    if name in others:
        return
    from evaluation.measures import METRICS

    if not re.fullmatch(rf"({'|'.join(METRICS)})@[1-9][0-9]*", name):
        said = f"{', '.join(others)} or one of" if others else "one of"
        shown = name if len(name) < 60 else f"{name[:57]}..."
        raise InputError(f"{flag} must be {said} {', '.join(METRICS)} with @k, got '{shown}'")
    check_lengths([int(name.split("@")[1][:9])], f"{flag} METRIC@k: k")
