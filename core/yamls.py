"""Yaml that people write: keys that stand once, no references, no nesting beyond what options need.

A key that stands twice would silently be the last one; a few lines of references (`&a`, `*a`) can
stand for billions of values.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable

import yaml

DEEPEST = 20  # levels
SEALED = "# sealed:"
MOST = 2**63  # whole numbers from here on are none that an array holds
PLAIN = "text, finite numbers below 2^63, true, false and null"


class _Loader(yaml.SafeLoader):
    """Refuses what the module docstring says; its errors are yaml.YAMLError and name the line."""

    depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, f"references such as '*{event.anchor}' are not taken", event.start_mark
            )
        if self.depth >= DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, f"more than {DEEPEST} levels inside each other", event.start_mark
            )
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, Hashable) and name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{name}' stands twice", key.start_mark
                )
            if isinstance(name, Hashable):
                seen.add(name)
        return super().construct_mapping(node, deep)


def is_plain(value) -> bool:
    """Say whether a value is PLAIN; dates, NaN and what holds others are not."""
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) < MOST
    return value is None or isinstance(value, str)


def dump_sealed(content) -> str:
    """Return the content as yaml whose first line, a comment, is the fingerprint of the others."""
    text = yaml.safe_dump(content, sort_keys=False)
    return f"{SEALED} {hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def load_yaml(text: str):
    """Return the content of a yaml text.

    Raises:
        yaml.YAMLError: no yaml, a key that stands twice, a reference, too many levels, or not what
            dump_sealed returned.
    """
    if text.startswith(SEALED):
        first, _, rest = text.partition("\n")
        if first != f"{SEALED} {hashlib.sha256(rest.encode()).hexdigest()}":
            raise yaml.YAMLError(
                "it is not what was written, it was damaged or edited; make it again, or remove "
                "its first line if the edit is meant"
            )
    return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
