"""Values put into an .onnx file as it is written, one tensor at a time.

Works on protobuf's wire format (protobuf.dev/programming-guides/encoding), without a copy of the
file or of its weights in memory: a ModelProto has its graph in field 7, that its initializers in
field 5, those their dims, data_type, name, raw_data and data_location in fields 1, 2, 8, 9 and 14.
All other bytes stay as they are; only lengths around the new values change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.coding.bits import write_varint
from compress.coding.cursor import Cursor
from compress.errors import ContainerError

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _DATA_LOCATION = 1, 2, 8, 9, 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_DIMS = 8
# numpy's types that a container's tensors have, by TensorProto.DataType.
TYPES = {
    1: np.dtype("<f4"),
    3: np.dtype("<i1"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
}


@dataclass(frozen=True)
class Hole:
    """An initializer whose raw_data is a mark. reference: what follows the mark."""

    name: str
    reference: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    before: bytes
    after: bytes

    @property
    def value_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def head(self) -> bytes:
        """The initializer's length and its fields up to the values."""
        raw = _tag(_RAW_DATA) + write_varint(self.value_bytes)
        length = len(self.before) + len(raw) + self.value_bytes + len(self.after)
        return write_varint(length) + self.before + raw


@dataclass(frozen=True)
class _Field:
    number: int
    value: int | memoryview
    whole: memoryview


Find = Callable[[Hole], NDArray[np.generic]]


class Holed:
    """A model with holes in it, taken apart once. Raises ContainerError for damage.

    holes: the initializers whose raw_data begins with `mark`.
    """

    def __init__(self, model: bytes, mark: bytes) -> None:
        self._tops = list(_fields(memoryview(model)))
        self._parts = [
            _parted(field, mark) if field.number == _GRAPH else None for field in self._tops
        ]
        inside = [part for parts in self._parts if parts is not None for part in parts]
        self.holes = [part for part in inside if isinstance(part, Hole)]

    def fill(self, find: Find) -> Iterator[bytes | memoryview]:
        """The pieces of the model, with the values that `find` gives for its holes in turn."""
        return _pieces(self._tops, self._parts, find)


def _pieces(
    tops: list[_Field], parts: list[list[memoryview | Hole] | None], find: Find
) -> Iterator[bytes | memoryview]:
    for field, inside in zip(tops, parts, strict=True):
        if inside is None:
            yield field.whole
            continue
        yield _tag(_GRAPH) + write_varint(sum(map(_length, inside)))
        for part in inside:
            if not isinstance(part, Hole):
                yield part
                continue
            yield _tag(_INITIALIZER) + part.head()
            values = np.asarray(find(part), part.dtype, order="C")
            assert values.shape == part.shape
            yield values.reshape(-1).view(np.uint8).data
            yield part.after


def _length(part: memoryview | Hole) -> int:
    if not isinstance(part, Hole):
        return len(part)
    return len(_tag(_INITIALIZER) + part.head()) + part.value_bytes + len(part.after)


def _parted(graph: _Field, mark: bytes) -> list[memoryview | Hole]:
    parts: list[memoryview | Hole] = []
    for field in _fields(_message(graph)):
        hole = _hole(_message(field), mark) if field.number == _INITIALIZER else None
        parts.append(field.whole if hole is None else hole)
    return parts


def _hole(tensor: memoryview, mark: bytes) -> Hole | None:
    fields = list(_fields(tensor))
    found = {field.number: field.value for field in fields}
    raw = found.get(_RAW_DATA, b"")
    name = bytes(_bytes_of(found.get(_NAME, b""))).decode(errors="replace")
    if found.get(_DATA_LOCATION):
        raise ContainerError(f"the graph wants {name!r} from a file; none is allowed")
    held = _bytes_of(raw)
    if bytes(held[: len(mark)]) != mark:
        return None
    place = [field.number for field in fields].index(_RAW_DATA)
    kind = found.get(_DATA_TYPE)
    dtype = TYPES.get(kind) if isinstance(kind, int) else None
    if dtype is None:
        raise ContainerError(f"the graph is damaged: {name!r} is of type {kind}")
    return Hole(
        name,
        bytes(held[len(mark) :]).decode(errors="replace"),
        dtype,
        tuple(_dims(fields)),
        b"".join(field.whole for field in fields[:place]),
        b"".join(field.whole for field in fields[place + 1 :]),
    )


def _dims(fields: list[_Field]) -> Iterator[int]:
    dims = [field.value for field in fields if field.number == _DIMS]
    if len(dims) > _MAX_DIMS:
        raise ContainerError(f"the graph is damaged: a tensor of {len(dims)} axes")
    for value in dims:
        if not isinstance(value, int):
            raise ContainerError("the graph is damaged: dims of another form")
        yield value


def _fields(data: memoryview) -> Iterator[_Field]:
    """Each field of a message: its number, its value and all of its bytes."""
    cursor = Cursor(data, "the graph's bytes")
    while cursor.offset < len(data):
        start = cursor.offset
        number, wire = divmod(_varint(cursor), 8)
        value: int | memoryview
        if wire == _VARINT:
            value = _varint(cursor)
        elif wire == _LENGTH:
            value = cursor.take(cursor.varint())
        elif wire in (_FIXED64, _FIXED32):
            value = cursor.take(8 if wire == _FIXED64 else 4)
        else:
            raise ContainerError(f"the graph is damaged: wire type {wire}; get the file again")
        yield _Field(number, value, data[start : cursor.offset])


def _varint(cursor: Cursor) -> int:
    """Up to ten bytes: protobuf writes a negative number so."""
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.byte()
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ContainerError("the graph is damaged: a number of more than ten bytes")


def _message(field: _Field) -> memoryview:
    if isinstance(field.value, int):
        raise ContainerError("the graph is damaged: a number where a message belongs")
    return field.value


def _bytes_of(value: int | bytes | memoryview) -> bytes | memoryview:
    if isinstance(value, int):
        raise ContainerError("the graph is damaged: a number where bytes belong")
    return value


def _tag(number: int) -> bytes:
    return write_varint(number << 3 | _LENGTH)
