"""Small arrays, bit for bit, in as few bytes as a handful of ways gives: biases, codebooks, scales.

The first byte says which way; the number of values and their type are the caller's to know.

    ZEROS, ONES  nothing more
    CONSTANT     one value for all
    RAW          the values, little-endian
    INTEGERS     integers: their least, their spread (both varints, the first signed), and what
                 lies above the least: the length of Huffman words and the words, or, where that is
                 smaller, length 0 and as many bits for each as the spread has
    STEPS        integers: the first, then INTEGERS of the steps between neighbours; so a range or
                 a grid takes five bytes. Bytes (int8) step around the circle of 256
    GRID         float32 that are float32(step * k): the step, then k as INTEGERS
    LADDER       the same, then k as STEPS
    SPLIT        float32: exponents as Huffman words, signs (none where all are alike) and the
                 mantissas' bits as they are, without those at the end that are zero throughout

SPLIT takes trained float32 values at about 27 bits, values of float16's or bfloat16's precision
at about 14 and 11, and any bits at all: -0.0, subnormals and NaN come back as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding.bits import pack_uints, unpack_uints, write_varint
from compress.coding.cursor import Cursor, write_signed
from compress.coding.grids import even_grid, on_grid
from compress.coding.huffman import MAX_ALPHABET, MAX_LENGTH, pack, unpack
from compress.errors import ContainerError

ZEROS, ONES, CONSTANT, RAW, INTEGERS, STEPS, GRID, LADDER, SPLIT = range(9)
_BLOCK = 1 << 16
_MANTISSA = 23
_PLUS, _MINUS, _SIGNED = range(3)
_LARGEST_INT = 1 << 61

Array = NDArray[Any]


def pack_array(values: Array, quick: bool = False) -> bytes:
    """One axis of float32, float16, float64, int8, int32 or int64; equal arrays, equal bytes.

    quick: to read, and so without SPLIT.
    """
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    ways: list[bytes] = [bytes([RAW]) + little.tobytes()]
    if values.size == 0:
        return ways[0]
    if not np.any(_bytes(little) != _bytes(little[:1])):
        ways.append(_constant(little))
    if values.dtype.kind == "i":
        ways += _integer_ways(_circle(values))
    elif values.dtype == np.float32:
        ways += _float_ways(little, quick)
    return min(ways, key=len)


def unpack_array(cursor: Cursor, dtype: np.dtype[Any], count: int) -> Array:
    """The `count` values of `pack_array`, in the machine's byte order; ContainerError for damage.

    Apart from ZEROS, ONES and CONSTANT, whose `count` is the caller's to bound, memory is taken
    only for values that the bytes can hold.
    """
    way = cursor.byte()
    if way in (ZEROS, ONES):
        return np.full(count, way == ONES, dtype)
    little = dtype.newbyteorder("<")
    if way in (CONSTANT, RAW):
        read = 1 if way == CONSTANT else count
        found = np.frombuffer(cursor.take(read * dtype.itemsize), little).astype(dtype)
        return found if way == RAW else np.repeat(found, count)
    reader = _READERS.get((way, dtype.kind if dtype.kind == "i" else dtype.name))
    if reader is None:
        raise _damaged(f"way {way} for values of type {dtype}")
    return reader(cursor, count).astype(dtype, copy=False)


def _constant(values: Array) -> bytes:
    for way, value in ((ZEROS, 0), (ONES, 1)):
        if values[:1].tobytes() == np.array(value, values.dtype).tobytes():
            return bytes([way])
    return bytes([CONSTANT]) + values[:1].tobytes()


def _bytes(values: Array) -> NDArray[np.uint8]:
    """(values, bytes of each), so that -0.0 and NaN compare by their bits."""
    raw = np.ascontiguousarray(values).view(np.uint8)
    return raw.reshape(values.size, values.dtype.itemsize)


# -- integers ---------------------------------------------------------------------------------


def _circle(values: Array) -> NDArray[np.int64]:
    """Wider integers as they are, bytes as 0 to 255: a full grid then has steps of one."""
    return (values.view(np.uint8) if values.dtype == np.int8 else values).astype(np.int64)


def _integer_ways(values: NDArray[np.int64]) -> Iterator[bytes]:
    for way, write in ((INTEGERS, _write_integers), (STEPS, _write_steps)):
        data = write(values)
        if data is not None:
            yield bytes([way]) + data


def _write_integers(values: NDArray[np.int64]) -> bytes | None:
    """None where their spread is too wide for a code."""
    least, most = int(values.min()), int(values.max())
    if most - least >= MAX_ALPHABET or max(abs(least), abs(most)) > _LARGEST_INT:
        return None
    above = values - least
    if np.count_nonzero(np.bincount(above, minlength=1)) > 1 << MAX_LENGTH:
        return None
    head = write_signed(least) + write_varint(most - least)
    if most == least:
        return head
    words = pack(above, most - least + 1)
    plain = pack_uints(above, (most - least).bit_length())
    return head + min(write_varint(len(words)) + words, b"\0" + plain, key=len)


def _read_integers(cursor: Cursor, count: int) -> NDArray[np.int64]:
    least, spread = cursor.signed(), cursor.varint()
    if spread >= MAX_ALPHABET:
        raise _damaged(f"integers that spread over {spread}, at most {MAX_ALPHABET - 1}")
    if spread == 0:
        return np.full(count, least, np.int64)
    length, width = cursor.varint(), spread.bit_length()
    if length:
        return unpack(cursor.take(length), count, spread + 1).astype(np.int64) + least
    plain = cursor.take((count * width + 7) // 8)
    return unpack_uints(plain, width, count).astype(np.int64) + least


def _write_steps(values: NDArray[np.int64]) -> bytes | None:
    if values.size < 2 or int(np.abs(values).max()) > _LARGEST_INT:
        return None
    steps = _write_integers(np.diff(values))
    return None if steps is None else write_signed(int(values[0])) + steps


def _read_steps(cursor: Cursor, count: int) -> NDArray[np.int64]:
    first = cursor.signed()
    if count < 2:
        raise _damaged(f"steps between {count} values")
    return np.cumsum(np.append(np.int64(first), _read_integers(cursor, count - 1)))


def _sized(data: bytes, there: bool) -> bytes:
    return write_varint(len(data)) + data if there else b""


# -- float32 ----------------------------------------------------------------------------------


def _float_ways(values: NDArray[np.float32], quick: bool) -> Iterator[bytes]:
    if not quick:
        yield bytes([SPLIT]) + _write_split(values)
    found = even_grid(values)
    if found is not None:
        step, multiples = found
        for way, write in ((GRID, _write_integers), (LADDER, _write_steps)):
            data = write(multiples)
            if data is not None:
                yield bytes([way]) + np.array(step, "<f4").tobytes() + data


def _read_grid(cursor: Cursor, count: int) -> NDArray[np.float32]:
    return _scaled(cursor, count, _read_integers)


def _read_ladder(cursor: Cursor, count: int) -> NDArray[np.float32]:
    return _scaled(cursor, count, _read_steps)


def _scaled(
    cursor: Cursor, count: int, read: Callable[[Cursor, int], NDArray[np.int64]]
) -> NDArray[np.float32]:
    step = np.frombuffer(cursor.take(4), "<f4")[0]
    multiples = read(cursor, count)
    if not np.isfinite(step) or (count and int(np.abs(multiples).max()) >= MAX_ALPHABET):
        raise _damaged(f"a grid of step {step}")
    with np.errstate(over="ignore"):
        return on_grid(np.float32(step), multiples)


def _write_split(values: NDArray[np.float32]) -> bytes:
    """One byte: mantissa bits left out + 32 * signs; the least exponent and their spread, a byte
    each; Huffman words of the exponents; then signs and mantissas, packed."""
    bits = values.view(np.uint32)
    tails = bits & ((1 << _MANTISSA) - 1)
    exponents = (bits >> _MANTISSA).astype(np.uint8)  # without the sign above it
    minus = np.signbit(values)
    signs = _SIGNED if minus.any() and not minus.all() else int(minus[0])
    used = int(np.bitwise_or.reduce(tails))
    spare = (used & -used).bit_length() - 1 if used else _MANTISSA
    tails >>= spare
    width = _MANTISSA - spare
    if signs == _SIGNED:
        tails |= minus.astype(np.uint32) << width
        width += 1
    least, spread = int(exponents.min()), int(np.ptp(exponents))
    words = pack(exponents - least, spread + 1) if spread else b""
    head = bytes([spare | signs << 5, least, spread])
    return head + _sized(words, bool(spread)) + pack_uints(tails, width)


def _read_split(cursor: Cursor, count: int) -> NDArray[np.float32]:
    signs, spare = divmod(cursor.byte(), 32)
    least, spread = cursor.byte(), cursor.byte()
    if signs > _SIGNED or spare > _MANTISSA or least + spread > 0xFF:
        raise _damaged(f"floats of sign {signs}, {spare} spare bits, exponents {least} + {spread}")
    width = _MANTISSA - spare + (signs == _SIGNED)
    words = cursor.take(cursor.varint()) if spread else b""
    tails = unpack_uints(cursor.take((count * width + 7) // 8), width, count)
    exponents = unpack(words, count, spread + 1) if spread else np.zeros(count, np.uint8)
    for start in range(0, count, _BLOCK):  # where the tails are: a net may be one such array
        part = tails[start : start + _BLOCK]
        bits = exponents[start : start + _BLOCK].astype(np.uint32) + np.uint32(least)
        if signs == _SIGNED:
            bits |= (part >> (_MANTISSA - spare)) << 8
            part &= (1 << (_MANTISSA - spare)) - 1
        elif signs == _MINUS:
            bits |= 1 << 8
        part <<= spare
        part |= bits << _MANTISSA
    return tails.view(np.float32)


_READERS: dict[tuple[int, str], Callable[[Cursor, int], Array]] = {
    (INTEGERS, "i"): _read_integers,
    (STEPS, "i"): _read_steps,
    (GRID, "float32"): _read_grid,
    (LADDER, "float32"): _read_ladder,
    (SPLIT, "float32"): _read_split,
}


def _damaged(what: str) -> ContainerError:
    return ContainerError(f"packed values are damaged: {what}; get the file again")
