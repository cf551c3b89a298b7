"""Canonical, length-limited Huffman coding of arrays of small unsigned integers.

Huffman coding of the quantized weights and of their positions is stage three of Han, Mao and
Dally, "Deep Compression", ICLR 2016 (arXiv:1510.00149), section 4. A code is canonical when it
follows from its lengths alone: words of a length are consecutive numbers in the order of the
symbols, and shorter words come first. So only the lengths are stored.

A body (`encode`, `decode`) is `lanes` bit streams, one after the other without a gap, most
significant bit first. Lane j holds symbols j, j + lanes, j + 2 * lanes, ...: all lanes are
decoded in lock-step, and each step yields consecutive symbols. With more than one lane the body
begins with a directory, the bit lengths of all lanes but the last: varint(the least of them),
one byte b, then each length minus the least in b bits, padded to a byte.

A stream (`pack`, `unpack`) is the code's lengths (code_table.py), then a body. Nothing else is
stored: the count of symbols and the size of the alphabet are the caller's to know.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compress.coding.bits import (
    CodeSink,
    check_padding,
    pack_uints,
    read_varint,
    unpack_uints,
    write_varint,
)
from compress.coding.code_table import lengths_problem, read_table, table_bytes, write_table
from compress.coding.package_merge import MAX_LENGTH, code_lengths
from compress.errors import ContainerError, RangeError

__all__ = [
    "MAX_ALPHABET",
    "MAX_LENGTH",
    "canonical_codes",
    "code_lengths",
    "decode",
    "encode",
    "pack",
    "packed_bytes",
    "symbol_counts",
    "unpack",
]

Symbols: TypeAlias = NDArray[np.uint8 | np.uint16]

MAX_ALPHABET = 1 << 16
# Part of the format. More lanes decode faster and cost about 9 bits each: less than
# 0.1 % of a stream of 4-bit symbols.
_LANE_SYMBOLS = 4096
_ENCODE_BLOCK = 1 << 17
_COUNT_BLOCK = 1 << 20
_WINDOW_BITS = 57  # of a 64-bit read at a whole byte, at least these are left to decode


def canonical_codes(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The code word of each symbol as a number, its `lengths[symbol]` low bits; 0 where unused.

    Raises RangeError if the lengths are no complete prefix code (sum of 2**-length = 1) of words
    of at most 15 bits; a single symbol of length 1 is allowed.
    """
    if problem := lengths_problem(lengths):
        raise RangeError(f"code lengths are no prefix code: {problem}")
    order, widths = _canonical_order(lengths)
    spans = 1 << (MAX_LENGTH - widths)
    codes = np.zeros(lengths.size, np.uint32)
    codes[order] = (np.cumsum(spans) - spans) >> (MAX_LENGTH - widths)
    return codes


def encode(symbols: NDArray[np.integer[Any]], lengths: NDArray[np.uint8]) -> bytes:
    """The body that holds `symbols` in the canonical code of `lengths`.

    symbols: (count,), unsigned integers below len(lengths). One symbol alone in the code takes no
    bits. Raises RangeError for a symbol without a code word, or lengths that are no code.
    """
    return _encode(symbols, lengths, symbol_counts(symbols, lengths.size))


def _encode(
    symbols: NDArray[np.integer[Any]], lengths: NDArray[np.uint8], counts: NDArray[np.int64]
) -> bytes:
    codes = canonical_codes(lengths).astype(np.uint64)
    if np.any((counts > 0) & (lengths == 0)):
        raise RangeError(
            "symbols include one without a code word: make the lengths from their counts"
        )
    if symbols.size == 0 or np.count_nonzero(lengths) == 1:
        return b""
    sink = CodeSink(int(counts @ lengths.astype(np.int64)))
    word_bits = lengths.astype(np.uint64)
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
        words = codes.take(block)
        widths[max(0, longer - low) :, -1] = 0  # the lanes that are a symbol shorter
        words[max(0, longer - low) :, -1] = 0
        sink.append(words.ravel(), widths.ravel())
        sizes[part] = widths.sum(axis=1)
    return _write_directory(sizes[:-1]) + sink.to_bytes()


def decode(body: bytes | memoryview, lengths: NDArray[np.uint8], count: int) -> Symbols:
    """The `count` symbols that encode wrote with the same lengths.

    Gives uint8 for an alphabet of up to 256 symbols, else uint16. Memory: the symbols, a copy of
    the body and about 50 bytes a lane, and nothing before the body is known to hold `count`
    words. Where the code has one symbol alone the body is empty and `count` is the caller's to
    bound. Raises ContainerError for lengths that are no code, a body too short or too long, and
    lanes that do not end where the next one starts.
    """
    if count < 0 or lengths.size > MAX_ALPHABET:
        raise RangeError(
            f"{count} symbols of an alphabet of {lengths.size}: allowed are a count of 0 and more, "
            f"an alphabet of at most {MAX_ALPHABET}"
        )
    if problem := lengths_problem(lengths):
        raise ContainerError(f"code lengths are damaged: {problem}; get the file again")
    used = np.flatnonzero(lengths)
    kind = np.uint8 if lengths.size <= 256 else np.uint16
    if count == 0 or used.size == 1:
        if len(body):
            raise ContainerError(
                f"coded stream is damaged: {len(body)} bytes found where none are allowed; "
                "get the file again"
            )
        return np.full(count, used[0] if count else 0, kind)
    if used.size == 0:
        raise ContainerError(
            f"coded stream is damaged: {count} symbols and no code word; get the file again"
        )
    starts, offset = _read_directory(body, lengths, count)
    symbols: Symbols = np.empty(count, kind)
    ends = _decode_lanes(body[offset:], starts, lengths, symbols)
    if not np.array_equal(ends[:-1], starts[1:]):
        raise ContainerError(
            "coded stream is damaged: a lane does not end where the next one starts; "
            "get the file again"
        )
    check_padding(body[offset:], int(ends[-1]))
    return symbols


def pack(symbols: NDArray[np.integer[Any]], alphabet: int) -> bytes:
    """A stream of its own: the code of `symbols`, made from their counts, and their words.

    symbols: (count,), unsigned integers below `alphabet` (1 to 65536). No symbols take no bytes,
    one symbol repeated takes up to three. Raises RangeError for a symbol outside the alphabet or
    more than 32768 different ones.
    """
    _check_alphabet(alphabet)
    counts = symbol_counts(symbols, alphabet)
    if symbols.size == 0:
        return b""
    lengths = code_lengths(counts)
    return write_table(lengths) + _encode(symbols, lengths, counts)


def unpack(data: bytes | memoryview, count: int, alphabet: int) -> Symbols:
    """The symbols of `pack(symbols, alphabet)`, where count = len(symbols).

    Bounds, types and errors are those of `decode`; ContainerError too for a table that is cut off
    or no code. All of `data` must be used up.
    """
    _check_alphabet(alphabet)
    if count <= 0:
        return decode(data, np.zeros(alphabet, np.uint8), count)
    lengths, offset = read_table(data, alphabet)
    return decode(memoryview(data)[offset:], lengths, count)


def symbol_counts(symbols: NDArray[np.integer[Any]], alphabet: int) -> NDArray[np.int64]:
    """(alphabet,), how often each symbol occurs; RangeError for one outside the alphabet."""
    if symbols.ndim != 1:
        raise RangeError(f"symbols of shape {symbols.shape}: allowed is one axis; flatten them")
    if symbols.size and (int(symbols.min()) < 0 or int(symbols.max()) >= alphabet):
        raise RangeError(
            f"symbols from {int(symbols.min())} to {int(symbols.max())}: allowed are 0 to "
            f"{alphabet - 1}"
        )
    counts = np.zeros(alphabet, np.int64)
    for start in range(0, symbols.size, _COUNT_BLOCK):  # bincount makes 8 bytes of each symbol
        block = symbols[start : start + _COUNT_BLOCK].astype(np.intp)
        counts += np.bincount(block, minlength=alphabet)
    return counts


def packed_bytes(counts: NDArray[np.integer[Any]]) -> int:
    """Size of `pack` for symbols with these counts, but for the directory (0.1 % of it)."""
    if not counts.any():
        return 0
    lengths = code_lengths(counts)
    bits = int(counts @ lengths.astype(np.int64)) if np.count_nonzero(lengths) > 1 else 0
    return table_bytes(lengths) + (bits + 7) // 8


def _shape(count: int) -> tuple[int, int, int]:
    """(lanes, symbols that every lane has, lanes that have one more)."""
    lanes = -(-count // _LANE_SYMBOLS)
    return lanes, count // lanes, count % lanes


def _canonical_order(lengths: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The symbols that have a word, in the order of the words, and the bits of each."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths.size - np.count_nonzero(lengths) :]
    return order, lengths[order].astype(np.int64)


def _write_directory(sizes: NDArray[np.int64]) -> bytes:
    if sizes.size == 0:
        return b""
    least = int(sizes.min())
    width = int(sizes.max() - least).bit_length()
    return write_varint(least) + bytes([width]) + pack_uints(sizes - least, width)


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
    offset = 0
    sizes = np.zeros(lanes, np.int64)
    if lanes > 1:
        least, offset = read_varint(body, 0)
        width = body[offset] if offset < len(body) else 255
        # No lane is longer than the words allow, so neither number can be greater.
        if width > 16 or least > (rows + 1) * longest:
            raise ContainerError("lane directory is damaged: too long a lane; get the file again")
        end = offset + 1 + ((lanes - 1) * width + 7) // 8
        sizes[:-1] = unpack_uints(body[offset + 1 : end], width, lanes - 1)
        sizes[:-1] += least
        offset = end
    starts = np.cumsum(sizes) - sizes
    sizes[-1] = 8 * (len(body) - offset) - starts[-1]
    symbols = np.full(lanes, rows, np.int64)
    symbols[:longer] += 1
    room = symbols * longest
    room[-1] += 7  # padding
    if np.any(sizes < symbols * shortest) or np.any(sizes > room):
        raise ContainerError(
            f"coded stream is damaged: {len(body) - offset} bytes of code words and lanes do not "
            f"fit {count} symbols of {shortest} to {longest} bits; get the file again"
        )
    return starts, offset


def _decode_lanes(
    words: bytes | memoryview,
    starts: NDArray[np.int64],
    lengths: NDArray[np.uint8],
    symbols: Symbols,
) -> NDArray[np.int64]:
    """Fill `symbols` and give the bit at which each lane ended. Any bits decode to something."""
    order, widths = _canonical_order(lengths)
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


def _check_alphabet(alphabet: int) -> None:
    if not 1 <= alphabet <= MAX_ALPHABET:
        raise RangeError(f"alphabet of {alphabet} symbols: allowed are 1 to {MAX_ALPHABET}")
