"""Exact small forms of a tensor, as arrays: codes in bit planes, a bit mask, a codebook, a scale.

Pure arithmetic. A tensor becomes named parts, of which `unpack` gives it back to the last bit, by
the very steps that the operators of `unpacking` take in a graph:

    codes1, codes2, codes4   bit planes of the codes, so many bits each, first code highest
    codes8, codes16          whole codes
    nibbles                  codes of 4 bits in a type of their own
    mask                     a bit for each element, first highest: the codes (or `values`) are only
                             those of its ones, with a zero in front for its zeros
    book                     codebook; [0] is zero
    values                   the elements themselves
    scale                    float32, of a shape that multiplies the tensor

Planes and mask are filled up with zeros to a whole number of octets of elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
PARTS = (
    "codes1", "codes2", "codes4", "codes8", "codes16", "nibbles", "mask", "book", "values", "scale"
)  # fmt: skip
OCTET = 8
_PLANES = (4, 2, 1)
_MOST_CODES = 1 << 16


@dataclass(frozen=True, eq=False)
class Coded:
    """A tensor as `book[indices] * scale`, book[0] zero; `scale` None where there is none."""

    indices: Array
    book: Array
    scale: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Packed:
    """A tensor of `shape` in parts. `negative_zeros`: 0.0 must be added, for a scale gave -0.0."""

    shape: tuple[int, ...]
    parts: Mapping[str, Array]
    negative_zeros: bool = False

    @property
    def size(self) -> int:
        """How many elements."""
        return int(np.prod(self.shape, dtype=np.int64))


def forms(tensor: Array, coded: Coded | None, nibbles: bool = False) -> Iterator[Packed]:
    """Every packed form that gives `tensor` (float32 or int8) back, bit for bit.

    `coded`: what explains it, or None. `nibbles`: codes of 4 bits may stand in a type of their own.
    """
    shape = tensor.shape
    if coded is None:
        if tensor.dtype == np.float32:
            whole = _exact(tensor, Packed(shape, {"values": tensor}))
            yield from (form for form in whole if form.parts["values"].dtype == np.float16)
            yield from _exact(tensor, Packed(shape, _sparse_values(tensor)))
        return
    coded = _used(coded)
    bits = max(1, int(coded.book.size - 1).bit_length())
    flat = coded.indices.reshape(-1)
    own = nibbles and bits == 4
    extras: dict[str, Array] = {"book": coded.book if own else _filled(coded.book, bits)}
    if coded.scale is not None:
        extras["scale"] = coded.scale
    yield from _exact(tensor, Packed(shape, {**_planes(flat, bits, own), **extras}))
    kept = flat != 0
    if not kept.all():
        few = np.concatenate([np.zeros(1, flat.dtype), flat[kept]])
        parts = {"mask": np.packbits(kept), **_planes(few, bits, own), **extras}
        yield from _exact(tensor, Packed(shape, parts))
    if coded.book.dtype == np.int8 and coded.scale is not None:
        integers = coded.book[coded.indices]
        yield from _exact(tensor, Packed(shape, {"values": integers, "scale": coded.scale}))


def unpack(packed: Packed) -> Array:
    """The tensor, by the steps that the graph takes."""
    parts, count = packed.parts, packed.size
    if "mask" in parts:
        kept = np.unpackbits(parts["mask"])[:count].astype(np.int32)
        few = _looked_up(parts, int(kept.sum()) + 1)
        values = few[np.cumsum(kept, dtype=np.int32) * kept]
    else:
        values = _looked_up(parts, count)
    values = values.reshape(packed.shape)
    if "scale" in parts:
        values = values.astype(np.float32) * parts["scale"]
    return values + np.float32(0) if packed.negative_zeros else values


def plane_widths(bits: int) -> tuple[int, ...]:
    """The planes of codes of so many bits, highest first: 6 -> 4, 2."""
    assert 1 <= bits <= 16
    if bits >= 8:
        return (8 if bits == 8 else 16,)
    return tuple(width for width in _PLANES if bits & width)


def rows(width: int) -> Bytes:
    """(256, 8 / width): the codes of `width` bits that each byte holds, in order."""
    shifts = np.arange(8 - width, -1, -width, dtype=np.uint8)
    return np.arange(256, dtype=np.uint8)[:, None] >> shifts & np.uint8((1 << width) - 1)


def plane(codes: Bytes, width: int) -> Bytes:
    """Codes below 2**width, their number a multiple of 8, in bytes; the inverse of `rows`."""
    each = 8 // width
    packed = np.zeros(codes.size // each, np.uint8)
    for position in range(each):
        packed |= codes[position::each] << np.uint8(8 - width * (position + 1))
    return packed


def _planes(codes: Array, bits: int, nibbles: bool) -> dict[str, Array]:
    """The parts that hold `codes`."""
    if bits > 8:
        return {"codes16": codes.astype(np.uint16)}
    if bits == 8:
        return {"codes8": codes.astype(np.uint8)}
    if nibbles:
        return {"nibbles": codes.astype(ml_dtypes.uint4)}
    return {f"codes{width}": octets for width, octets in packed_planes(codes, bits).items()}


def packed_planes(codes: Array, bits: int) -> dict[int, Bytes]:
    """{width: plane} of codes of `bits` (1 to 7), highest first, filled up to octets of codes."""
    filled = np.zeros(-(-codes.size // OCTET) * OCTET, np.uint8)
    filled[: codes.size] = codes
    found: dict[int, Bytes] = {}
    below = bits
    for width in plane_widths(bits):
        below -= width
        part = filled >> np.uint8(below) & np.uint8((1 << width) - 1)
        found[width] = plane(part, width)
    return found


def _looked_up(parts: Mapping[str, Array], count: int) -> Array:
    """The first `count` elements before mask and scale, flat."""
    if "values" in parts:
        values = parts["values"].reshape(-1)[:count]
        return values.astype(np.float32) if values.dtype == np.float16 else values
    codes = np.zeros(count, np.int32)
    for name in ("nibbles", "codes8", "codes16"):
        if name in parts:
            codes = parts[name].reshape(-1)[:count].astype(np.int32)
    for width in _PLANES:
        if f"codes{width}" in parts:
            part = rows(width)[parts[f"codes{width}"]].reshape(-1)[:count]
            codes = codes << width | part
    book = parts["book"]
    return (book.astype(np.float32) if book.dtype == np.float16 else book)[codes]


def _sparse_values(tensor: NDArray[np.float32]) -> dict[str, Array]:
    """Mask and the elements that are not +0.0 (-0.0 is kept: it has other bits)."""
    flat = np.ascontiguousarray(tensor).reshape(-1)
    kept = flat.view(np.uint32) != 0
    return {
        "mask": np.packbits(kept),
        "values": np.concatenate([np.zeros(1, np.float32), flat[kept]]),
    }


def _filled(book: Array, bits: int) -> Array:
    """A lone plane's book has all 2**bits entries, for the values of every byte are looked up."""
    size = 1 << bits if bits in _PLANES else book.size
    return np.concatenate([book, np.zeros(size - book.size, book.dtype)])


def _used(coded: Coded) -> Coded:
    """Without the codes that no element has; code 0 stays."""
    assert coded.book.size <= _MOST_CODES
    counts = np.bincount(coded.indices.reshape(-1), minlength=coded.book.size)
    used = counts > 0
    used[0] = True
    places = (np.cumsum(used) - 1).astype(np.uint16)
    return replace(coded, indices=places[coded.indices], book=coded.book[used])


def _exact(tensor: Array, packed: Packed) -> Iterator[Packed]:
    """`packed`, its floats halved where that is exact, with 0.0 to add where that makes it exact.

    Nothing where it cannot be exact.
    """
    parts = dict(packed.parts)
    for name in ("book", "values"):
        if name in parts and parts[name].dtype == np.float32:
            half = as_half(parts[name])
            parts[name] = parts[name] if half is None else half
    for zeros in (False, True) if "scale" in parts else (False,):
        found = replace(packed, parts=parts, negative_zeros=zeros)
        if same_bits(unpack(found), tensor):
            yield found
            return


def as_half(values: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """`values` as float16 where that is exact, bit for bit."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if same_bits(half.astype(np.float32), values) else None


def same_bits(first: Array, second: Array) -> bool:
    """True for the same type, shape and bytes: 0.0 is not -0.0."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    return np.array_equal(_raw(first), _raw(second))


def _raw(values: Array) -> Bytes:
    return cast("Bytes", np.ascontiguousarray(values).reshape(-1).view(np.uint8))
