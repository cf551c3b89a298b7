"""One tensor in the Deep Compression container: a record in the index, bytes in the payload.

Forms: PLAIN (the array's bytes), MASKED (positions of the kept weights as coded gaps, their
float32 values), ENCODED (codebook, scales, and the codes as coded gaps and values; Han et al.
2016, sections 2 to 4). Every length is checked against what the tensor's shape allows before
memory is taken, and a checksum covers each tensor's bytes. Knows numpy only.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding.bits import read_varint, write_varint
from compress.coding.gaps import best_width, from_gaps, to_gaps
from compress.coding.huffman import pack, unpack
from compress.encoding import Encoded, Encoding, IndexArray, Masked, index_dtype, int8_codebook
from compress.errors import ContainerError, EncodingError

PLAIN, MASKED, ENCODED = range(3)
_DTYPES = (np.dtype("<f4"), np.dtype("<i8"), np.dtype("<f2"), np.dtype("<f8"), np.dtype("<i4"))
_SHARED, _GRID, _FULL_GRID = range(3)
# 4 GiB of float32: larger than any net this is for, small enough to refuse a hostile index.
MAX_ELEMENTS = 1 << 30
_MAX_DIMS = 8


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
    def payload_bytes(self) -> int:
        return sum(self.sections)


def encode_tensor(
    name: str, array: NDArray[Any], encoding: Encoding | None
) -> tuple[Record, bytes]:
    """The record and the payload of one tensor."""
    if encoding is None:
        kind = _DTYPES.index(array.dtype.newbyteorder("<"))
        parts, numbers, form = [array.astype(_DTYPES[kind]).tobytes()], (), PLAIN
    elif isinstance(encoding, Masked):
        form, kind = MASKED, 0
        kept = array[encoding.mask].astype("<f4").tobytes()
        numbers, parts = _coded(encoding.mask.reshape(-1).astype(np.uint8), 2)
        parts.append(kept)
    else:
        form, kind = ENCODED, _codebook_kind(encoding)
        coded, parts = _coded(encoding.indices.reshape(-1), encoding.codebook.size)
        axis = 0 if encoding.axis is None else encoding.axis + 1
        numbers = (*coded, axis, encoding.codebook.size)
        parts += [_codebook_bytes(encoding, kind), encoding.scale.astype("<f4").tobytes()]
    payload = b"".join(parts)
    lengths = tuple(len(part) for part in parts)
    return Record(name, form, kind, array.shape, numbers, lengths, zlib.crc32(payload)), payload


def decode_tensor(record: Record, payload: memoryview) -> tuple[NDArray[Any], Encoding | None]:
    """The array and its encoding, bit for bit as `encode_tensor` got them."""
    if zlib.crc32(payload) != record.checksum:
        raise ContainerError(f"tensor {record.name!r}: checksum differs; the file is damaged")
    parts = _split(payload, record.sections)
    try:
        if record.form == PLAIN:
            return _plain(record, parts), None
        if record.form == MASKED:
            return _masked(record, parts)
        encoding = _encoded(record, parts)
        return encoding.decode(), encoding
    except (ContainerError, EncodingError, ValueError) as error:
        raise ContainerError(f"tensor {record.name!r} is damaged: {error}") from error


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
    for limit in (_MAX_DIMS, 4, 4):
        count, offset = read_varint(index, offset)
        if count > limit:
            raise ContainerError(f"index is damaged: a list of {count} numbers, at most {limit}")
        values: list[int] = []
        for _ in range(count):
            value, offset = read_varint(index, offset)
            values.append(value)
        lists.append(tuple(values))
    length, form, kind = fields
    end = offset + length
    if end + 4 > len(index):
        raise ContainerError("index is cut off; get the file again")
    try:
        name = bytes(index[offset:end]).decode()
    except UnicodeDecodeError as error:
        raise ContainerError("index is damaged: a name is not UTF-8") from error
    checksum = int.from_bytes(index[end : end + 4], "little")
    record = Record(name, form, kind, *lists, checksum)
    _check_record(record)
    return record, end + 4


_COUNTS = {PLAIN: (0, 1), MASKED: (2, 3), ENCODED: (4, 4)}
_KINDS = {PLAIN: len(_DTYPES), MASKED: 1, ENCODED: 3}


def _check_record(record: Record) -> None:
    """Form, kind, element count and list lengths, before anything is allocated."""
    known = record.form in _COUNTS and record.kind < _KINDS[record.form]
    if not known or (len(record.numbers), len(record.sections)) != _COUNTS[record.form]:
        raise ContainerError(f"tensor {record.name!r} has an unknown form; update edgepress")
    if record.size > MAX_ELEMENTS:
        raise ContainerError(
            f"tensor {record.name!r} claims {record.size} elements; at most {MAX_ELEMENTS}"
        )
    if record.form != PLAIN and record.numbers[1] > record.size:
        raise ContainerError(f"tensor {record.name!r} claims more entries than elements")


def _coded(codes: NDArray[Any], alphabet: int) -> tuple[tuple[int, int], list[bytes]]:
    """((gap width, entries), [gap stream, value stream]) of a flat array of codes."""
    width = best_width(codes, alphabet)
    gaps, values = to_gaps(codes, width)
    return (width, gaps.size), [pack(gaps, 1 << width), pack(values, alphabet)]


def _decoded(record: Record, parts: list[memoryview], alphabet: int) -> NDArray[Any]:
    width, entries = record.numbers[:2]
    if width > 8:
        raise ContainerError(f"gaps of {width} bits; at most 8")
    gaps = unpack(parts[0], entries, 1 << width)
    values = unpack(parts[1], entries, alphabet)
    return from_gaps(gaps.astype(np.uint8), values, width, record.size)


def _plain(record: Record, parts: list[memoryview]) -> NDArray[Any]:
    dtype = _DTYPES[record.kind]
    _expect(parts[0], record.size * dtype.itemsize, "values")
    native = np.frombuffer(parts[0], dtype).astype(dtype.newbyteorder("="))
    return native.reshape(record.shape)


def _masked(record: Record, parts: list[memoryview]) -> tuple[NDArray[Any], Masked]:
    mask = _decoded(record, parts, 2).astype(np.bool_)
    _expect(parts[2], 4 * int(np.count_nonzero(mask)), "kept weights")
    array = np.zeros(record.size, np.float32)
    array[mask] = np.frombuffer(parts[2], "<f4")
    return array.reshape(record.shape), Masked(mask.reshape(record.shape))


def _encoded(record: Record, parts: list[memoryview]) -> Encoded:
    axis_code, entries = record.numbers[2:]
    if not 1 <= entries <= 1 << 16 or axis_code > len(record.shape):
        raise ContainerError(f"codebook of {entries} entries or axis {axis_code - 1}")
    axis = None if axis_code == 0 else axis_code - 1
    channels = 1 if axis is None else record.shape[axis]
    _expect(parts[3], 4 * channels, "scales")
    codebook = _codebook(record.kind, parts[2], entries)
    codes = _decoded(record, parts, entries)
    indices: IndexArray = codes.astype(index_dtype(entries)).reshape(record.shape)
    scale = np.frombuffer(parts[3], "<f4").astype(np.float32)
    return Encoded(indices, codebook, scale, axis)


def _codebook_kind(encoding: Encoded) -> int:
    if not encoding.on_integers:
        return _SHARED
    return _FULL_GRID if np.array_equal(encoding.codebook, int8_codebook()) else _GRID


def _codebook_bytes(encoding: Encoded, kind: int) -> bytes:
    if kind == _FULL_GRID:
        return b""  # it is the same for all
    return encoding.codebook.astype("<f4" if kind == _SHARED else "i1").tobytes()


def _codebook(kind: int, data: memoryview, entries: int) -> NDArray[np.float32] | NDArray[np.int8]:
    if kind == _FULL_GRID:
        _expect(data, 0, "codebook")
        return int8_codebook()
    _expect(data, entries * (4 if kind == _SHARED else 1), "codebook")
    if kind == _SHARED:
        return np.frombuffer(data, "<f4").astype(np.float32)
    return np.frombuffer(data, np.int8).copy()


def _expect(data: memoryview, size: int, what: str) -> None:
    if len(data) != size:
        raise ContainerError(f"{what} take {size} bytes, found {len(data)}")


def _split(payload: memoryview, sections: tuple[int, ...]) -> list[memoryview]:
    ends = np.cumsum((0, *sections))
    return [payload[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
