"""Planes: the code words of a stream, cut where words end, so that arrays decode them at once.

Symbols come in blocks of 2**16. Of a block there is first the beginning of every word, as many
bits as the shortest words have; then, of the words that are not yet complete and in the same
order, the bits up to the next length that words have; and so on. All is one bit stream, most
significant bit first, without a gap. It takes the bits of the words and no more; nothing says
where a part begins, since the parts before it tell. This is the Huffman-shaped wavelet tree
(Grossi, Gupta and Vitter, SODA 2003), level by level, its single steps taken together.

A decoder goes through a block once for each length, in whole arrays, where lanes.py needs
thousands of steps of a few symbols each: so numpy alone decodes 100 million symbols a second. In
the words of one length canonical codes count up, so a word is complete if its number is below a
limit, and the number less the limit begins the longer ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.coding import compiled
from compress.coding.bits import CodeSink, check_padding
from compress.coding.lanes import Symbols, canonical_order
from compress.errors import ContainerError

_BLOCK = 1 << 16  # part of the format


class _Step(NamedTuple):
    """bits: so many more of each word; symbols: of the words that end with them, in order."""

    bits: int
    symbols: NDArray[np.int64]


def write_planes(
    symbols: NDArray[np.integer[Any]],
    codes: NDArray[np.uint32],
    lengths: NDArray[np.uint8],
    total_bits: int,
) -> bytes:
    """The body of at least one symbol, whose words take `total_bits` together."""
    sink = CodeSink(total_bits)
    words, widths = codes.astype(np.uint64), lengths.astype(np.int64)
    for low in range(0, symbols.size, _BLOCK):
        left = symbols[low : low + _BLOCK].astype(np.intp)
        ended = 0
        for step in _steps(lengths):
            ended += step.bits
            # Of each symbol's word, what this step takes.
            parts = words >> np.maximum(widths - ended, 0).astype(np.uint64)
            parts &= np.uint64((1 << step.bits) - 1)
            sink.append(parts[left], np.full(left.size, step.bits, np.uint64))
            left = left[widths[left] > ended]
            if left.size == 0:
                break
    return sink.to_bytes()


def read_planes(body: bytes | memoryview, lengths: NDArray[np.uint8], count: int) -> Symbols:
    """The `count` >= 1 symbols of a body, from a complete code of at least two words.

    Memory: the symbols and about 2 MB. Raises ContainerError for a body that cannot hold them,
    before they are allocated, and for one that goes on behind them.
    """
    steps = _steps(lengths)
    if count * steps[0].bits > 8 * len(body):
        raise _cut_off(len(body), count)
    symbols: Symbols = np.empty(count, np.uint8 if lengths.size <= 256 else np.uint16)
    read = _read_compiled if compiled.worth_it(count) else _read_arrays
    check_padding(body, read(np.frombuffer(body, np.uint8), steps, symbols))
    return symbols


def _steps(lengths: NDArray[np.uint8]) -> list[_Step]:
    order, widths = canonical_order(lengths)
    steps: list[_Step] = []
    before = low = 0
    for width, number in enumerate(np.bincount(widths).tolist()):
        if number:
            steps.append(_Step(width - before, order[low : low + number]))
            before, low = width, low + number
    return steps


def _read_arrays(raw: NDArray[np.uint8], steps: list[_Step], symbols: Symbols) -> int:
    """Fill `symbols`; the number of bits that they took."""
    tables = [(step.bits, step.symbols.astype(symbols.dtype)) for step in steps]
    position = 0
    for low in range(0, symbols.size, _BLOCK):
        block = symbols[low : low + _BLOCK]
        places: NDArray[np.intp] | None = None
        words = np.zeros(block.size, np.uint16)
        for bits, table in tables:
            end = position + words.size * bits
            if end > 8 * raw.size:
                raise _cut_off(raw.size, symbols.size)
            words <<= np.uint16(bits)
            words |= _fields(raw, position, words.size, bits)
            position = end
            # Wrong for the words that go on: their symbols come later. "clip" only meets those.
            found = table.take(words, mode="clip")
            if places is None:
                block[:] = found
            else:
                block[places] = found
            longer = np.flatnonzero(words >= table.size)
            if longer.size == 0:
                break
            places = longer if places is None else places.take(longer)
            words = words.take(longer)
            words -= np.uint16(table.size)
    return position


def _fields(raw: NDArray[np.uint8], position: int, count: int, bits: int) -> Symbols:
    """`count` numbers of so many bits (1 to 15), from the bit at `position` on."""
    stretch = raw[position >> 3 : (position + count * bits + 7) >> 3]
    planes = np.unpackbits(stretch)[position & 7 :][: count * bits].reshape(count, bits)
    fields: Symbols = planes[:, 0].astype(np.uint8 if bits <= 8 else np.uint16)
    for bit in range(1, bits):
        fields <<= fields.dtype.type(1)
        fields |= planes[:, bit]
    return fields


def _read_compiled(raw: NDArray[np.uint8], steps: list[_Step], symbols: Symbols) -> int:
    """The same by the compiled loop."""
    padded = np.concatenate([raw, np.zeros(8, np.uint8)])
    windows: NDArray[np.uint64] = np.ndarray(
        (padded.size - 7,), np.dtype("<u8"), padded.data, 0, (1,)
    )
    size = min(_BLOCK, symbols.size)
    end = compiled.kernel("planes_decode")(
        windows,
        8 * raw.size,
        np.array([[step.bits, step.symbols.size] for step in steps], np.int64).T,
        _every_word(steps).astype(symbols.dtype),
        symbols,
        np.empty(size, np.uint32),
    )
    if end < 0:
        raise _cut_off(raw.size, symbols.size)
    return int(end)


def _every_word(steps: list[_Step]) -> NDArray[np.int64]:
    """For each step the symbol of each number that its words may be; 0 where they go on."""
    tables: list[NDArray[np.int64]] = []
    begun = 1
    for step in steps:
        table = np.zeros(begun << step.bits, np.int64)
        table[: step.symbols.size] = step.symbols
        tables.append(table)
        begun = table.size - step.symbols.size
    return np.concatenate(tables)


def _cut_off(size: int, count: int) -> ContainerError:
    return ContainerError(
        f"coded stream is cut off: {size} bytes end before {count} symbols do; get the file again"
    )
