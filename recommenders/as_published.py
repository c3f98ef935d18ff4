"""--as-published: all that the study's published code did, mistakes included, in one place.

differences.yaml is that place: what that code did, what is done here, and the options that
--as-published sets for it. SETS and AUDIO are read from it, and README's table is it.
"""

from __future__ import annotations

from pathlib import Path

from core.options import InputError, plain
from core.registry import short_label
from core.yamls import load_yaml

FILE = Path(__file__).with_name("differences.yaml")
DIFFERENCES = load_yaml(FILE.read_text(encoding="utf-8"))
HEAD = "| | published code | here | the published behaviour |"

SETS: dict[str, dict] = {}  # of each recommender, its options and their values
for _each in DIFFERENCES:
    for _name, _options in _each.get("sets", {}).items():
        SETS.setdefault(_name, {}).update(_options)
AUDIO = tuple(dict.fromkeys(name for each in DIFFERENCES for name in each.get("audio", ())))


def check_unchanged(config) -> None:
    """Raise InputError where one of the options of SETS was asked to be something else.

    So too of a recommender that the study does not have.
    """
    section, fields = type(config).section, type(config).__dataclass_fields__
    if section not in SETS:
        raise InputError(f"--as-published: the study's code has no {section}; leave it away")
    for name, value in SETS[section].items():
        given = getattr(config, name)
        if plain(given) not in (plain(fields[name].default), plain(value)):
            flag = "--" + name.replace("_", "-")
            raise InputError(
                f"--as-published sets {flag} to {value}, got {given}; leave one of them away"
            )


def embedding_as_published(name: str) -> str:
    """Return the embedding that stands for a backbone when all is as published."""
    return f"{name}_published" if name in AUDIO else name


def readme_table() -> list[str]:
    """Return the lines of README's table of differences."""
    rows = [(each["what"], each["published"], each["here"], _how(each)) for each in DIFFERENCES]
    return [HEAD, "|---|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows)]


def _how(difference: dict) -> str:
    """Return how the published behaviour is had: flags, of whom, and what else is to be said."""
    whose: dict[str, list[str]] = {}
    for name, options in difference.get("sets", {}).items():
        for option, value in options.items():
            flag = f"`--{option.replace('_', '-')} {str(value).lower()}`"
            whose.setdefault(flag, []).append(name)
    by_names: dict[tuple[str, ...], list[str]] = {}
    for flag, names in whose.items():
        by_names.setdefault(tuple(names), []).append(flag)
    one = len(by_names) == 1
    parts = [
        ("" if one else " and ".join(map(short_label, names)) + " ") + ", ".join(flags)
        for names, flags in by_names.items()
    ]
    audio = difference.get("audio", ())
    parts += [", ".join(f"`{name} --as-published`" for name in audio)] if audio else []
    return ", ".join(filter(None, ("; ".join(parts), difference.get("also", ""))))
