"""The lengths of a canonical code in few bits: what a decoder has to know beforehand.

One bit 1 and a symbol in bit_length(alphabet - 1) bits: that symbol alone. Else one bit 0 and,
until the code is complete, one of

    0                               the next symbol's word is as long as the one before
    1 0 sign gamma(|difference|)    it is longer (sign 0) or shorter (sign 1)
    1 1 gamma(run)                  the next `run` symbols have no word

with Elias's gamma code, "the one before" starting at bit_length(alphabet - 1), at least 1 and at
most 15. Symbols after the last one with a word are not written, since a complete code has no room
for them. Weights' clusters have words of much the same length as their neighbours', so this takes
about two and a half bits a symbol.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.coding.bits import BitReader, BitWriter
from compress.coding.package_merge import MAX_LENGTH
from compress.errors import ContainerError

_FULL = 1 << MAX_LENGTH
_TOO_MANY = "more words than their lengths leave room for"


def lengths_problem(lengths: NDArray[np.uint8]) -> str | None:
    """What keeps `lengths` from being a code of words of at most 15 bits; None for a code.

    Complete codes only (sum of 2**-length = 1), so that any bits decode to something; no word at
    all, and one word of length 1, are codes too.
    """
    if lengths.ndim != 1 or (lengths.size and int(lengths.max()) > MAX_LENGTH):
        return f"a word longer than {MAX_LENGTH} bits"
    used = lengths[lengths > 0].astype(np.int64)
    share = int((_FULL >> used).sum())
    if share > _FULL:
        return _TOO_MANY
    if share < _FULL and used.size and not (used.size == 1 and used[0] == 1):
        return "bit patterns that are no word"
    return None


def write_table(lengths: NDArray[np.uint8]) -> bytes:
    """The table of a valid code with at least one word."""
    assert lengths_problem(lengths) is None
    assert lengths.any()
    return _written(lengths).to_bytes()


def table_bytes(lengths: NDArray[np.uint8]) -> int:
    """Size of write_table(lengths)."""
    return (_written(lengths).bit_count + 7) // 8


def read_table(data: bytes | memoryview, alphabet: int) -> tuple[NDArray[np.uint8], int]:
    """(lengths, offset after the table), from the start of `data`.

    Raises ContainerError for a table that is cut off, has words longer than 15 bits, or is no
    complete code. Any lengths that come back are a code.
    """
    reader = BitReader(data)
    lengths = np.zeros(alphabet, np.uint8)
    if reader.read(1):
        symbol = reader.read((alphabet - 1).bit_length())
        if symbol >= alphabet:
            raise _damaged(f"symbol {symbol} of an alphabet of {alphabet}")
        lengths[symbol] = 1
        return lengths, reader.end()
    length, symbol, room = _first_guess(alphabet), 0, _FULL
    while room > 0:
        # As long as the one before: many in one go, but no more than there is room for.
        alike = reader.read_zeros(room * (1 << length) // _FULL)
        symbol, room = _place(lengths, symbol, length, alike), room - alike * (_FULL >> length)
        if room == 0:
            break
        if not reader.read(1):
            raise _damaged(_TOO_MANY)
        if reader.read(1):
            symbol += reader.read_gamma(alphabet)
            continue
        sign = -1 if reader.read(1) else 1
        length += sign * reader.read_gamma(MAX_LENGTH)
        if not 1 <= length <= MAX_LENGTH:
            raise _damaged(f"a word of {length} bits, allowed are 1 to {MAX_LENGTH}")
        symbol, room = _place(lengths, symbol, length, 1), room - (_FULL >> length)
    if room < 0:
        raise _damaged(_TOO_MANY)
    return lengths, reader.end()


def _written(lengths: NDArray[np.uint8]) -> BitWriter:
    writer = BitWriter()
    used = np.flatnonzero(lengths)
    if used.size == 1:
        writer.write(1, 1)
        writer.write(int(used[0]), (lengths.size - 1).bit_length())
        return writer
    writer.write(0, 1)
    previous, following = _first_guess(lengths.size), 0
    for symbol, length in zip(used.tolist(), lengths[used].tolist(), strict=True):
        if symbol > following:
            writer.write(0b11, 2)
            writer.write_gamma(symbol - following)
        if length == previous:
            writer.write(0, 1)
        else:
            writer.write(0b100 if length > previous else 0b101, 3)
            writer.write_gamma(abs(length - previous))
        previous, following = length, symbol + 1
    return writer


def _place(lengths: NDArray[np.uint8], symbol: int, length: int, number: int) -> int:
    if number and symbol + number > lengths.size:
        raise _damaged(f"words for more than the {lengths.size} symbols of the alphabet")
    lengths[symbol : symbol + number] = length
    return symbol + number


def _first_guess(alphabet: int) -> int:
    return min(max((alphabet - 1).bit_length(), 1), MAX_LENGTH)


def _damaged(what: str) -> ContainerError:
    return ContainerError(f"code table is damaged: {what}; get the file again")
