"""The container's index: what it says of each tensor, checked before memory is taken.

Five columns, one entry a tensor, tensors sorted by name, so that each column packs well:

    names    UTF-8, joined by line feeds (dc_head.py keeps them as a text)
    forms    a byte. PLAIN: the number of the dtype. 8: MASKED. ENCODED: 64 + 4 * (axis + 1, 0 for
             one scale), + 1 on an integer grid, + 2 where the indices have 16 bits in memory
    axes     a byte, how many
    shape    a varint for each axis
    lengths  a varint: bytes in the payload
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.coding.bits import write_varint
from compress.coding.cursor import Cursor
from compress.errors import ContainerError

PLAIN, MASKED, ENCODED = range(3)
FLOAT32 = np.dtype(np.float32)
DTYPES = (np.dtype("<f4"), np.dtype("<i8"), np.dtype("<f2"), np.dtype("<f8"), np.dtype("<i4"))
# 1 GiB of float32: twice VGG-16, the largest net this is for, and a bound on hostile files.
MAX_ELEMENTS = 1 << 28
MAX_TENSORS = 1 << 16
MAX_NAME_BYTES = 1 << 10
MAX_DIMS = 8
_MASKED_FORM, _ENCODED_FORM = 8, 64
_GRID_BIT, _WIDE_BIT, _AXIS_STEP = 1, 2, 4


@dataclass(frozen=True)
class Record:
    """What the index says of one tensor.

    dtype: of the decoded array. on_integers, wide, axis: of an ENCODED tensor: its codebook is
    int8, its indices uint16, its scale lies on that axis.
    """

    name: str
    form: int
    shape: tuple[int, ...]
    payload_bytes: int
    dtype: np.dtype[Any] = FLOAT32
    on_integers: bool = False
    wide: bool = False
    axis: int | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def write_names(records: Sequence[Record]) -> bytes:
    """The column of names."""
    return "\n".join(record.name for record in records).encode()


def write_records(records: Sequence[Record]) -> bytes:
    """The other columns."""
    columns = (
        bytes(map(_form_byte, records)),
        bytes(len(record.shape) for record in records),
        b"".join(write_varint(n) for record in records for n in record.shape),
        b"".join(write_varint(record.payload_bytes) for record in records),
    )
    return b"".join(columns)


def read_records(names: bytes, columns: bytes, payload_bytes: int) -> tuple[Record, ...]:
    """The records of a payload of so many bytes. ContainerError for what is never written."""
    own = _names(names)
    cursor = Cursor(columns, "the index's columns")
    forms, axes = cursor.take(len(own)), cursor.take(len(own))
    if any(count > MAX_DIMS for count in axes):
        raise ContainerError(
            f"index is damaged: {max(axes)} axes, at most {MAX_DIMS}; get the file again"
        )
    shapes = [tuple(cursor.varint() for _ in range(count)) for count in axes]
    lengths = [cursor.varint() for _ in own]
    cursor.end()
    records = tuple(map(_record, own, forms, shapes, lengths))
    check_totals(records, payload_bytes)
    return records


def check_totals(records: Sequence[Record], payload_bytes: int) -> None:
    """Raise ContainerError for more than a container may hold, or other lengths than there are."""
    elements = 0
    for record in records:
        if record.size > MAX_ELEMENTS or any(n > MAX_ELEMENTS for n in record.shape):
            raise ContainerError(
                f"tensor {record.name!r} claims shape {record.shape}; at most {MAX_ELEMENTS:,} "
                f"elements are allowed"
            )
        elements += record.size
    if len(records) > MAX_TENSORS or elements > MAX_ELEMENTS:
        raise ContainerError(
            f"index claims {len(records)} tensors of {elements:,} elements; at most "
            f"{MAX_TENSORS:,} and {MAX_ELEMENTS:,} are allowed"
        )
    used = sum(record.payload_bytes for record in records)
    if used != payload_bytes:
        raise ContainerError(
            f"index accounts for {used} bytes, the payload has {payload_bytes}; get the file again"
        )


def check_order(names: Sequence[str]) -> None:
    """Raise ContainerError unless the names rise and none is too long."""
    for before, name in zip(["", *names], names, strict=False):
        if name <= before or len(name.encode()) > MAX_NAME_BYTES:
            raise ContainerError(
                f"index is damaged: {name[:80]!r} after {before[:80]!r}; names rise and have at "
                f"most {MAX_NAME_BYTES} bytes; get the file again"
            )


def _names(text: bytes) -> list[str]:
    if text.count(b"\n") >= MAX_TENSORS:
        raise ContainerError(f"index claims more than {MAX_TENSORS:,} tensors")
    try:
        names = text.decode().split("\n") if text else []
    except UnicodeDecodeError as error:
        raise ContainerError("index is damaged: a name is not UTF-8; get the file again") from error
    check_order(names)
    return names


def _form_byte(record: Record) -> int:
    if record.form == PLAIN:
        return DTYPES.index(record.dtype.newbyteorder("<"))
    if record.form == MASKED:
        return _MASKED_FORM
    axis = 0 if record.axis is None else record.axis + 1
    flags = _GRID_BIT * record.on_integers + _WIDE_BIT * record.wide
    return _ENCODED_FORM + flags + _AXIS_STEP * axis


def _record(name: str, form: int, shape: tuple[int, ...], length: int) -> Record:
    if form < len(DTYPES):
        return Record(name, PLAIN, shape, length, DTYPES[form].newbyteorder("="))
    if form == _MASKED_FORM:
        return Record(name, MASKED, shape, length)
    axis, flags = divmod(form - _ENCODED_FORM, _AXIS_STEP)
    if not 0 <= axis <= len(shape):
        raise ContainerError(
            f"tensor {name!r} has form {form}, which no tensor of {len(shape)} axes has in this "
            f"version; get the file again or update edgepress"
        )
    on_integers, wide = bool(flags & _GRID_BIT), bool(flags & _WIDE_BIT)
    place = axis - 1 if axis else None
    return Record(name, ENCODED, shape, length, on_integers=on_integers, wide=wide, axis=place)
