"""One record of the container's index: what it says of one tensor, checked before memory is taken.

record   varints: name length, form, kind, and three lists (count, then numbers): shape,
         numbers, section lengths; then the name in UTF-8 and a CRC-32 of the payload
kind     PLAIN: the dtype. MASKED: 0. ENCODED: shared floats 0, an integer grid 1, the full
         int8 grid 2; 3 more where the indices have 16 bits in memory
numbers  gap width and entries; ENCODED also axis + 1 (0: one scale) and codebook entries
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.coding.bits import read_varint, write_varint
from compress.errors import ContainerError

PLAIN, MASKED, ENCODED = range(3)
DTYPES = (np.dtype("<f4"), np.dtype("<i8"), np.dtype("<f2"), np.dtype("<f8"), np.dtype("<i4"))
# 1 GiB of float32: twice VGG-16, the largest net this is for, and a bound on hostile files.
MAX_ELEMENTS = 1 << 28
MAX_NAME_BYTES = 1 << 10
MAX_DIMS = 8
# Form: (numbers, sections), and how many kinds.
_COUNTS = {PLAIN: (0, 1), MASKED: (2, 3), ENCODED: (4, 4)}
_KINDS = {PLAIN: len(DTYPES), MASKED: 1, ENCODED: 6}


@dataclass(frozen=True)
class Record:
    """What the index says of one tensor; `sections` are the lengths of its payload parts."""

    name: str
    form: int
    kind: int
    shape: tuple[int, ...]
    numbers: tuple[int, ...]
    sections: tuple[int, ...]
    checksum: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the decoded array, in the machine's byte order."""
        return DTYPES[self.kind if self.form == PLAIN else 0].newbyteorder("=")

    @property
    def payload_bytes(self) -> int:
        return sum(self.sections)


def write_record(record: Record) -> bytes:
    """The record's bytes in the index."""
    name = record.name.encode()
    lists = (record.shape, record.numbers, record.sections)
    counted = [n for values in lists for n in (len(values), *values)]
    fields = [len(name), record.form, record.kind, *counted]
    head = b"".join(write_varint(field) for field in fields)
    return head + name + record.checksum.to_bytes(4, "little")


def read_record(index: memoryview, offset: int) -> tuple[Record, int]:
    """(record, offset of the next). Raises ContainerError for what write_record never writes."""
    fields: list[int] = []
    for _ in range(3):
        value, offset = read_varint(index, offset)
        fields.append(value)
    lists: list[tuple[int, ...]] = []
    for limit in (MAX_DIMS, 4, 4):
        count, offset = read_varint(index, offset)
        if count > limit:
            raise ContainerError(
                f"index is damaged: a list of {count} numbers, at most {limit} are allowed; "
                f"get the file again"
            )
        values: list[int] = []
        for _ in range(count):
            value, offset = read_varint(index, offset)
            values.append(value)
        lists.append(tuple(values))
    length, form, kind = fields
    end = offset + length
    if length > MAX_NAME_BYTES or end + 4 > len(index):
        raise ContainerError(
            f"index is cut off or damaged: a name of {length} bytes where {len(index) - offset} "
            f"are left and {MAX_NAME_BYTES} allowed; get the file again"
        )
    try:
        name = bytes(index[offset:end]).decode()
    except UnicodeDecodeError as error:
        raise ContainerError("index is damaged: a name is not UTF-8; get the file again") from error
    checksum = int.from_bytes(index[end : end + 4], "little")
    shape, numbers, sections = lists
    record = Record(name, form, kind, shape, numbers, sections, checksum)
    _check_record(record)
    return record, end + 4


def _check_record(record: Record) -> None:
    """Form, kind, element count and list lengths, before anything is allocated."""
    known = record.form in _COUNTS and record.kind < _KINDS[record.form]
    if not known or (len(record.numbers), len(record.sections)) != _COUNTS[record.form]:
        raise ContainerError(
            f"tensor {record.name!r} has form {record.form}, kind {record.kind}, "
            f"{len(record.numbers)} numbers and {len(record.sections)} sections, which no tensor "
            f"of this version has; get the file again or update edgepress"
        )
    if record.size > MAX_ELEMENTS or any(n > MAX_ELEMENTS for n in record.shape):
        raise ContainerError(
            f"tensor {record.name!r} claims shape {record.shape}; at most {MAX_ELEMENTS:,} "
            f"elements are allowed"
        )
    if record.form != PLAIN and record.numbers[1] > record.size:
        raise ContainerError(
            f"tensor {record.name!r} claims {record.numbers[1]} entries for {record.size} "
            f"elements; get the file again"
        )
