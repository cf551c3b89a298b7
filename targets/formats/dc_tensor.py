"""One tensor in the Deep Compression container: a record in the index, bytes in the payload.

Forms: PLAIN (the array), MASKED (which weights are kept, and their float32 values), ENCODED
(codebook, scales and the codes; Han et al. 2016, sections 2 to 4). Every length is checked against
what the tensor's shape allows before memory is taken. Knows numpy only.

    PLAIN    values
    MASKED   varint: kept weights; their values; ones and zeros as codes
    ENCODED  varint: entries of the codebook; codebook; scales; codes

Values, codebook and scales as arrays.py has them, codes as dc_codes.py has them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.coding.arrays import pack_array, unpack_array
from compress.coding.bits import write_varint
from compress.coding.cursor import Cursor
from compress.coding.huffman import MAX_LENGTH
from compress.encoding import Encoded, Encoding, IndexArray, Masked
from compress.errors import ContainerError, EncodingError, ExportError, RangeError
from targets.formats.dc_codes import CodeBytes, measure_codes, read_codes, write_codes
from targets.formats.dc_record import (
    DTYPES,
    ENCODED,
    FLOAT32,
    MASKED,
    MAX_DIMS,
    MAX_ELEMENTS,
    MAX_NAME_BYTES,
    PLAIN,
    Record,
)

# Words have at most 15 bits, so a Huffman code has no more of them.
_MAX_CODES = 1 << MAX_LENGTH
# Codes of a mask: pruned and kept.
_PLACES = np.array([0, 1], np.int8)
_INT8 = np.dtype(np.int8)


class TensorBytes(NamedTuple):
    """What a tensor's payload is made of: values, codebook and scales; and codes, if it has any."""

    value_bytes: int
    codes: CodeBytes | None


def encode_tensor(
    name: str, array: NDArray[Any], encoding: Encoding | None, quick: bool = False
) -> tuple[Record, bytes]:
    """The record and the payload of one tensor, `quick` to decode or as small as it can be.

    Raises ExportError for what has no form here.
    """
    _check_writable(name, array, encoding)
    if encoding is None:
        payload = pack_array(array.reshape(-1))
        return Record(
            name, PLAIN, array.shape, len(payload), array.dtype.newbyteorder("=")
        ), payload
    if isinstance(encoding, Masked):
        kept = array[encoding.mask]
        codes = write_codes(encoding.mask.astype(np.uint8), _PLACES, quick)
        payload = write_varint(kept.size) + pack_array(kept) + codes
        return Record(name, MASKED, array.shape, len(payload)), payload
    entries = encoding.codebook.size
    values = pack_array(encoding.codebook, quick) + pack_array(encoding.scale)
    codes = write_codes(encoding.indices, encoding.codebook, quick)
    payload = write_varint(entries) + values + codes
    record = Record(
        name,
        ENCODED,
        array.shape,
        len(payload),
        on_integers=encoding.on_integers,
        wide=encoding.indices.dtype == np.uint16,
        axis=encoding.axis,
    )
    return record, payload


def decode_tensor(record: Record, payload: memoryview) -> tuple[NDArray[Any], Encoding | None]:
    """The array and its encoding, bit for bit as `encode_tensor` got them."""
    try:
        values, codes = taken_apart(record, payload)
        if codes is None:
            return values[0].reshape(record.shape), None
        if record.form == MASKED:
            return _masked(record, values[0], codes)
        encoding = _encoded(record, values, codes)
        return encoding.decode(), encoding
    except (ContainerError, EncodingError, RangeError, ValueError) as error:
        raise ContainerError(f"tensor {record.name!r} is damaged: {error}") from error


def measure_tensor(record: Record, payload: memoryview) -> TensorBytes:
    """What the bytes of a tensor are spent on; its codes are not decoded."""
    try:
        _, codes = taken_apart(record, payload)
        if codes is None:
            return TensorBytes(len(payload), None)
        return TensorBytes(len(payload) - len(codes), measure_codes(codes))
    except (ContainerError, EncodingError, RangeError, ValueError) as error:
        raise ContainerError(f"tensor {record.name!r} is damaged: {error}") from error


def taken_apart(
    record: Record, payload: memoryview
) -> tuple[list[NDArray[Any]], memoryview | None]:
    """(values; or codebook and scales, codes as they are coded: None where there are none)."""
    cursor = Cursor(payload, "its bytes")
    if record.form == PLAIN:
        values = [unpack_array(cursor, record.dtype, record.size)]
        cursor.end()
        return values, None
    count = cursor.varint()
    if record.form == MASKED:
        if count > record.size:
            raise ContainerError(f"{count} kept weights of {record.size}")
        return [unpack_array(cursor, FLOAT32, count)], cursor.rest()
    if not 1 <= count <= 1 << 16:
        raise ContainerError(f"codebook of {count} entries; 1 to 65536 are allowed")
    codebook = unpack_array(cursor, _INT8 if record.on_integers else FLOAT32, count)
    channels = 1 if record.axis is None else record.shape[record.axis]
    scale = unpack_array(cursor, FLOAT32, channels)
    return [codebook, scale], cursor.rest()


def _masked(
    record: Record, kept: NDArray[np.float32], codes: memoryview
) -> tuple[NDArray[Any], Masked]:
    mask = read_codes(codes, record.shape, 2).astype(np.bool_)
    if kept.size != np.count_nonzero(mask):
        raise ContainerError(f"{kept.size} kept weights for {np.count_nonzero(mask)} places")
    array = np.zeros(record.shape, np.float32)
    array[mask] = kept
    return array, Masked(mask)


def _encoded(record: Record, values: list[NDArray[Any]], codes: memoryview) -> Encoded:
    codebook, scale = values
    indices = read_codes(codes, record.shape, codebook.size)
    if not record.wide and indices.size and int(indices.max()) > 255:
        raise ContainerError(f"code {int(indices.max())} in an index of 8 bits; at most 255")
    wide = indices.astype(np.uint16, copy=False) if record.wide else None
    own: IndexArray = indices.astype(np.uint8, copy=False) if wide is None else wide
    return Encoded(own, codebook, scale, record.axis)


def _check_writable(name: str, array: NDArray[Any], encoding: Encoding | None) -> None:
    """What the reader would refuse is not written."""
    fits = array.size <= MAX_ELEMENTS and array.ndim <= MAX_DIMS
    if not fits or "\n" in name or not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        raise ExportError(
            f"tensor {name[:80]!r} of shape {array.shape} does not fit the container: at most "
            f"{MAX_ELEMENTS:,} elements, {MAX_DIMS} axes and names of one line and 1 to "
            f"{MAX_NAME_BYTES} bytes"
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
