"""Is a .tflite file whole? tflite_runtime reads a truncated one beyond its end and crashes.

Walks what a flatbuffer's root table of the TFLite schema points to (operator codes, subgraphs,
buffers and their data, metadata) and looks at nothing else: a file cut short fails here, one
damaged on purpose may not. LiteRT itself verifies the whole file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Fields of the schema's table Model that are vectors of tables, and of Buffer, its bytes.
_TABLES = (1, 2, 4, 6)
_BUFFERS = 4
_DATA = 0


def is_whole(content: bytes) -> bool:
    """False where a table, vector or weight of the file would lie outside of it."""
    try:
        root = _unsigned(content, 0)
        _check_table(content, root)
        for field in _TABLES:
            for table in _elements(content, root, field):
                _check_table(content, table)
                if field == _BUFFERS:
                    _vector(content, table, _DATA, width=1)
    except (struct.error, ValueError):
        return False
    return True


def _unsigned(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", content, at)[0])


def _check_table(content: bytes, at: int) -> int:
    """Where the table's vtable starts; ValueError unless table and vtable lie inside."""
    vtable = at - int(struct.unpack_from("<i", content, at)[0])
    if not 0 <= vtable < len(content):
        raise ValueError("vtable outside")
    vtable_bytes, table_bytes = struct.unpack_from("<HH", content, vtable)
    if vtable + vtable_bytes > len(content) or at + table_bytes > len(content):
        raise ValueError("table outside")
    return vtable


def _vector(content: bytes, table: int, field: int, width: int) -> tuple[int, int]:
    """(first element's place, count) of a vector field; (0, 0) where it is absent."""
    vtable = _check_table(content, table)
    slot = 4 + 2 * field
    if slot >= struct.unpack_from("<H", content, vtable)[0]:
        return 0, 0
    offset = int(struct.unpack_from("<H", content, vtable + slot)[0])
    if offset == 0:
        return 0, 0
    at = table + offset + _unsigned(content, table + offset)
    count = _unsigned(content, at)
    if at + 4 + width * count > len(content):
        raise ValueError("vector outside")
    return at + 4, count


def _elements(content: bytes, table: int, field: int) -> Iterator[int]:
    """Where each table of a vector of tables lies."""
    start, count = _vector(content, table, field, width=4)
    for at in range(start, start + 4 * count, 4):
        yield at + _unsigned(content, at)
