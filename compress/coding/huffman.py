"""Canonical, length-limited Huffman coding of arrays of small unsigned integers.

Huffman coding of the quantized weights and of their positions is stage three of Han, Mao and
Dally, "Deep Compression", ICLR 2016 (arXiv:1510.00149), section 4. A code is canonical when it
follows from its lengths alone: words of a length are consecutive numbers in the order of the
symbols, and shorter words come first. So only the lengths are stored.

A body (`encode`, `decode`) is the code words of all symbols, interleaved as lanes.py says, or
with `planes` cut as planes.py says: the same bits, which numpy alone decodes many times faster.
A stream (`pack`, `unpack`) is the code's lengths (code_table.py), then a body. Nothing else is
stored: the count of symbols and the size of the alphabet are the caller's to know.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding.code_table import lengths_problem, read_table, table_bytes, write_table
from compress.coding.lanes import Symbols, canonical_order, read_lanes, write_lanes
from compress.coding.package_merge import MAX_LENGTH, code_lengths
from compress.coding.planes import read_planes, write_planes
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

MAX_ALPHABET = 1 << 16
_COUNT_BLOCK = 1 << 20


def canonical_codes(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The code word of each symbol as a number, its `lengths[symbol]` low bits; 0 where unused.

    Raises RangeError if the lengths are no complete prefix code (sum of 2**-length = 1) of words
    of at most 15 bits; a single symbol of length 1 is allowed.
    """
    if problem := lengths_problem(lengths):
        raise RangeError(f"code lengths are no prefix code: {problem}")
    order, widths = canonical_order(lengths)
    spans = 1 << (MAX_LENGTH - widths)
    codes = np.zeros(lengths.size, np.uint32)
    codes[order] = (np.cumsum(spans) - spans) >> (MAX_LENGTH - widths)
    return codes


def encode(
    symbols: NDArray[np.integer[Any]], lengths: NDArray[np.uint8], planes: bool = False
) -> bytes:
    """The body that holds `symbols` in the canonical code of `lengths`.

    symbols: (count,), unsigned integers below len(lengths). One symbol alone in the code takes no
    bits. Raises RangeError for a symbol without a code word, or lengths that are no code.
    """
    return _encode(symbols, lengths, symbol_counts(symbols, lengths.size), planes)


def _encode(
    symbols: NDArray[np.integer[Any]],
    lengths: NDArray[np.uint8],
    counts: NDArray[np.int64],
    planes: bool,
) -> bytes:
    codes = canonical_codes(lengths)
    if np.any((counts > 0) & (lengths == 0)):
        raise RangeError(
            "symbols include one without a code word: make the lengths from their counts"
        )
    if symbols.size == 0 or np.count_nonzero(lengths) == 1:
        return b""
    total_bits = int(counts @ lengths.astype(np.int64))
    return (write_planes if planes else write_lanes)(symbols, codes, lengths, total_bits)


def decode(
    body: bytes | memoryview, lengths: NDArray[np.uint8], count: int, planes: bool = False
) -> Symbols:
    """The `count` symbols that encode wrote with the same lengths and `planes`.

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
    return (read_planes if planes else read_lanes)(body, lengths, count)


def pack(symbols: NDArray[np.integer[Any]], alphabet: int, planes: bool = False) -> bytes:
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
    return write_table(lengths) + _encode(symbols, lengths, counts, planes)


def unpack(data: bytes | memoryview, count: int, alphabet: int, planes: bool = False) -> Symbols:
    """The symbols of `pack(symbols, alphabet, planes)`, where count = len(symbols).

    Bounds, types and errors are those of `decode`; ContainerError too for a table that is cut off
    or no code. All of `data` must be used up.
    """
    _check_alphabet(alphabet)
    if count <= 0:
        return decode(data, np.zeros(alphabet, np.uint8), count)
    lengths, offset = read_table(data, alphabet)
    return decode(memoryview(data)[offset:], lengths, count, planes)


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


def _check_alphabet(alphabet: int) -> None:
    if not 1 <= alphabet <= MAX_ALPHABET:
        raise RangeError(f"alphabet of {alphabet} symbols: allowed are 1 to {MAX_ALPHABET}")
