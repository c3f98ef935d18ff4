"""Files under the root: where they live, whole or not at all, and their fingerprints.

Everything is written under a temporary name in the same folder, synced and renamed, so a file
that exists is whole. A temporary name carries host and process id: what a killed process left
behind is removed by the next one that writes the same file, and never by one that runs beside it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import socket
import time
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from core.options import InputError, WorkError, refuse_special

if TYPE_CHECKING:
    import numpy as np

FULL = (errno.ENOSPC, errno.EDQUOT)
SEALED = "sealed"  # key of a json's own fingerprint
NO_ARRAY = (  # what numpy's readers raise of a damaged .npy; the last two of a header's text
    *(OSError, ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError),
)


@contextlib.contextmanager
def atomic_path(path: Path):
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`.

    When the block fails, the temporary file is removed and `path` is as it was before. A failure
    for want of room becomes a WorkError that says so.
    """
    path = Path(path)
    refuse_special(path, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, Exception) and is_full(error):
            raise disk_full(path) from error
        raise


def append(path: Path, content: bytes) -> None:
    """Append to a log. A kill may cut its last line: logs are written anew from a checkpoint.

    Raises:
        WorkError: the disk is full.
    """
    try:
        with open(path, "ab") as file:
            file.write(content)
    except OSError as error:
        raise (disk_full(path) if is_full(error) else error) from error


def disk_full(path: Path) -> WorkError:
    """Return the error for a write to `path` that found no space left."""
    return WorkError(f"no space left on the disk of {path}; make room and run the same command")


def is_full(error: BaseException | None) -> bool:
    """Say whether an error came of a disk, or a quota, without room.

    Libraries that write files themselves wrap the system's error, or quote it in their own.
    """
    while error is not None:
        said = isinstance(error, Exception) and any(os.strerror(n) in str(error) for n in FULL)
        if said or (isinstance(error, OSError) and error.errno in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_stale(path: Path) -> None:
    """Remove temporary files of `path` whose process on this host is gone."""
    host = socket.gethostname()
    for left in path.parent.glob(f".{path.name}.{host}.*.tmp"):
        pid = left.name.split(".")[-2]
        if pid.isdigit() and int(pid) != os.getpid() and not Path(f"/proc/{pid}").exists():
            left.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(path: Path, what: str, wait: float = 0.0):
    """Hold the lock file `path`, or raise InputError: another process is at the same work.

    Args:
        wait: seconds that others are waited for, where they are at it for moments only.

    The kernel frees the lock when its process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        _take(file, fcntl.LOCK_EX, what, wait=wait)
        yield


@contextlib.contextmanager
def shared(path: Path, what: str, wait: float = 10.0):
    """Hold the lock file `path` with other readers, so that nobody replaces what is read.

    Args:
        wait: seconds that a writer is waited for; one that goes on for longer is an InputError.

    A folder in which nothing can be written has no writer to wait for, and none is made.
    """
    try:
        file = open(path, "a+")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            raise
        yield
        return
    with file:
        _take(file, fcntl.LOCK_SH, what, wait=wait)
        yield


def _take(file, kind: int, what: str, *, wait: float) -> None:
    until = time.monotonic() + wait
    while not lock(file, kind):
        if time.monotonic() >= until:
            raise InputError(f"another process is working on {what}; wait for it")
        time.sleep(0.05)


def lock(file, kind: int) -> bool:
    """Take a lock of fcntl's kinds on an open file; False if another process has one in its way.

    Raises:
        InputError: the file system has no locks.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(
            f"{Path(file.name).parent} is on a file system without locks (flock: {error.strerror}),"
            " so two processes could not be kept apart; use a --root on another disk, or have this "
            "one mounted with locks (Lustre: -o flock)"
        ) from error
    return True


def write_json(path: Path, content: dict) -> None:
    """Write the content as indented json, sealed; NaN is refused, because json has none.

    A last key, `sealed`, holds the fingerprint of all others, so that read_json knows a file that
    was damaged from one that was not.
    """
    content = {**content, SEALED: _seal(content)}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _seal(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()


def read_json(path: Path, made_by: str, keys: tuple[str, ...] = ()) -> dict:
    """Return the json at `path` without its seal.

    Args:
        made_by: what the message tells to make it with.
        keys: what it must hold.

    Raises:
        InputError: it is gone, damaged, of another shape, or changed since write_json wrote it.
    """
    refuse_special(Path(path), str(path))
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; make it with {made_by}") from error
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it with {made_by}") from error
    if absent := _absent(content, keys):
        raise InputError(f"{path} does not hold {absent}: it is damaged; make it with {made_by}")
    seal = content.pop(SEALED, None)
    if seal is None:
        damaged = _is_sealed_by_another_name(content)
    else:
        damaged = seal != _seal_of_read(content)
    if damaged:
        raise InputError(
            f"{path} is not what was written, it was damaged or edited; make it with {made_by}, or "
            f"remove its line '{SEALED}' if the edit is meant"
        )
    return content


def _seal_of_read(content: dict) -> str | None:
    try:
        return _seal(content)
    except ValueError:  # NaN, which write_json never writes
        return None


def _is_sealed_by_another_name(content: dict) -> bool:
    """Say whether the last value is the fingerprint of the others: its name was damaged."""
    *others, last = content or [""]
    seal = content.get(last)
    return isinstance(seal, str) and seal == _seal_of_read({n: content[n] for n in others})


def read_sealed(path: Path, digest: str | None, remedy: str) -> bytes:
    """Return the content of a file that has the fingerprint, which was written where it was made.

    Args:
        digest: its sha256; None where nobody wrote it down, as for files of one's own.
        remedy: what the message tells to do.

    Raises:
        InputError: the file is gone, cannot be read, or is another one.
    """
    refuse_special(Path(path), str(path))
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {remedy}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {remedy}") from error
    if digest is not None and (found := hashlib.sha256(content).hexdigest()) != digest:
        raise InputError(
            f"{path} is not the file that was written, it was damaged or replaced (sha256 "
            f"{found[:12]}, expected {str(digest)[:12]}); {remedy}"
        )
    return content


def _absent(content, keys: tuple[str, ...]) -> str:
    """Return which of the keys a file lacks, as text; nothing if it has them all."""
    if not isinstance(content, dict):
        return ", ".join(keys) or "names and values"
    return ", ".join(key for key in keys if key not in content)


def read_record(path: Path, keys: tuple[str, ...], remedy: str, digest: str | None = None) -> dict:
    """Return a run's config.yaml; one that is gone, damaged or short of a key is an error.

    Args:
        keys: what it must hold.
        remedy: what the message tells to do.
        digest: its sha256, once the run is finished.
    """
    content = read_sealed(path, digest, remedy)
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if it is there
        content = yaml.load(content.decode("utf-8"), loader)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}") from error
    if absent := _absent(content, keys):
        raise InputError(f"{path} does not hold {absent}: it is damaged; {remedy}")
    return content


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write the array in numpy's own format, C order."""
    import numpy as np

    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.ascontiguousarray(array))


def write_table(path: Path, table) -> None:
    """Write a pandas frame or arrow table as parquet; equal tables give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, preserve_index=False)
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")


def sha256(*paths: Path) -> str:
    """Return the hex digest over the contents of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
