"""Stages 0 and 1 go without pandas, which pyarrow loads where it finds it."""

from __future__ import annotations

import sys


class _NoPandas:
    """An import hook that knows no pandas."""

    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError("hidden by listening_log.without_pandas", name=name)


def hide_pandas() -> None:
    """Keep pyarrow from loading pandas at its first array: 0.25 s and 40 MB for no use here.

    For a script's own process, before anything else runs.
    """
    sys.meta_path.insert(0, _NoPandas())


def show_pandas() -> None:
    """Take hide_pandas back, for work that needs pandas after all."""
    sys.meta_path[:] = [hook for hook in sys.meta_path if not isinstance(hook, _NoPandas)]
