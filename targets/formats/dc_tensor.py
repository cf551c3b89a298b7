"""One tensor in the Deep Compression container: a record in the index, bytes in the payload.

Forms: PLAIN (the array's bytes), MASKED (positions of the kept weights as coded gaps, their
float32 values), ENCODED (codebook, scales, and the codes as coded gaps and values; Han et al.
2016, sections 2 to 4). Every length is checked against what the tensor's shape allows before
memory is taken, and a checksum covers each tensor's bytes. Knows numpy only.

    payload  PLAIN: values. MASKED: gaps, ones and fillers, kept values. ENCODED: gaps, codes,
             codebook (none for the full grid), scales. All little-endian, C order.
"""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding.gaps import MAX_WIDTH, best_width, from_gaps, to_gaps
from compress.coding.huffman import MAX_LENGTH, pack, unpack
from compress.encoding import Encoded, Encoding, IndexArray, Masked, int8_codebook
from compress.errors import ContainerError, EncodingError, ExportError, RangeError
from targets.formats.dc_record import (
    DTYPES,
    ENCODED,
    MASKED,
    MAX_DIMS,
    MAX_ELEMENTS,
    MAX_NAME_BYTES,
    PLAIN,
    Record,
)

_SHARED, _GRID, _FULL_GRID = range(3)
# Words have at most 15 bits, so a Huffman code has no more of them.
_MAX_CODES = 1 << MAX_LENGTH


def encode_tensor(
    name: str, array: NDArray[Any], encoding: Encoding | None
) -> tuple[Record, bytes]:
    """The record and the payload of one tensor. Raises ExportError for what has no form here."""
    _check_writable(name, array, encoding)
    if encoding is None:
        kind = DTYPES.index(array.dtype.newbyteorder("<"))
        parts, numbers, form = [array.astype(DTYPES[kind]).tobytes()], (), PLAIN
    elif isinstance(encoding, Masked):
        form, kind = MASKED, 0
        kept = array[encoding.mask].astype("<f4").tobytes()
        numbers, parts = _coded(encoding.mask.reshape(-1).astype(np.uint8), 2)
        parts.append(kept)
    else:
        kind, form = _codebook_kind(encoding), ENCODED
        coded, parts = _coded(encoding.indices.reshape(-1), encoding.codebook.size)
        axis = 0 if encoding.axis is None else encoding.axis + 1
        numbers = (*coded, axis, encoding.codebook.size)
        parts += [_codebook_bytes(encoding, kind), encoding.scale.astype("<f4").tobytes()]
        kind += 3 * (encoding.indices.dtype == np.uint16)
    payload = b"".join(parts)
    lengths = tuple(len(part) for part in parts)
    return Record(name, form, kind, array.shape, numbers, lengths, zlib.crc32(payload)), payload


def decode_tensor(record: Record, payload: memoryview) -> tuple[NDArray[Any], Encoding | None]:
    """The array and its encoding, bit for bit as `encode_tensor` got them."""
    if zlib.crc32(payload) != record.checksum:
        raise ContainerError(
            f"tensor {record.name!r} is damaged: its checksum differs; get the file again"
        )
    parts = _split(payload, record.sections)
    try:
        if record.form == PLAIN:
            return _plain(record, parts), None
        if record.form == MASKED:
            return _masked(record, parts)
        encoding = _encoded(record, parts)
        return encoding.decode(), encoding
    except (ContainerError, EncodingError, RangeError, ValueError) as error:
        raise ContainerError(f"tensor {record.name!r} is damaged: {error}") from error


def _check_writable(name: str, array: NDArray[Any], encoding: Encoding | None) -> None:
    """What the reader would refuse is not written."""
    if array.size > MAX_ELEMENTS or array.ndim > MAX_DIMS or len(name.encode()) > MAX_NAME_BYTES:
        raise ExportError(
            f"tensor {name[:80]!r} of shape {array.shape} does not fit the container: at most "
            f"{MAX_ELEMENTS:,} elements, {MAX_DIMS} axes and names of {MAX_NAME_BYTES} bytes"
        )
    allowed = DTYPES if encoding is None else DTYPES[:1]
    if array.dtype.newbyteorder("<") not in allowed:
        raise ExportError(
            f"tensor {name!r} is of type {array.dtype}; the container takes "
            f"{', '.join(dtype.name for dtype in allowed)}"
        )
    if isinstance(encoding, Encoded) and encoding.codebook.size > _MAX_CODES:
        used = int(np.count_nonzero(np.bincount(encoding.indices.reshape(-1))))
        if used >= _MAX_CODES:  # a filler's zero may come on top
            raise ExportError(
                f"tensor {name!r} uses {used} different codes; the container codes fewer than "
                f"{_MAX_CODES}: share its weights with at most {MAX_LENGTH - 1} bits"
            )


def _coded(codes: NDArray[Any], alphabet: int) -> tuple[tuple[int, int], list[bytes]]:
    """((gap width, entries), [gap stream, value stream]) of a flat array of codes."""
    width = best_width(codes, alphabet)
    gaps, values = to_gaps(codes, width)
    return (width, gaps.size), [pack(gaps, 1 << width), pack(values, alphabet)]


def _decoded(record: Record, parts: list[memoryview], alphabet: int) -> NDArray[Any]:
    width, entries = record.numbers[:2]
    if width > MAX_WIDTH:
        raise ContainerError(f"gaps of {width} bits; at most {MAX_WIDTH}")
    gaps = unpack(parts[0], entries, 1 << width)
    values = unpack(parts[1], entries, alphabet)
    return from_gaps(gaps.astype(np.uint8), values, width, record.size)


def _plain(record: Record, parts: list[memoryview]) -> NDArray[Any]:
    dtype = DTYPES[record.kind]
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
        raise ContainerError(
            f"codebook of {entries} entries, scale on axis {axis_code - 1}; allowed are 1 to 65536 "
            f"entries and axes -1 to {len(record.shape) - 1}"
        )
    axis = None if axis_code == 0 else axis_code - 1
    channels = 1 if axis is None else record.shape[axis]
    _expect(parts[3], 4 * channels, "scales")
    wide, kind = divmod(record.kind, 3)
    codebook = _codebook(kind, parts[2], entries)
    codes = _decoded(record, parts, entries)
    if not wide and codes.size and int(codes.max()) > 255:
        raise ContainerError(f"code {int(codes.max())} in an index of 8 bits; at most 255")
    flat: IndexArray = codes.astype(np.uint16) if wide else codes.astype(np.uint8)
    indices = flat.reshape(record.shape)
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
        if entries != 256:
            raise ContainerError(f"full int8 grid of {entries} entries; it has 256")
        return int8_codebook()
    _expect(data, entries * (4 if kind == _SHARED else 1), "codebook")
    if kind == _SHARED:
        return np.frombuffer(data, "<f4").astype(np.float32)
    return np.frombuffer(data, np.int8).copy()


def _expect(data: memoryview, size: int, what: str) -> None:
    if len(data) != size:
        raise ContainerError(f"{what} take {size} bytes, found {len(data)}")


def _split(payload: memoryview, sections: tuple[int, ...]) -> list[memoryview]:
    ends = itertools.accumulate(sections, initial=0)
    return [payload[a:b] for a, b in itertools.pairwise(ends)]
