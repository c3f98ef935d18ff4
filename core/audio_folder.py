"""The folder of audio: which file is which track's."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from core.options import InputError

AUDIO = (".mp3", ".ogg", ".oga", ".opus", ".flac", ".wav", ".m4a", ".wma", ".aif", ".aiff")


@dataclass
class AudioFolder:
    """What a folder holds. A track's id is its file's name without the ending."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)  # of each id
    faults: dict[str, str] = field(default_factory=dict)  # why an id's file cannot be read
    others: dict[str, str] = field(default_factory=dict)  # an id's file of another kind
    twice: dict[str, tuple[Path, Path]] = field(default_factory=dict)  # ids of two files
    kinds: Counter = field(default_factory=Counter)  # of all files: endings as they are written
    unread: list[str] = field(default_factory=list)  # folders in it that cannot be looked into

    def add(self, path: Path, fault: str, wanted: bool) -> None:
        """Note a file: audio if it is `wanted`, and nothing if there is a fault with it."""
        self.kinds[path.suffix or "no ending"] += 1
        track_id = path.stem
        if not wanted:
            self.others.setdefault(track_id, path.name)
        elif track_id in self.files:
            self.twice.setdefault(track_id, (self.files[track_id], path))
        elif fault:
            self.faults[track_id] = fault
        else:
            self.files[track_id] = path

    def require_one_each(self, ids=None) -> None:
        """Raise InputError if an id, of all or of `ids`, has two files; it names both."""
        twice = [pair for track_id, pair in self.twice.items() if ids is None or track_id in ids]
        if twice:
            one, other = sorted(twice[0])
            more = f" ({len(twice):,} ids have two)" if len(twice) > 1 else ""
            raise InputError(
                f"--audio {self.folder}: {one.relative_to(self.folder)} and "
                f"{other.relative_to(self.folder)} are two files for the id '{one.stem}'{more}; "
                "move one away, or say which files are meant with --pattern"
            )

    def reason(self, track_id: str) -> str:
        """Return why an id has no file."""
        if track_id in self.faults:
            return self.faults[track_id]
        if track_id in self.others:
            return f"no audio file, only {self.others[track_id]}"
        return "no audio file" + (f"; {self.unread[0]}" if self.unread else "")

    def contents(self) -> str:
        """Return what was found, in words: '12 .aac, 3 .txt'."""
        found = [f"{count:,} {kind}" for kind, count in self.kinds.most_common(4)]
        return ", ".join(found + self.unread[:1]) or "no files"


def scan(folder: Path, pattern: str | None = None) -> AudioFolder:
    """Return the files of a folder and of the folders in it.

    Endings may be in upper case. Hidden files and folders do not count.

    Args:
        pattern: of the files to take instead, whatever their endings: '**/*.mp3' for all levels.

    Raises:
        InputError: there is no such folder, or it cannot be looked into.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"--audio {folder} is not a folder; expected TRACKID.mp3 and such in it")
    found = AudioFolder(folder)
    if pattern is not None:
        for path in sorted(_matching(folder, pattern)):
            if not os.path.isdir(path):
                found.add(path, _fault(path), wanted=True)
        return found
    folders = []
    for entry in _entries(folder, found, top=True):
        if not _add(entry, found):
            folders.append(Path(entry.path))
    for inner in folders:
        for entry in _entries(inner, found):
            _add(entry, found)
    return found


def _matching(folder: Path, pattern: str) -> list[Path]:
    try:
        paths = folder.glob(pattern)
        return [p for p in paths if not any(part[0] == "." for part in p.relative_to(folder).parts)]
    except (ValueError, NotImplementedError, IndexError) as error:
        raise InputError(
            f"--pattern '{pattern}' is none ({error}); expected one inside --audio, such as "
            "'**/*.mp3'"
        ) from error


def _entries(folder: Path, found: AudioFolder, top: bool = False) -> Iterator[os.DirEntry]:
    """Yield what is in a folder in the order of names, but nothing hidden."""
    try:
        with os.scandir(folder) as entries:
            yield from sorted(
                (entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name
            )
    except OSError as error:
        if top:
            raise InputError(f"--audio {folder} cannot be read: {error.strerror}") from error
        found.unread.append(f"{folder.name}/ cannot be read: {error.strerror}")


def _add(entry: os.DirEntry, found: AudioFolder) -> bool:
    """Note a file; False for a folder."""
    path = Path(entry.path)
    try:
        if entry.is_dir():
            return False
        fault = "" if entry.is_file() else _fault(path)
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    found.add(path, fault, wanted=path.suffix.lower() in AUDIO)
    return True


def _fault(path: Path) -> str:
    """Return why a path is no file, '' if it is one."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if is_file else f"{path.name} is no regular file"
