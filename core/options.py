"""Options of a script (a dataclass, its yaml, then that of --config, then flags), and exit codes.

A script declares a frozen dataclass whose fields are made by `option`, and ends in

    if __name__ == "__main__":
        run(main, SplitConfig, __doc__)

which parses, imports what the script left for later (core.late), calls `main(config)` and turns
what a user can cause into one line on stderr: exit 2 for wrong arguments or input (`InputError`),
1 for work that failed (`WorkError`, a full disk), 130 for Ctrl-C, 143 for SIGTERM, 138 for
SIGUSR1, by which Slurm warns of a time limit or a preemption: cluster.sh then queues the job
again. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import math
import os
import re
import signal
import sys
import threading
import time
import types
import typing
from pathlib import Path

import yaml

from core.late import import_the_rest
from core.registry import ALL
from core.yamls import MOST, load_yaml

UNSET = dataclasses.MISSING
NOTHING = ("none", "null", "auto")  # texts that stand for no value, where there may be none
HERE = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# What numpy and torch say, in errors of kinds that say something else as well.
TOO_MUCH = re.compile(
    "not enough memory|can't allocate memory|out of memory|array is too big|"
    "Maximum allowed (dimension|size) exceeded|Storage size calculation overflowed"
)
PATIENCE = 3.0  # seconds that a signal may wait for its handler
UNWINDING = 12.0  # seconds more until the command must have ended
ARRAY_INDEX = "SLURM_ARRAY_TASK_ID"  # where Slurm tells a task of an array its number


class InputError(ValueError):
    """Wrong arguments, or missing or wrong input: the message says what to do next."""


class WorkError(RuntimeError):
    """The work itself failed: some files could not be decoded, the disk is full, a loss is NaN."""


class Terminated(BaseException):
    """A signal arrived; a BaseException, so that no handler on the way mistakes it for a failure.

    What is finished by then is on the disk already: epochs, windows of tracks, runs.
    """

    def __init__(self, signum: int):
        self.signal = signal.Signals(signum)


def option(
    default=UNSET,
    help: str = "",
    *,
    outcome: bool = True,
    read: bool = True,
    before=UNSET,
    bare: str | None = None,
    is_name: bool = False,
):
    """Declare one option of a script's dataclass.

    Args:
        default: its value when neither yaml nor flag sets it; without one it is required.
        help: unit and effect, for `--help`.
        outcome: False when the option cannot change what is computed (device, folder): a finished
            run made under another value of it is still the same run.
        read: False for a `config` that is passed on to other scripts, and not read as one's own.
        before: of an option that came later: its value in everything that was made without it, so
            that this stays finished. Without one, what does not record the option is another thing.
        bare: the value of a flag that stands alone, where it may.
        is_name: what is given becomes part of a file's name, so that `null` is no way to give none.
    """
    metadata = {"help": help, "outcome": outcome, "read": read, "before": before}
    return dataclasses.field(
        default=default, metadata={**metadata, "bare": bare, "is_name": is_name}
    )


def at_least(config, **least: float) -> None:
    """Raise InputError where one of a dataclass's options is below its least; None is not."""
    for name, minimum in least.items():
        value = getattr(config, name)
        if value is not None and value < minimum:
            raise InputError(f"{_flag(name)} must be at least {minimum:,}, got {value:,}")


def outcome_options(config) -> dict:
    """Return the options that decide what is computed, as plain yaml-ready values."""
    fields = [f for f in dataclasses.fields(config) if f.metadata.get("outcome", True)]
    return {f.name: plain(getattr(config, f.name)) for f in fields}


def recorded_options(recorded: dict, config) -> dict:
    """Return the options that something was made with, and those that came after it."""
    return _came_later(config) | recorded


def options_to_record(config) -> dict:
    """Return outcome_options as they are written: later ones only where they are in use.

    So what was made before there was an option, and what is made without it since, hold the same.
    """
    later = _came_later(config)
    options = outcome_options(config).items()
    return {name: value for name, value in options if value != later.get(name, UNSET)}


def _came_later(config) -> dict:
    """Return the value that each later option had before it came, see `option`."""
    return {
        f.name: plain(f.metadata["before"])
        for f in dataclasses.fields(config)
        if f.metadata.get("before", UNSET) is not UNSET
    }


def changed_options(config) -> dict:
    """Return those outcome options that differ from the dataclass's defaults."""
    defaults = {f.name: f.default for f in dataclasses.fields(config) if f.default is not UNSET}
    return {
        name: value
        for name, value in outcome_options(config).items()
        if name in defaults and value != plain(defaults[name])
    }


def plain(value):
    """Return the value as yaml and json hold it (paths as strings, tuples as lists)."""
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def parse_config(config_class, doc: str, argv: list[str] | None = None):
    """Return the dataclass filled from its defaults, the yaml of `--config`, and the flags.

    A yaml file holds option names and values. Sections named after a recommender (`shallow:`) are
    allowed beside them: a script whose dataclass has that `section` reads its own and skips the
    others, so that one file can describe a whole study. It is laid over the recommender's own
    yaml, the registry's `options_file`, where there is one.

    Raises:
        InputError: an unknown key or flag (with the nearest known one), a value of the wrong type,
            a required option that is missing, or a yaml file that cannot be read.
    """
    kinds = typing.get_type_hints(config_class)
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    given = _parse_flags(fields, kinds, doc, sys.argv[1:] if argv is None else argv)

    for name, text in given.items():
        _refuse_nul(name, text)
        if fields[name].metadata.get("is_name") and text.lower() in NOTHING:
            raise InputError(f"{_flag(name)} {text} would be none; leave it away, or name another")
    values = {}
    if "config" in fields and fields["config"].metadata.get("read", True):
        section = getattr(config_class, "section", None)
        for path in yaml_files(section, given.get("config", fields["config"].default)):
            values |= _read_yaml(path, section, fields)
    values |= given

    missing = [n for n, f in fields.items() if f.default is UNSET and n not in values]
    if missing:
        raise InputError(f"{_flag(missing[0])} is required; see --help")
    config = config_class(**{name: _convert(name, v, kinds[name]) for name, v in values.items()})
    _check_root(getattr(config, "root", None))
    return config


def _refuse_nul(name: str, value) -> None:
    if "\0" in str(value):
        raise InputError(f"{_flag(name)} holds a character NUL, which no name can; got {value!r}")


def _check_root(root: Path | None) -> None:
    if root is not None and (os.path.lexists(root) and not root.is_dir()):
        raise InputError(f"--root {root} is no folder; expected one, or a new name")


def yaml_files(section: str | None, config) -> list[Path]:
    """Return the yaml files that a recommender reads, each laid over the one before.

    Args:
        section: name of the recommender, or None.
        config: what --config names, or None.
    """
    own = ALL[section].options_file if section in ALL else None
    files = [HERE / own] if own else []
    return files if config in (None, "none") else [*files, Path(config)]


def read_yaml_options(path: Path, section: str | None) -> dict:
    """Return the options of a yaml file: those at its top and, over them, its section's.

    Raises:
        InputError: it cannot be read, or is not of 'key: value' lines.
    """
    refuse_special(path, f"--config {path}")
    try:
        text = path.read_text(encoding="utf-8")
        if not text:
            raise InputError(f"--config {path} is empty; expected 'key: value' lines")
        content = load_yaml(text) or {}
    except OSError as error:
        raise InputError(f"--config {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} is not a yaml file: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"--config {path} holds {type(content).__name__}, expected 'key: value'")

    values = {k: v for k, v in content.items() if k not in ALL}
    own = content.get(section) or {}
    if not isinstance(own, dict):
        raise InputError(f"{path}: section '{section}' must hold 'key: value' lines, got {own!r}")
    return {**values, **own}


def run(main, config_class, doc: str) -> typing.NoReturn:
    """Parse the command line, call main(config) and exit with the codes of the module docstring."""
    arrived: list[int] = []  # signals

    def note(signum, frame):
        arrived.append(signum)
        raise KeyboardInterrupt if signum == signal.SIGINT else Terminated(signum)

    script = Path(sys.argv[0]).name
    for signum in SIGNALS:
        signal.signal(signum, note)
    _watch(arrived, script)
    try:
        with _reader_may_leave():
            config = parse_config(config_class, doc)
            import_the_rest()
            main(config)
    except InputError as error:
        sys.exit(_say(script, error, 2))
    except (KeyboardInterrupt, Terminated) as error:
        signum = getattr(error, "signal", signal.SIGINT)
        sys.exit(_say(script, _stopped(signum), 128 + signum))
    except Exception as error:
        if arrived:  # some libraries answer a signal by an error of their own
            sys.exit(_say(script, _stopped(arrived[0]), 128 + arrived[0]))
        if isinstance(error, MemoryError) or TOO_MUCH.search(str(error)):
            sys.exit(_say(script, f"not enough memory ({error}); see --help for what takes it", 1))
        if isinstance(error, WorkError | OSError):
            sys.exit(_say(script, error, 1))
        raise
    sys.exit(0)


def _watch(arrived: list[int], script: str) -> None:
    """End the process if a signal waits behind a library that lets no Python run for PATIENCE.

    The interpreter notes a signal at once, but calls its handler only between two steps of Python
    in the main thread, and a long call (an inverse) has none; or the handler runs, but a library
    (DuckDB) waits for its own threads before it lets the error out, for UNWINDING at most. To end
    there is safe: what is kept was renamed into place, and the rest goes with the next command.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def wait() -> None:
        while (number := os.read(read, 1)[0]) not in SIGNALS:
            pass
        time.sleep(PATIENCE)
        if arrived:
            time.sleep(UNWINDING)
        os._exit(_say(script, _stopped(number), 128 + number))

    threading.Thread(target=wait, daemon=True).start()


def _stopped(signum: int) -> str:
    name = signal.Signals(signum).name
    said = "interrupted" if signum == signal.SIGINT else f"terminated by {name}"
    return f"{said}; what is done so far is kept; the same command goes on from there"


def refuse_special(path: Path, what: str) -> None:
    """Raise InputError if there is something at the path that is no file: a folder, a FIFO, a disk.

    What such a thing holds is gone once it is read, and a rename would put a file in its place.

    Args:
        what: the path, as messages name it.
    """
    if path.exists() and not path.is_file():
        kinds = ((path.is_dir, "a folder"), (path.is_fifo, "a FIFO"), (path.is_socket, "a socket"))
        kind = next((name for is_kind, name in kinds if is_kind()), "a device")
        raise InputError(f"{what} is {kind}; expected a file")


class _Stdout:
    """Standard output that goes on, to nowhere, when its reader has left."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except BrokenPipeError:
            self._leave()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name):
        return getattr(self._stream, name)


@contextlib.contextmanager
def _reader_may_leave():
    """Let `| head -1` end as it would without a pipe: hours of work are not given up for a line."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal of ASCII gets ? for what it lacks
    with contextlib.redirect_stdout(_Stdout(sys.stdout)) as stdout:
        try:
            yield
        finally:
            stdout.flush()


def _say(script: str, message, code: int) -> int:
    line = " ".join(str(message).split())
    print(f"{script}: {line}", file=sys.stderr, flush=True)
    return code


def _flag(name: str) -> str:
    return "--" + name.rstrip("_").replace("_", "-")  # as_ is --as, a word of Python


def _parse_flags(fields: dict, kinds: dict, doc: str, argv: list[str]) -> dict:
    """Return {option: text} of the flags on the command line; `--help` prints and exits."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.error = lambda message: (_ for _ in ()).throw(InputError(f"{message}; see --help"))
    for name, field in fields.items():
        default = "required" if field.default is UNSET else f"default {plain(field.default)}"
        bare = "true" if kinds[name] is bool else field.metadata.get("bare")
        parser.add_argument(
            *dict.fromkeys([_flag(name), f"--{name}"]),
            dest=name,
            default=argparse.SUPPRESS,
            metavar=_metavar(kinds[name]),
            help=f"{field.metadata.get('help', '')} ({default})".replace("%", "%%"),
            **({"nargs": "?", "const": bare} if bare else {}),
        )
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise InputError(_unknown("flag", unknown[0], [_flag(name) for name in fields]))
    return vars(given)


def _metavar(kind) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(typing.get_args(kind))
    if kind is bool:
        return "true|false"
    inner = [k for k in typing.get_args(kind) if k not in (types.NoneType, ...)] or [kind]
    name = getattr(inner[0], "__name__", "value")
    return {"int": "N", "float": "X", "Path": "PATH", "bool": "true|false"}.get(name, "TEXT")


def _read_yaml(path: Path, section: str | None, fields: dict) -> dict:
    """Return read_yaml_options' of a script with these fields; an unknown key is an error."""
    values = read_yaml_options(path, section)
    for key in values:
        if key not in fields:
            raise InputError(f"{path}: " + _unknown("key", str(key), list(fields)))
    return values


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown {what} '{name}'" + (f"; did you mean '{near[0]}'?" if near else "; see --help")


def _convert(name: str, value, kind):
    """Return the value as the field's type, from text (flags) or from yaml's own types."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in NOTHING):
            return None
        return _convert(name, value, next(k for k in args if k is not types.NoneType))
    if origin is typing.Literal:
        if value not in args:
            raise InputError(f"{_flag(name)} must be one of {', '.join(args)}, got {value!r}")
        return value
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        parts = list(parts) if isinstance(parts, list | tuple) else [parts]
        return tuple(_convert(name, part, args[0]) for part in parts)
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise InputError(f"{_flag(name)} must be true or false, got {value!r}")
    if value is None or isinstance(value, bool | dict | list):
        raise InputError(f"{_flag(name)} must be {_kind_name(kind)}, got {value!r}")
    _refuse_nul(name, value)
    if kind is Path and not str(value).strip():  # which would be the folder one happens to be in
        raise InputError(f"{_flag(name)} must be a path, got {value!r}; the folder here is .")
    try:
        converted = kind(str(value).strip())
    except ValueError as error:
        shown = repr(value) if len(str(value)) < 60 else f"{str(value)[:57]!r}..."
        raise InputError(f"{_flag(name)} must be {_kind_name(kind)}, got {shown}") from error
    if kind is Path and name != "root" and not (converted.is_file() or converted.is_dir()):
        refuse_special(converted, f"{_flag(name)} {converted}")
    if kind is float and not math.isfinite(converted):
        raise InputError(f"{_flag(name)} must be a finite number, got {value!r}")
    if kind is int and abs(converted) >= MOST:
        raise InputError(f"{_flag(name)} must be a whole number below 2^63, got {value!r}")
    return converted


def _kind_name(kind) -> str:
    names = {int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return names.get(kind, str(kind))
