"""Yaml that people write: keys that stand once, no references, no nesting beyond what options need.

A key that stands twice would silently be the last one; a few lines of references (`&a`, `*a`) can
stand for billions of values.
"""

from __future__ import annotations

from collections.abc import Hashable

import yaml

DEEPEST = 20  # levels


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


def load_yaml(text: str):
    """Return the content of a yaml text.

    Raises:
        yaml.YAMLError: no yaml, a key that stands twice, a reference, or too many levels.
    """
    return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
