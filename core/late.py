"""What a command imports once its options are read, so that --help and a typing error are quick.

A script imports at its top what its options need, and all else under

    if options_are_read(__name__):
        import numpy as np

    if __name__ == "__main__":
        run(main, KnnConfig, __doc__)

Imported by a test or another process, it gets everything at once. As a command it gets there the
options, and core.options.run imports the rest before it calls main: a second or more of libraries
(torch: four), by then under the handlers of signals.
"""

from __future__ import annotations

import ast
import atexit
import gc
import sys
from pathlib import Path

MARK = "options_are_read(__name__)"


def options_are_read(name: str) -> bool:
    """Say whether a script may import what is heavy now.

    Args:
        name: the script's __name__. A process of core.workers has the script of the command that
            began it as __mp_main__: it imports what its work needs, and that is in modules.
    """
    return name not in ("__main__", "__mp_main__")


def import_the_rest() -> None:
    """Run, in the command's own file, the imports that stand under `if options_are_read(...)`.

    A script that does not import options_are_read has none; an import that fails is the traceback
    that it would be at the script's top. What they make is kept till the end, so Python looks for
    no garbage in it, then and later: that takes a seventh of the time of torch's imports.

    Raises:
        LookupError: a script that asks for options_are_read has no such block at its top level.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or not hasattr(main, options_are_read.__name__):
        return
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    blocks = [n for n in body if isinstance(n, ast.If) and ast.unparse(n.test) == MARK]
    if not blocks:
        raise LookupError(f"{file} has no block `if {MARK}:` at its top level")
    gc.disable()
    try:
        for block in blocks:
            code = compile(ast.Module(block.body, []), file, "exec", dont_inherit=True)
            exec(code, vars(main))
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # some libraries report as leaked what then is never freed
        gc.enable()
