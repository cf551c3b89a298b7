"""Bits in bytes: the one bit order of the container, most significant bit first.

The first bit written is the highest bit of the first byte, and a stream is padded with
zero bits to a whole byte. So a dump of the bytes in binary reads as the code words in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import ContainerError, RangeError

_MAX_WIDTH = 32
_BLOCK = 1 << 16
_AHEAD_BYTES = 64
_VARINT_BYTES = 9  # 63 bits: every length and offset of a file fits


def pack_uints(values: NDArray[np.integer[Any]], width: int) -> bytes:
    """Unsigned integers, `width` bits each (0 to 32), as ceil(n * width / 8) bytes.

    Raises RangeError if a value does not fit into `width` bits.
    """
    _check_width(width)
    if values.size == 0 or (width == 0 and not values.any()):
        return b""
    if int(values.min()) < 0 or int(values.max()) >> width:
        raise RangeError(
            f"values {int(values.min())} to {int(values.max())} do not fit into {width} bits: "
            f"allowed are 0 to {(1 << width) - 1}; use a greater width"
        )
    parts: list[bytes] = []
    for start in range(0, values.size, _BLOCK):  # a bit takes a byte here: bound the blow-up
        block = values[start : start + _BLOCK].astype(">u4").view(np.uint8).reshape(-1, 4)
        parts.append(np.packbits(np.unpackbits(block, axis=1)[:, _MAX_WIDTH - width :]).tobytes())
    return b"".join(parts)


def unpack_uints(data: bytes | memoryview, width: int, count: int) -> NDArray[np.uint32]:
    """The inverse of pack_uints: `count` integers of `width` bits.

    Raises ContainerError unless `data` has exactly the length that pack_uints writes and its
    padding bits are zero.
    """
    _check_width(width)
    _check_count(count)
    expected = (count * width + 7) // 8
    if len(data) != expected:
        raise ContainerError(
            f"packed integers are damaged: {count} values of {width} bits take {expected} bytes, "
            f"found {len(data)}; get the file again"
        )
    check_padding(data, count * width)
    values = np.zeros(count, np.uint32)
    source = np.frombuffer(data, np.uint8)
    for start in range(0, count if width else 0, _BLOCK):
        size = min(_BLOCK, count - start)
        first = start * width // 8  # whole, since _BLOCK is a multiple of 8
        raw = source[first : first + (size * width + 7) // 8]
        block = np.zeros((size, _MAX_WIDTH), np.uint8)
        block[:, _MAX_WIDTH - width :] = np.unpackbits(raw, count=size * width).reshape(size, width)
        values[start : start + size] = np.packbits(block, axis=1).view(">u4")[:, 0]
    return values


def check_padding(data: bytes | memoryview, used_bits: int) -> None:
    """Raise ContainerError unless `used_bits` end in the last byte of `data`, then only zeros."""
    spare = 8 * len(data) - used_bits
    if not 0 <= spare < 8:
        raise ContainerError(
            f"bit stream is damaged: {used_bits} bits are used, {len(data)} bytes found; "
            "get the file again"
        )
    if spare and data[-1] & ((1 << spare) - 1):
        raise ContainerError("bit stream is damaged: padding bits are not zero; get the file again")


def write_varint(value: int) -> bytes:
    """A non-negative integer below 2**63 in base 128, least significant group first (LEB128)."""
    if not 0 <= value < 1 << (7 * _VARINT_BYTES):
        raise RangeError(f"varint of {value}: allowed are 0 to {(1 << (7 * _VARINT_BYTES)) - 1}")
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def read_varint(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    """(value, offset of the next byte). Only the shortest form is read.

    Raises ContainerError if the data end within it, it is longer than 9 bytes, or it has
    superfluous zero groups.
    """
    value = 0
    for index, byte in enumerate(data[offset : offset + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                break
            return value, offset + index + 1
    raise ContainerError(
        f"integer at byte {offset} is cut off, too long or not in its shortest form; "
        "get the file again"
    )


class BitWriter:
    """Bits one field at a time: for headers, where speed does not matter."""

    def __init__(self) -> None:
        self._value = 0
        self._bits = 0
        self._done = bytearray()

    def write(self, value: int, width: int) -> None:
        """Append the low `width` bits of `value`, which must be below 2**width."""
        assert 0 <= value < 1 << width
        self._value = self._value << width | value
        self._bits += width
        whole, self._bits = divmod(self._bits, 8)
        self._done += (self._value >> self._bits).to_bytes(whole, "big")
        self._value &= (1 << self._bits) - 1

    def write_gamma(self, value: int) -> None:
        """Append `value` >= 1 in Elias's gamma code: its length in unary, then its bits."""
        width = value.bit_length()
        assert width > 0
        self.write(value, 2 * width - 1)

    @property
    def bit_count(self) -> int:
        return 8 * len(self._done) + self._bits

    def to_bytes(self) -> bytes:
        """All bits so far, padded with zeros to a whole byte."""
        tail = bytes([self._value << (8 - self._bits)]) if self._bits else b""
        return bytes(self._done) + tail


class BitReader:
    """The inverse of BitWriter. Reading past the end raises ContainerError."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data
        self._position = 0
        # Read ahead: the bits up to `_loaded`, of which those before `_position` count no more.
        self._ahead = 0
        self._loaded = 0

    def read(self, width: int) -> int:
        end = self._position + width
        if end > self._loaded:
            self._load(end)
        self._position = end
        return self._ahead >> (self._loaded - end) & ((1 << width) - 1)

    def read_zeros(self, most: int) -> int:
        """Pass over zero bits up to the next one bit, at most `most`; how many."""
        passed = 0
        while passed < most:
            if self._position == self._loaded:
                self._load(self._position + 1)
            left = self._loaded - self._position
            zeros = left - (self._ahead & ((1 << left) - 1)).bit_length()
            taken = min(zeros, most - passed)
            self._position += taken
            passed += taken
            if zeros < left:
                break
        return passed

    def read_gamma(self, limit: int) -> int:
        """An integer of 1 to `limit` in Elias's gamma code; ContainerError if greater."""
        zeros = self.read_zeros(limit.bit_length())
        if zeros < limit.bit_length():
            value = self.read(zeros + 1)
            if value <= limit:
                return value
        raise ContainerError(
            f"bit stream is damaged: a number above {limit}, the allowed limit; get the file again"
        )

    def _load(self, end: int) -> None:
        """Have the bits up to `end` at least."""
        if end > 8 * len(self._data):
            raise ContainerError(
                f"bit stream is cut off: {end} bits needed, {8 * len(self._data)} found; "
                "get the file again"
            )
        first = self._position // 8
        ahead = self._data[first : max(first + _AHEAD_BYTES, (end + 7) // 8)]
        self._ahead = int.from_bytes(ahead, "big")
        self._loaded = 8 * (first + len(ahead))

    def end(self) -> int:
        """Pass over the zero bits up to the next byte; its offset."""
        stop = (self._position + 7) // 8
        check_padding(self._data[:stop], self._position)
        return stop


class CodeSink:
    """Concatenates variable-length codes into a bit stream of known size, vectorised."""

    def __init__(self, total_bits: int) -> None:
        # One word more than the bits need, for the (empty) overflow of the last one.
        self._words = np.zeros(total_bits // 64 + 2, np.uint64)
        self._total = total_bits
        self._position = 0

    def append(self, codes: NDArray[np.uint64], lengths: NDArray[np.uint64]) -> None:
        """Append codes[i] in lengths[i] bits (0 to 16; a code of length 0 must be 0)."""
        # Four codes of at most 16 bits fit a word, and a quarter of them is left to scatter.
        for _ in range(2):
            if codes.size % 2:
                codes, lengths = np.append(codes, np.uint64(0)), np.append(lengths, np.uint64(0))
            codes = codes[0::2] << lengths[1::2] | codes[1::2]
            lengths = lengths[0::2] + lengths[1::2]
        ends = np.cumsum(lengths) + np.uint64(self._position)
        starts = ends - lengths
        word = (starts >> np.uint64(6)).view(np.int64)
        offset = starts & np.uint64(63)
        # & 63: a shift by the whole word is undefined, and harmless for an empty code.
        top = codes << ((np.uint64(64) - lengths) & np.uint64(63))
        low = top << np.uint64(1) << (np.uint64(63) - offset)
        first = np.flatnonzero(np.diff(word, prepend=-1))
        self._words[word[first]] |= np.bitwise_or.reduceat(top >> offset, first)
        self._words[word[first] + 1] |= np.bitwise_or.reduceat(low, first)
        self._position = int(ends[-1]) if ends.size else self._position
        assert self._position <= self._total

    def to_bytes(self) -> bytes:
        """The stream, padded with zero bits to a whole byte."""
        assert self._position == self._total
        return self._words.astype(">u8").tobytes()[: (self._total + 7) // 8]


def _check_width(width: int) -> None:
    if not 0 <= width <= _MAX_WIDTH:
        raise RangeError(f"width of {width} bits: allowed are 0 to {_MAX_WIDTH}")


def _check_count(count: int) -> None:
    if count < 0:
        raise RangeError(f"count of {count}: allowed are 0 and more")
