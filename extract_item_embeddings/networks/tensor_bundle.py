"""Reads a TensorFlow checkpoint (a "tensor bundle") with numpy alone.

Two files: `.index` is a LevelDB table from tensor names to BundleEntryProto messages, and
`.data-00000-of-00001` holds the raw little-endian tensors. A table ends in a 48-byte footer: the
handles (offset, size) of two blocks, padding, and a magic number. A block holds entries whose key
continues the key before it, then an array of restart points; after it stand a byte that names the
compression and a checksum. Formats: LevelDB's doc/table_format.md and TensorFlow's
core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MAGIC = 0xDB4775248B80FB57  # the last 8 bytes of a LevelDB table
FOOTER = 48
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # TensorFlow's DataType -> numpy


def read_tensors(index: Path, data: Path) -> dict[str, np.ndarray]:
    """Return {name: array} of every tensor of the checkpoint.

    Raises:
        ValueError: not an uncompressed table of one shard, an unknown dtype, or a tensor whose
            bytes are not all there; the message names file and tensor.
    """
    raw = Path(data).read_bytes()
    return {name: _tensor(name, entry, raw) for name, entry in _entries(Path(index)) if name}


def _entries(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield (tensor name, fields of its BundleEntryProto); the name '' is the bundle's header."""
    table = path.read_bytes()
    if len(table) < FOOTER or int.from_bytes(table[-8:], "little") != MAGIC:
        raise ValueError(f"{path} is not a TensorFlow checkpoint index: its magic number is wrong")
    position = len(table) - FOOTER
    for _ in range(2):  # the handle of the meta block is skipped
        _, position = _varint(table, position)
    index, _ = _handle(table, position)
    for _, handle in _block(path, table, *index):
        block, _ = _handle(handle, 0)
        for key, message in _block(path, table, *block):
            yield key.decode(), _fields(message)


def _block(path: Path, table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if table[start + size] != 0:
        raise ValueError(f"{path} is compressed; only plain tables can be read")
    restarts = int.from_bytes(table[start + size - 4 : start + size], "little")
    end = start + size - 4 * (restarts + 1)
    key, position = b"", start
    while position < end:
        shared, position = _varint(table, position)
        unshared, position = _varint(table, position)
        length, position = _varint(table, position)
        key = key[:shared] + table[position : position + unshared]
        position += unshared
        yield key, table[position : position + length]
        position += length


def _handle(buffer: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(buffer, position)
    size, position = _varint(buffer, position)
    return (offset, size), position


def _varint(buffer: bytes, position: int) -> tuple[int, int]:
    """Return a number of 7-bit groups, lowest first, and the position behind it."""
    value = shift = 0
    while True:
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _fields(message: bytes) -> dict[int, list]:
    """Return {field number: values} of a protobuf message; nested messages stay bytes."""
    fields: dict[int, list] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag & 7 == 0:
            value, position = _varint(message, position)
        elif tag & 7 == 2:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        else:  # 5 and 1: fixed 32 and 64 bits
            length = 4 if tag & 7 == 5 else 8
            value, position = message[position : position + length], position + length
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _tensor(name: str, entry: dict[int, list], raw: bytes) -> np.ndarray:
    dtype, shard = entry.get(1, [0])[0], entry.get(3, [0])[0]
    offset, size = entry.get(4, [0])[0], entry.get(5, [0])[0]
    if dtype not in DTYPES or shard:
        raise ValueError(f"tensor {name}: dtype {dtype} in shard {shard} cannot be read")
    dims = [_fields(dim).get(1, [0])[0] for dim in _fields(entry.get(2, [b""])[0]).get(2, [])]
    count = math.prod(dims)
    if offset + size > len(raw) or size != count * np.dtype(DTYPES[dtype]).itemsize:
        raise ValueError(f"tensor {name}: {size:,} bytes at {offset:,} do not hold shape {dims}")
    return np.frombuffer(raw, DTYPES[dtype], count, offset).reshape(dims)
