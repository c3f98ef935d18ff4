"""What a signal does before a command has begun: one line and its exit code, no traceback.

Imported first by every script and backbone, since what they import next takes seconds; from there
on core.options.run has handlers of its own. Where no command was started (a test, a benchmark that
imports a script), nothing is done.
"""

import os
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _end(signum, frame) -> None:
    name = Path(sys.modules["__main__"].__file__).name
    line = f"{name}: ended by {signal.Signals(signum).name} before it began; nothing was changed\n"
    os.write(2, line.encode())
    os._exit(128 + signum)


def _is_command() -> bool:
    file = getattr(sys.modules["__main__"], "__file__", None)
    return bool(file) and Path(file).resolve().is_relative_to(HERE) and ".venv" not in file


if _is_command():
    for each in SIGNALS:
        signal.signal(each, _end)
