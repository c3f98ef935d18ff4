"""Commands that begin where the libraries are loaded: forked from a process that has them.

Most of what a test of a command costs is its imports: torch and transformers alone take four
seconds of a processor. `Forked` is a subprocess.Popen for the tests: where the command is a script
or a module for this Python, a helper process, which has imported libraries and nothing of the
project, forks, and the child runs it as its __main__. It is a process of its own and a child of the
one that asked, with its own working directory, environment, streams, signals and exit code; two
commands share nothing of the project.

All else is started as ever: other programs, python -c and -X, another environment in what libraries
read while they are imported, limits set by preexec_fn. So is every command of a test marked
`fresh_starts`, whose memory, imports or first moments are looked at.

What the helper has imported, a script might forget to; test_pipeline.py starts them afresh.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import io
import multiprocessing.process
import os
import pickle
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

# Without duckdb, which tells on stderr at its end what a fork has not given back.
LIBRARIES = {
    "few": ("numpy", "pandas", "soundfile", "soxr", "av", "yaml", "tqdm"),  # the engine's
    "all": (
        *("numpy", "pandas", "pyarrow.parquet", "scipy.sparse", "scipy.stats", "numba", "yaml"),
        *("torch", "torch._dynamo", "torch.utils.tensorboard", "transformers", "sklearn.metrics"),
        *("transformers.models.bert.modeling_bert", "transformers.generation.candidate_generator"),
        *("soundfile", "soxr", "av", "matplotlib.pyplot"),
    ),
}
# What Python and these libraries read once, as they begin, but for what sklearn and torch set.
ALWAYS = (
    "PYTHON(?!PATH)|OMP_|KMP_(?!DUPLICATE_LIB_OK|INIT_AT_FORK)|MKL_|OPENBLAS|MALLOC|LD_|LC_|LANG"
    "|TZ|HOME|TMP|TEMP|TQDM|COLUMNS|TERM"
)
READ_ONCE = {
    "few": re.compile(ALWAYS),
    "all": re.compile(
        ALWAYS + "|NUM|TORCH(?!INDUCTOR_CACHE_DIR)|PYTORCH|CUDA|HF_|TRANSFORMERS|MPL|ARROW|XDG_"
    ),
}
SUBREAPER = 36  # of prctl: orphans among the descendants become children of this process
TOY = "tests.extract_item_embeddings.toy_backbone"
MOST = 1 << 20  # bytes of a request
WAITING = {"OMP_WAIT_POLICY": "passive"}  # as training.threads sets it, before torch
BEGAN = dict(os.environ)  # before any test changed it
Started = subprocess.Popen  # whatever a test puts in its place


class Forked(Started):
    """A Popen whose child is forked from the helper where it is a script or module of Python."""

    def _execute_child(self, *given):
        asked = inspect.signature(super()._execute_child).bind(*given).arguments
        if not _can_be_forked(asked):
            return super()._execute_child(*given)
        words = [os.fspath(word) for word in asked["args"]]
        streams = [
            ours if theirs == -1 else theirs
            for ours, theirs in enumerate(asked[n] for n in ("p2cread", "c2pwrite", "errwrite"))
        ]
        environment = os.environ if asked["env"] is None else asked["env"]
        self.pid = Helper.of_this_process(_needed(words)).start(
            {
                "words": words[1:],
                "folder": os.fspath(asked["cwd"] or os.getcwd()),
                "environment": dict(environment),
                "session": asked["start_new_session"],
            },
            streams,
        )
        self._child_created = True
        names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[name] for name in names))


def _can_be_forked(asked: dict) -> bool:
    """Say whether a forked child does what a fresh process would."""
    words = asked["args"]
    if isinstance(words, str | bytes | os.PathLike) or len(words) < 2:
        return False
    first, second = os.fspath(words[0]), os.fspath(words[1])
    if first != sys.executable or not (second == "-m" or second.endswith(".py") or _decodes(words)):
        return False
    if asked["shell"] or asked["executable"] or asked["preexec_fn"] or asked["pass_fds"]:
        return False
    environment = os.environ if asked["env"] is None else asked["env"]
    needed = _needed(words)
    return _read_once(environment, needed) == Helper.of_this_process(needed).read_once


def _needed(words: list) -> str:
    """Return which libraries a command needs: the helper that has few is there in half a second."""
    return "few" if _decodes(words) or words[1:3] == ["-m", TOY] else "all"


def _decodes(words: list) -> bool:
    """Say whether it is a decoder of the extraction, the one python -c of which there are many."""
    if words[1] != "-c":
        return False
    from extract_item_embeddings.engine.decoder_processes import COMMAND  # not in the helper

    return words[2:] == [COMMAND]


def _read_once(environment, libraries: str) -> dict:
    """Return what decides how a process is that begins in this environment."""
    read, environment = READ_ONCE[libraries].match, {**WAITING, **environment}
    return {name: text for name, text in environment.items() if text and read(name)}


class Helper:
    """A process that forks, started when it is first needed; it ends with the one it serves."""

    _all, _starts = {}, threading.Lock()

    @classmethod
    def of_this_process(cls, libraries: str) -> "Helper":
        """Return the helper that has these libraries, 'few' or 'all'."""
        key = os.getpid(), libraries
        with cls._starts:
            if key not in cls._all:
                cls._all[key] = cls(libraries)
            return cls._all[key]

    def __init__(self, libraries: str):
        self.lock = threading.Lock()
        self.read_once = _read_once(BEGAN, libraries)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = Started(
                [sys.executable, __file__, str(theirs.fileno()), libraries],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**WAITING, **BEGAN, "PYTHONPATH": ""},  # each command has a path of its own
            )

    def start(self, request: dict, streams: list[int]) -> int:
        """Fork a child that runs the request, and return its pid; it is this process's child."""
        libc = ctypes.CDLL(None, use_errno=True)
        with self.lock:
            libc.prctl(SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self.socket, [pickle.dumps(request)], streams)
                answer = self.socket.recv(64)
            finally:
                libc.prctl(SUBREAPER, 0, 0, 0, 0)
        if not answer:
            raise RuntimeError("the process that forks the tests' commands has ended")
        return int(answer)


def serve(connection: socket.socket, libraries: tuple[str, ...]) -> None:
    """Import the libraries; fork a child for each request, until nobody is left to ask."""
    for name in libraries:
        with contextlib.suppress(ImportError):  # in an environment of a single backbone
            importlib.import_module(name)
    gc.freeze()  # the children's collections leave the libraries' pages shared
    while True:
        try:
            data, streams, *_ = socket.recv_fds(connection, MOST, 3)
        except KeyboardInterrupt:  # of a terminal, to all its processes
            return
        if not data:
            return
        answer, theirs = os.pipe()
        between = os.fork()
        if not between:
            child = os.fork()
            if not child:
                return become(pickle.loads(data), streams)
            os.write(theirs, str(child).encode())
            os._exit(0)  # which makes the child an orphan, and so a child of who asked
        os.waitpid(between, 0)
        connection.send(os.read(answer, 64))
        for each in (answer, theirs, *streams):
            os.close(each)


def become(request: dict, streams: list[int]) -> None:
    """Run a command in this process as Python runs it in a fresh one."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    _open_streams()
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    if request["session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    multiprocessing.process.ORIGINAL_DIR = os.getcwd()
    words = request["words"]
    sys.argv = words[1:] if words[0] == "-m" else words if words[0] != "-c" else ["-c"]
    beside = {"-m": os.getcwd(), "-c": ""}.get(words[0], str(Path(words[0]).resolve().parent))
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [beside, *given]
    code = 0
    try:
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            exec(words[1], {"__name__": "__main__"})
        else:
            runpy.run_path(words[0], run_name="__main__")
    except BaseException as error:
        code = _said(error)
    threading._shutdown()  # waits for threads, as Python does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)  # to give back the libraries' memory piece by piece takes two seconds


def _said(error: BaseException) -> int:
    """Tell of what ended the command as Python does, and return the exit code."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    trace = error.__traceback__
    while trace.tb_next and trace.tb_frame.f_code.co_filename in (__file__, "<frozen runpy>"):
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)
    return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def _open_streams() -> None:
    """Make sys.stdin, stdout and stderr anew: the helper's know what kind of file theirs were."""
    for place, name in enumerate(("stdin", "stdout", "stderr")):
        old, mode = getattr(sys, name), "wb" if place else "rb"
        unbuffered = place and old.write_through
        raw = open(place, mode, buffering=0 if unbuffered else -1, closefd=False)
        new = io.TextIOWrapper(
            raw,
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=place == 2 or os.isatty(place),
            write_through=bool(unbuffered),
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), LIBRARIES[sys.argv[2]])
