"""Interleaved lanes: the code words of a stream, laid out so that arrays can decode them.

A body is `lanes` bit streams, one after the other without a gap, most significant bit first. Lane
j holds symbols j, j + lanes, j + 2 * lanes, ...: all lanes are decoded in lock-step, and each step
yields consecutive symbols. With more than one lane the body begins with a directory, the bit
lengths of all lanes but the last: varint(the least of them), one byte b, then each length minus
the least in b bits, padded to a byte.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compress.coding import compiled
from compress.coding.bits import (
    CodeSink,
    check_padding,
    pack_uints,
    read_varint,
    unpack_uints,
    write_varint,
)
from compress.errors import ContainerError

Symbols: TypeAlias = NDArray[np.uint8 | np.uint16]

# Part of the format. More lanes decode faster and cost about 9 bits each: less than 0.1 % of a
# stream of 4-bit symbols.
_LANE_SYMBOLS = 4096
_ENCODE_BLOCK = 1 << 17
_GLANCE_BITS = 11  # of the table that the compiled loop looks into first
_FEW = 256  # symbols that are read before a compiled loop is called
_WINDOW_BITS = 57  # of a 64-bit read at a whole byte, at least these are left to decode


def canonical_order(lengths: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The symbols that have a word, in the order of the words, and the bits of each."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths.size - np.count_nonzero(lengths) :]
    return order, lengths[order].astype(np.int64)


def write_lanes(
    symbols: NDArray[np.integer[Any]],
    codes: NDArray[np.uint32],
    lengths: NDArray[np.uint8],
    total_bits: int,
) -> bytes:
    """The body of at least one symbol, whose words take `total_bits` together."""
    if compiled.worth_it(symbols.size):
        return _write_compiled(symbols, codes, lengths, total_bits)
    sink = CodeSink(total_bits)
    word_codes, word_bits = codes.astype(np.uint64), lengths.astype(np.uint64)
    lanes, rows, longer = _shape(symbols.size)
    grid = symbols[: rows * lanes].reshape(rows, lanes)
    tail = np.zeros(lanes, symbols.dtype)
    tail[:longer] = symbols[rows * lanes :]
    sizes = np.empty(lanes, np.int64)
    step = max(1, _ENCODE_BLOCK // (rows + 1))
    for low in range(0, lanes, step):
        part = slice(low, min(low + step, lanes))
        block = np.concatenate([grid[:, part], tail[None, part]]).T.astype(np.intp, order="C")
        widths = word_bits.take(block)
        words = word_codes.take(block)
        widths[max(0, longer - low) :, -1] = 0  # the lanes that are a symbol shorter
        words[max(0, longer - low) :, -1] = 0
        sink.append(words.ravel(), widths.ravel())
        sizes[part] = widths.sum(axis=1)
    return _write_directory(sizes[:-1]) + sink.to_bytes()


def _write_compiled(
    symbols: NDArray[np.integer[Any]],
    codes: NDArray[np.uint32],
    lengths: NDArray[np.uint8],
    total_bits: int,
) -> bytes:
    """The same bytes by the compiled loop."""
    sizes = np.empty(_shape(symbols.size)[0], np.int64)
    stream = np.zeros((total_bits + 7) // 8 + 8, np.uint8)
    compiled.kernel("huffman_encode")(symbols, codes, lengths, sizes, stream)
    return _write_directory(sizes[:-1]) + stream[: (total_bits + 7) // 8].tobytes()


def read_lanes(body: bytes | memoryview, lengths: NDArray[np.uint8], count: int) -> Symbols:
    """The `count` >= 1 symbols of a body, from a complete code of at least two words.

    Raises ContainerError for a body that cannot hold them, before they are allocated, and for
    lanes that do not end where the next one starts, or at the end.
    """
    starts, offset = _read_directory(body, lengths, count)
    symbols: Symbols = np.empty(count, np.uint8 if lengths.size <= 256 else np.uint16)
    if starts.size == 1 and (count < _FEW or not compiled.worth_it(count)):
        check_padding(body, _decode_one(body, lengths, symbols))
        return symbols
    ends = _decode_lanes(body[offset:], starts, lengths, symbols)
    if not np.array_equal(ends[:-1], starts[1:]):
        raise ContainerError(
            "coded stream is damaged: a lane does not end where the next one starts; "
            "get the file again"
        )
    check_padding(body[offset:], int(ends[-1]))
    return symbols


def _shape(count: int) -> tuple[int, int, int]:
    """(lanes, symbols that every lane has, lanes that have one more)."""
    lanes = -(-count // _LANE_SYMBOLS)
    return lanes, count // lanes, count % lanes


def _write_directory(sizes: NDArray[np.int64]) -> bytes:
    if sizes.size == 0:
        return b""
    least = int(sizes.min())
    width = int(sizes.max() - least).bit_length()
    return write_varint(least) + bytes([width]) + pack_uints(sizes - least, width)


def _read_sizes(body: bytes | memoryview, lanes: int, limit: int) -> tuple[NDArray[np.int64], int]:
    """(bits of each lane but the last, byte after the directory)."""
    least, offset = read_varint(body, 0)
    width = body[offset] if offset < len(body) else 255
    if width > 16 or least > limit:
        raise ContainerError("lane directory is damaged: too long a lane; get the file again")
    end = offset + 1 + ((lanes - 1) * width + 7) // 8
    extra = unpack_uints(body[offset + 1 : end], width, lanes - 1)
    return extra.astype(np.int64) + least, end


def _read_directory(
    body: bytes | memoryview, lengths: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.int64], int]:
    """(first bit of each lane, byte at which lane 0 starts).

    Checked against the shortest and longest words that the lanes could hold.
    """
    lanes, rows, longer = _shape(count)
    shortest, longest = int(lengths[lengths > 0].min()), int(lengths.max())
    if count * shortest > 8 * len(body):
        raise ContainerError(
            f"coded stream is cut off: {count} symbols take at least {count * shortest} bits, "
            f"found {8 * len(body)}; get the file again"
        )
    if lanes == 1:
        if 8 * len(body) > count * longest + 7:
            raise _unfit(len(body), count, (shortest, longest))
        return np.zeros(1, np.int64), 0
    sizes, offset = _read_sizes(body, lanes, (rows + 1) * longest)
    sizes = np.append(sizes, 0)
    starts = np.cumsum(sizes) - sizes
    sizes[-1] = 8 * (len(body) - offset) - starts[-1]
    symbols = np.full(lanes, rows, np.int64)
    symbols[:longer] += 1
    room = symbols * longest
    room[-1] += 7  # padding
    if np.any(sizes < symbols * shortest) or np.any(sizes > room):
        raise _unfit(len(body) - offset, count, (shortest, longest))
    return starts, offset


def _unfit(size: int, count: int, bits: tuple[int, int]) -> ContainerError:
    return ContainerError(
        f"coded stream is damaged: {size} bytes of code words and lanes do not fit {count} "
        f"symbols of {bits[0]} to {bits[1]} bits; get the file again"
    )


def _decode_one(body: bytes | memoryview, lengths: NDArray[np.uint8], symbols: Symbols) -> int:
    """A lane alone, one word after the other: arrays of one element cost more than numbers."""
    order, widths = canonical_order(lengths)
    longest = int(widths[-1])
    ends = np.cumsum(1 << (longest - widths)).tolist()
    words = list(zip(order.tolist(), widths.tolist(), strict=True))
    padded = bytes(body) + bytes(8)
    mask, position = (1 << longest) - 1, 0
    found: list[int] = []
    for _ in range(symbols.size):
        byte = position >> 3
        window = int.from_bytes(padded[byte : byte + 3], "big")
        pattern = window >> (24 - longest - (position & 7)) & mask
        symbol, width = words[bisect_right(ends, pattern)]
        found.append(symbol)
        position += width
    symbols[:] = found
    return position


def _decode_lanes(
    words: bytes | memoryview,
    starts: NDArray[np.int64],
    lengths: NDArray[np.uint8],
    symbols: Symbols,
) -> NDArray[np.int64]:
    """Fill `symbols` and give the bit at which each lane ended. Any bits decode to something."""
    order, widths = canonical_order(lengths)
    longest = int(widths[-1])
    spans = 1 << (longest - widths)
    symbol_table = np.repeat(order.astype(symbols.dtype), spans)
    width_table = np.repeat(widths.astype(np.uint64), spans)
    lanes, rows, longer = _shape(symbols.size)
    # A lane that lies about its start may run on to here, but never further.
    slack = ((rows + 1) * longest + 7) // 8 + 8
    padded = np.concatenate([np.frombuffer(words, np.uint8), np.zeros(slack, np.uint8)])
    windows: NDArray[np.uint64] = np.ndarray(
        (padded.size - 7,), np.dtype("<u8"), padded.data, 0, (1,)
    )
    if compiled.worth_it(symbols.size):
        positions = starts.astype(np.uint64)
        table = symbol_table.astype(np.uint32) | (width_table << np.uint64(16)).astype(np.uint32)
        short = table[:: 1 << max(0, longest - _GLANCE_BITS)]
        short = np.where(short >> 16 <= _GLANCE_BITS, short, np.uint32(0))
        compiled.kernel("huffman_decode")(windows, positions, table, short, longest, symbols)
        return positions.view(np.int64)
    shift = np.uint64(64 - longest)
    positions = starts.astype(np.uint64)
    reads = _WINDOW_BITS // longest
    rounds = [(row, min(reads, rows - row), lanes) for row in range(0, rows, reads)]
    if longer:
        rounds.append((rows, 1, longer))
    for row, steps, active in rounds:
        position = positions[:active]
        window = windows[(position >> np.uint64(3)).view(np.int64)].byteswap()
        window <<= position & np.uint64(7)
        for start in range(row * lanes, (row + steps) * lanes, lanes):
            index = (window >> shift).view(np.int64)
            # "clip" never clips here; it spares a copy of the output that "raise" makes.
            symbol_table.take(index, out=symbols[start : start + active], mode="clip")
            taken = width_table.take(index, mode="clip")
            window <<= taken
            position += taken
    return positions.view(np.int64)
