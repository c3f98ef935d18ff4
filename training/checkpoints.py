"""Weights on the disk: a file says itself what its content was, so that damage is noticed.

A checkpoint is what torch.save writes, a zip archive, with the sha256 of all before it as the
archive's comment. torch.load and other readers of zip archives read it as it is.
"""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import torch

from core.artifacts import atomic_path, read_sealed
from core.options import InputError

END = struct.Struct("<4s4H2LH")  # a zip archive's last record; the length of its comment ends it
SIGNATURE = b"PK\x05\x06"
DIGEST = 64  # hexadecimal digits


def save(path: Path, content: dict) -> None:
    """Write the content; equal contents give equal bytes, whatever the file is called."""
    # To an open file: given a path, torch names the archive inside by the temporary name.
    with atomic_path(path) as temporary, open(temporary, "w+b") as file:
        torch.save(content, file)
        file.seek(-2, io.SEEK_END)
        file.write(struct.pack("<H", DIGEST))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, io.SEEK_END)
        file.write(digest.encode())


def load(path: Path, device, remedy: str) -> dict:
    """Return what was saved.

    Args:
        device: where its tensors come to.
        remedy: what the message tells to do.

    Raises:
        InputError: the file is missing, or is not what `save` wrote: cut short, damaged, another.
    """
    content = read_sealed(path, None, remedy)
    body, digest = content[:-DIGEST], content[-DIGEST:]
    end = body[-END.size :]
    whole = len(end) == END.size and end[:4] == SIGNATURE and END.unpack(end)[-1] == DIGEST
    if not whole or hashlib.sha256(body).hexdigest().encode() != digest:
        raise InputError(f"{path} is damaged: it does not hold what was written; {remedy}")
    return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
