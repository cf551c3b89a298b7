"""Values put into an .onnx file as it is written, one tensor at a time.

Works on protobuf's wire format (protobuf.dev/programming-guides/encoding), without a copy of the
file or of its weights in memory: a ModelProto has its graph in field 7, that its initializers in
field 5, those their dims, data_type, name, raw_data and data_location in fields 1, 2, 8, 9 and 14.
All other bytes stay as they are; only lengths around the new values change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.coding.bits import write_varint
from compress.errors import ContainerError

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _DATA_LOCATION = 1, 2, 8, 9, 14
_VARINT, _LENGTH = 0, 2
_SIZES = {1: 8, 5: 4}  # numbers of fixed bytes
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
        """The initializer's tag, its length and its fields up to the values."""
        raw = _tag(_RAW_DATA) + write_varint(self.value_bytes)
        length = len(self.before) + len(raw) + self.value_bytes + len(self.after)
        return _tag(_INITIALIZER) + write_varint(length) + self.before + raw


class _Field(NamedTuple):
    """One field of a message: its number, its value, and from where to where it goes."""

    number: int
    value: int | memoryview
    start: int
    end: int


Find = Callable[[Hole], NDArray[np.generic]]


class Holed:
    """A model with holes in it, taken apart once. Raises ContainerError for damage.

    holes: the initializers whose raw_data begins with `mark`.
    """

    def __init__(self, model: bytes, mark: bytes) -> None:
        self._parts: list[memoryview | Hole] = []
        data = memoryview(model)
        for field in _fields(data):
            if field.number != _GRAPH:
                self._parts.append(data[field.start : field.end])
                continue
            inside = _parted(_message(field), mark)
            head = _tag(_GRAPH) + write_varint(sum(map(_length, inside)))
            self._parts += [memoryview(head), *inside]
        self.holes = [part for part in self._parts if isinstance(part, Hole)]

    @property
    def size(self) -> int:
        """Bytes of the model with its values."""
        return sum(map(_length, self._parts))

    def fill(self, find: Find) -> Iterator[bytes | memoryview]:
        """The pieces of the model, with the values that `find` gives for its holes in turn."""
        for part in self._parts:
            if not isinstance(part, Hole):
                yield part
                continue
            yield part.head()
            values = np.asarray(find(part), part.dtype, order="C")
            assert values.shape == part.shape
            yield values.reshape(-1).view(np.uint8).data
            yield part.after

    def fill_into(self, target: memoryview, put: Callable[[Hole, int], None]) -> None:
        """The model in `target`, of `size` bytes; `put` is given each hole and where its values
        begin, and writes them."""
        place = 0
        for part in self._parts:
            if not isinstance(part, Hole):
                target[place : place + len(part)] = part
                place += len(part)
                continue
            head = part.head()
            begin = place + len(head)
            end = begin + part.value_bytes
            target[place:begin] = head
            put(part, begin)
            place = end + len(part.after)
            target[end:place] = part.after


def _length(part: memoryview | Hole) -> int:
    if not isinstance(part, Hole):
        return len(part)
    return len(part.head()) + part.value_bytes + len(part.after)


def _parted(graph: memoryview, mark: bytes) -> list[memoryview | Hole]:
    """Holes, and all that is between them."""
    parts: list[memoryview | Hole] = []
    start = 0
    for field in _fields(graph):
        hole = _hole(_message(field), mark) if field.number == _INITIALIZER else None
        if hole is not None:
            parts += [graph[start : field.start], hole]
            start = field.end
    return [*parts, graph[start:]]


def _hole(tensor: memoryview, mark: bytes) -> Hole | None:
    fields = list(_fields(tensor))
    found = {field.number: field for field in fields}
    if _DATA_LOCATION in found and found[_DATA_LOCATION].value:
        raise ContainerError(f"the graph wants {_name(found)!r} from a file; none is allowed")
    if _RAW_DATA not in found:
        return None
    held = _message(found[_RAW_DATA])
    if bytes(held[: len(mark)]) != mark:
        return None
    raw = next(field for field in fields if field.number == _RAW_DATA)
    kind = found[_DATA_TYPE].value if _DATA_TYPE in found else None
    dtype = TYPES.get(kind) if isinstance(kind, int) else None
    if dtype is None:
        raise ContainerError(f"the graph is damaged: {_name(found)!r} is of type {kind}")
    return Hole(
        _name(found),
        bytes(held[len(mark) :]).decode(errors="replace"),
        dtype,
        tuple(_dims(fields)),
        bytes(tensor[: raw.start]),
        bytes(tensor[raw.end :]),
    )


def _name(found: Mapping[int, _Field]) -> str:
    return bytes(_message(found[_NAME])).decode(errors="replace") if _NAME in found else ""


def _dims(fields: list[_Field]) -> Iterator[int]:
    dims = [field.value for field in fields if field.number == _DIMS]
    if len(dims) > _MAX_DIMS:
        raise ContainerError(f"the graph is damaged: a tensor of {len(dims)} axes")
    for value in dims:
        if not isinstance(value, int):
            raise ContainerError("the graph is damaged: dims of another form")
        yield value


def _fields(data: memoryview) -> Iterator[_Field]:
    """Each field of a message."""
    at, size = 0, len(data)
    while at < size:
        start = at
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: int | memoryview
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire in _SIZES or wire == _LENGTH:
            length, at = (_SIZES[wire], at) if wire in _SIZES else _varint(data, at)
            if length > size - at:
                raise ContainerError(
                    f"the graph's bytes are cut off: {length} bytes needed, {size - at} left; "
                    f"get the file again"
                )
            value = data[at : at + length]
            at += length
        else:
            raise ContainerError(f"the graph is damaged: wire type {wire}; get the file again")
        yield _Field(number, value, start, at)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """(number, the place after it). Up to ten bytes: protobuf writes a negative number so."""
    value = shift = 0
    for byte in data[at : at + 10]:
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise ContainerError("the graph is damaged: a number that is cut off or has over ten bytes")


def _message(field: _Field) -> memoryview:
    if isinstance(field.value, int):
        raise ContainerError("the graph is damaged: a number where a message belongs")
    return field.value


def _tag(number: int) -> bytes:
    return write_varint(number << 3 | _LENGTH)
