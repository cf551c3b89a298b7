"""Containers of version 1, read only: a safetensors file of up to four byte arrays.

    about, index, graph   deflated: JSON; one record for each tensor; an .onnx without its weights
    payload               the tensors' bytes, in the index's order

A record: varints name length, form, kind, and three lists (count, then numbers): shape, numbers,
section lengths; then the name and a CRC-32 of the payload. Nothing is decoded here: a tensor's
sections are put in version 2's order, so the rest of the library knows one form.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from compress.coding.arrays import RAW, pack_array
from compress.coding.bits import write_varint
from compress.coding.cursor import Cursor
from compress.encoding import int8_codebook
from compress.errors import ContainerError
from targets.formats.dc_codes import GAPS
from targets.formats.dc_head import read_about
from targets.formats.dc_record import (
    DTYPES,
    ENCODED,
    MASKED,
    MAX_DIMS,
    PLAIN,
    Record,
    check_order,
    check_totals,
)

LIMITS = {"about": 4 << 20, "index": 4 << 20, "graph": 16 << 20}
_NEEDED = {"about", "index", "payload"}
# Form: (numbers, sections), and how many kinds.
_COUNTS = {PLAIN: (0, 1), MASKED: (2, 3), ENCODED: (4, 4)}
_KINDS = {PLAIN: len(DTYPES), MASKED: 1, ENCODED: 6}
_GRID_KIND, _FULL_GRID_KIND, _WIDE_KIND = 1, 2, 3


class Old(NamedTuple):
    """What Container needs of a file of version 1."""

    about: Mapping[str, Any]
    records: tuple[Record, ...]
    payloads: tuple[memoryview, ...]
    graph: bytes | None
    part_bytes: Mapping[str, int]


class _Entry(NamedTuple):
    """A record as it stands in the file."""

    name: str
    form: int
    kind: int
    shape: tuple[int, ...]
    numbers: tuple[int, ...]
    sections: tuple[int, ...]
    checksum: int


def is_v1(data: bytes) -> bool:
    """Whether these are a safetensors file's bytes: the length of a header, then JSON."""
    return data[8:9] == b"{"


def read_v1(data: bytes) -> Old:
    """The parts of a file of version 1. Raises ContainerError for damage."""
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ContainerError(f"is not a whole container ({error}); get the file again") from error
    known = _NEEDED <= set(arrays) <= {*_NEEDED, "graph"}
    if not known or any(a.dtype != np.uint8 or a.ndim != 1 for a in arrays.values()):
        held = ", ".join(f"{n} ({a.dtype}, {a.shape})" for n, a in sorted(arrays.items())[:4])
        raise ContainerError(
            f"holds {held or 'nothing'}; a Deep Compression container of version 1 holds the "
            f"bytes about, index, payload and at most a graph: give such a file"
        )
    parts = {name: memoryview(array.tobytes()) for name, array in arrays.items()}
    about = read_about(_inflate(parts["about"], "about"))
    if about.pop("container", None) != 1 or not _is_digest(about.get("digest")):
        raise ContainerError("part 'about' is of no known version; update edgepress")
    entries = _entries(_inflate(parts["index"], "index"))
    payload = Cursor(parts["payload"], "the payload")
    framed = [_framed(entry, payload) for entry in entries]
    payload.end()
    records = tuple(map(_record, entries, map(len, framed)))
    check_totals(records, sum(map(len, framed)))
    graph = _inflate(parts["graph"], "graph") if "graph" in parts else None
    sizes = {name: len(part) for name, part in parts.items()}
    return Old(about, records, tuple(map(memoryview, framed)), graph, sizes)


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64


def _inflate(data: memoryview, part: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, LIMITS[part] + 1)
    except zlib.error as error:
        raise ContainerError(f"part {part!r} is damaged ({error}); get the file again") from error
    if len(text) > LIMITS[part]:
        raise ContainerError(f"part {part!r} inflates to more than {LIMITS[part]:,} bytes")
    if not inflater.eof or inflater.unused_data:
        raise ContainerError(f"part {part!r} is cut off or has a tail; get the file again")
    return text


def _entries(index: bytes) -> list[_Entry]:
    cursor = Cursor(index, "the index")
    left = len(index)
    entries: list[_Entry] = []
    while left:
        length, form, kind = (cursor.varint() for _ in range(3))
        shape, numbers, sections = (_list(cursor, most) for most in (MAX_DIMS, 4, 4))
        try:
            name = bytes(cursor.take(length)).decode()
        except UnicodeDecodeError as error:
            raise ContainerError("index is damaged: a name is not UTF-8") from error
        checksum = int.from_bytes(cursor.take(4), "little")
        entries.append(_Entry(name, form, kind, shape, numbers, sections, checksum))
        known = form in _COUNTS and kind < _KINDS[form]
        if not known or (len(numbers), len(sections)) != _COUNTS[form]:
            raise ContainerError(
                f"tensor {name[:80]!r} has form {form}, kind {kind}, {len(numbers)} numbers and "
                f"{len(sections)} sections, which no tensor of version 1 has; get the file again"
            )
        if form == ENCODED and numbers[2] > len(shape):
            raise ContainerError(f"tensor {name[:80]!r} has its scale on axis {numbers[2] - 1}")
        left = len(index) - cursor.offset
    check_order([entry.name for entry in entries])
    return entries


def _list(cursor: Cursor, most: int) -> tuple[int, ...]:
    count = cursor.varint()
    if count > most:
        raise ContainerError(f"index is damaged: a list of {count} numbers, at most {most}")
    return tuple(cursor.varint() for _ in range(count))


def _framed(entry: _Entry, payload: Cursor) -> bytes:
    """The entry's tensor as version 2 has it."""
    parts = [payload.take(length) for length in entry.sections]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    if checksum != entry.checksum:
        raise ContainerError(f"tensor {entry.name!r} is damaged: its checksum differs")
    raw = bytes([RAW])
    if entry.form == PLAIN:
        return raw + bytes(parts[0])
    width, entries = entry.numbers[:2]
    if width > 255:
        raise ContainerError(f"tensor {entry.name!r} is damaged: gaps of {width} bits")
    head = bytes([GAPS, width]) + write_varint(entries) + write_varint(len(parts[0]))
    codes = head + bytes(parts[0]) + bytes(parts[1])
    if entry.form == MASKED:
        return write_varint(len(parts[2]) // 4) + raw + bytes(parts[2]) + codes
    codebook = raw + bytes(parts[2])
    if entry.kind % _WIDE_KIND == _FULL_GRID_KIND and not parts[2]:
        codebook = pack_array(int8_codebook())
    return write_varint(entry.numbers[3]) + codebook + raw + bytes(parts[3]) + codes


def _record(entry: _Entry, length: int) -> Record:
    wide, kind = divmod(entry.kind, _WIDE_KIND)
    if entry.form == PLAIN:
        dtype = DTYPES[entry.kind].newbyteorder("=")
        return Record(entry.name, PLAIN, entry.shape, length, dtype)
    if entry.form == MASKED:
        return Record(entry.name, MASKED, entry.shape, length)
    axis = entry.numbers[2] - 1 if entry.numbers[2] else None
    return Record(
        entry.name,
        ENCODED,
        entry.shape,
        length,
        on_integers=kind >= _GRID_KIND,
        wide=bool(wide),
        axis=axis,
    )
