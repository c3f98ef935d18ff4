"""The list of what can be fetched: data_sources.yaml, checked, and what a command chooses of it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from core.options import InputError

GROUPS = ("log", "table", "split", "about")
CHECKSUMS = {"md5": 32, "sha256": 64, "git": 40}  # hex digits of each
URL = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file: where it is and how to know it.

    Attributes:
        name: what the command line calls it.
        group: one of GROUPS.
        file: its path below the folder of downloads.
        addresses: http(s), asked in this order; or a file on this machine.
        bytes: its size; None: unknown.
        md5, sha256, git: checksums in hex digits; git is the id of a git blob. None: unknown.
        licence, what: for people.
        width: numbers a track, of a table of vectors.
    """

    name: str
    group: str
    file: str
    addresses: tuple[str, ...]
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    git: str | None = None
    licence: str = "unknown"
    what: str = ""
    width: int | None = None

    @property
    def checksums(self) -> dict[str, str]:
        """Those that are known, by kind."""
        known = {kind: getattr(self, kind) for kind in CHECKSUMS}
        return {kind: digits for kind, digits in known.items() if digits}


def read_sources(path: Path) -> dict[str, Source]:
    """Return the entries of a list of sources, by name.

    Raises:
        InputError: it cannot be read, or an entry lacks or mistakes something; names the entry.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--sources {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--sources {path} is not a yaml file: {error}") from error
    entries = content.get("sources") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"--sources {path} must hold 'sources:' with an entry for each file")
    return {name: _source(path, str(name), entry) for name, entry in entries.items()}


def _source(path: Path, name: str, entry) -> Source:
    def wrong(what: str) -> InputError:
        return InputError(f"--sources {path}, entry '{name}': {what}")

    if not isinstance(entry, dict):
        raise wrong(f"expected 'key: value' lines, got {entry!r}")
    known = [field.name for field in dataclasses.fields(Source) if field.name != "name"]
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise wrong(f"unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
    if entry.get("group") not in GROUPS:
        raise wrong(f"group must be one of {', '.join(GROUPS)}, got {entry.get('group')!r}")
    file = entry.get("file")
    if not isinstance(file, str) or not file or not _is_below(file):
        raise wrong(f"file must be a path below the folder of downloads, got {file!r}")
    addresses = entry.get("addresses")
    if not isinstance(addresses, list) or not addresses:
        raise wrong("addresses must be a list of at least one address")
    for address in addresses:
        if not isinstance(address, str) or not (URL.match(address) or Path(address).is_absolute()):
            raise wrong(f"an address begins with http:// or https://, got {address!r}")
    for key, least in (("bytes", 0), ("width", 1)):
        value = entry.get(key)
        if value is not None and (type(value) is not int or value < least):
            raise wrong(f"{key} must be a whole number from {least}, got {value!r}")
    for kind, digits in CHECKSUMS.items():
        value = entry.get(kind)
        if value is not None and not re.fullmatch(f"[0-9a-f]{{{digits}}}", str(value)):
            raise wrong(f"{kind} must be {digits} hex digits in lower case, got {value!r}")
    sums = {kind: str(entry[kind]) for kind in CHECKSUMS if entry.get(kind) is not None}
    return Source(name=name, **{**entry, **sums, "addresses": tuple(addresses)})


def _is_below(file: str) -> bool:
    parts = PurePosixPath(file).parts
    return not file.startswith("/") and ".." not in parts and not parts[-1].startswith(".")


def choose(
    sources: dict[str, Source],
    *,
    log: bool,
    tables: tuple[str, ...],
    split: str | None,
    about: bool,
) -> list[Source]:
    """Return the sources a command asks for, in the order of the list.

    Args:
        tables: names of tables, or `all`.
        split: prefix of a published split's entries (`journal`).
    """
    known = [name for name, source in sources.items() if source.group == "table"]
    for table in tables:
        if table not in (*known, "all"):
            near = difflib.get_close_matches(table, known, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(f"--tables knows no '{table}'; {hint}there are {', '.join(known)}")
    chosen = []
    for name, source in sources.items():
        if (
            (source.group == "log" and log)
            or (source.group == "table" and (name in tables or "all" in tables))
            or (source.group == "split" and split and name.startswith(f"{split}_"))
            or (source.group == "about" and about)
        ):
            chosen.append(source)
    if split and not any(source.group == "split" for source in chosen):
        raise InputError(
            f"--split '{split}' has no entries of group 'split' in the list of sources"
        )
    return chosen


def from_mirror(source: Source, mirror: str | None) -> Source:
    """Return the source as a mirror has it: MIRROR/FILE, of a server or of a folder here."""
    if mirror is None:
        return source
    if URL.match(mirror):
        address = f"{mirror.rstrip('/')}/{source.file}"
    else:
        address = str(Path(mirror).absolute() / source.file)
    return dataclasses.replace(source, addresses=(address,))


def listing(sources: dict[str, Source], folder: Path) -> str:
    """Return the list for people: a paragraph a file."""
    lines = []
    for source in sources.values():
        size = f"{source.bytes:,} bytes" if source.bytes is not None else "size unknown"
        sums = " and ".join(source.checksums) or "checksum unknown"
        width = f", {source.width:,} wide" if source.width else ""
        here = "; is here" if (folder / source.file).exists() else ""
        lines += [
            f"{source.name:<18} {source.group}, {size}, {sums}{here}",
            f"{'':<18} {source.what}{width}",
            f"{'':<18} licence: {source.licence}",
            *(f"{'':<18} {address}" for address in source.addresses),
            f"{'':<18} -> {folder / source.file}",
            "",
        ]
    return "\n".join(lines).rstrip()
