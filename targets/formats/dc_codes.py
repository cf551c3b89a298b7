"""How a tensor's codes stand in the container: a table of exact codings, the smallest is taken.

A new coding is a number, a function that gives its bytes, one that reads them, and a lower bound
of its size that spares trying it where another is smaller anyway. Numbers are part of the format.

    0  gaps     the paper's: gaps between non-zero codes and the codes, with filler zeros, both as
                Huffman words (gaps.py). Byte: gap width; varints: entries, bytes of the gaps
    1  symbols  one Huffman word a weight, zeros as any other (huffman.py)
    2  context  rANS with frequencies that follow the neighbours of a weight (codes.py)
    3, 4        gaps and symbols in planes: as 0 and 1, the words cut where they end (planes.py)

3 and 4 are for decoding fast: numpy alone reads them in a hundredth of the time of 2, for a few
percent more bytes. They are written where that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.coding import huffman
from compress.coding.bits import write_varint
from compress.coding.codes import MAX_ALPHABET, pack_codes, unpack_codes
from compress.coding.cursor import Cursor
from compress.coding.direct import Streams
from compress.coding.gaps import MAX_WIDTH, cheapest_width, from_gaps, to_gaps
from compress.errors import ContainerError

Codes = NDArray[np.unsignedinteger[Any]]
Book = NDArray[Any]


class CodeBytes(NamedTuple):
    """What coded codes take. `gap_bytes`: of the positions, None where one stream holds both;
    `head_bytes`: what says how they are coded."""

    coding: str
    gap_bits: int | None
    entries: int | None
    head_bytes: int
    gap_bytes: int | None
    code_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.head_bytes + (self.gap_bytes or 0) + self.code_bytes


@dataclass(frozen=True)
class Coding:
    """One way. `least`: bytes that codes take at least; `write`, `read`: exact.

    Both are given the codebook: its size is the alphabet, its values say which codes are alike.
    read: a cursor, the tensor's shape, the size of the alphabet. largest: alphabet.
    """

    name: str
    least: Callable[[Codes, Book], int]
    write: Callable[[Codes, Book], bytes]
    read: Callable[[Cursor, tuple[int, ...], int], Codes]
    largest: int = huffman.MAX_ALPHABET


def write_codes(codes: Codes, codebook: Book, quick: bool = False) -> bytes:
    """The smallest coding of codes of any shape, places in `codebook`; code 0 = pruned.

    quick: the smallest of those that are fast to read, else of those that are not.
    """
    fit = {
        number: coding
        for number, coding in CODINGS.items()
        if codebook.size <= coding.largest and (number in QUICK) == quick
    }
    bounds = {number: coding.least(codes, codebook) for number, coding in fit.items()}
    best: bytes | None = None
    for number in sorted(bounds, key=bounds.__getitem__):
        if best is None or bounds[number] + 1 < len(best):
            tried = bytes([number]) + fit[number].write(codes, codebook)
            best = tried if best is None or len(tried) < len(best) else best
    assert best is not None
    return best


def read_codes(data: memoryview, shape: tuple[int, ...], alphabet: int) -> Codes:
    """The codes, of `shape`, uint8 up to 256 of them and else uint16; ContainerError for damage."""
    cursor = Cursor(data, "coded weights")
    codes = _coding(cursor.byte()).read(cursor, shape, alphabet)
    cursor.end()
    return codes.reshape(shape)


def measure_codes(data: memoryview) -> CodeBytes:
    """How the codes in `data` are coded and what that takes; nothing is decoded."""
    cursor = Cursor(data, "coded weights")
    number = cursor.byte()
    coding = _coding(number)
    if number not in (GAPS, GAPS_IN_PLANES):
        return CodeBytes(coding.name, None, None, 1, None, len(cursor.rest()))
    width, entries, gaps = cursor.byte(), cursor.varint(), cursor.varint()
    head = cursor.offset
    cursor.take(gaps)
    return CodeBytes(coding.name, width, entries, head, gaps, len(cursor.rest()))


def plane_streams(data: memoryview, size: int) -> Streams | None:
    """Where the codes of `size` elements are, if they are in planes; ContainerError for damage."""
    cursor = Cursor(data, "coded weights")
    number = cursor.byte()
    if number == SYMBOLS_IN_PLANES:
        return Streams(cursor.rest(), -1, 0, size)
    if number != GAPS_IN_PLANES:
        return None
    width, entries, gap_bytes = cursor.byte(), cursor.varint(), cursor.varint()
    return Streams(cursor.rest(), width, gap_bytes, entries)


def _coding(number: int) -> Coding:
    if number not in CODINGS:
        raise ContainerError(
            f"coding {number} of its weights is unknown, known are "
            f"{', '.join(map(str, CODINGS))}; update edgepress"
        )
    return CODINGS[number]


def _least_of_gaps(codes: Codes, codebook: Book) -> int:
    return cheapest_width(codes.reshape(-1), codebook.size)[1]


def _write_gaps(codes: Codes, codebook: Book, planes: bool) -> bytes:
    flat = codes.reshape(-1)
    width, _ = cheapest_width(flat, codebook.size)
    gaps, values = to_gaps(flat, width)
    words = huffman.pack(gaps, 1 << width, planes)
    head = bytes([width]) + write_varint(gaps.size) + write_varint(len(words))
    return head + words + huffman.pack(values, codebook.size, planes)


def _read_gaps(cursor: Cursor, shape: tuple[int, ...], alphabet: int, planes: bool) -> Codes:
    width, entries = cursor.byte(), cursor.varint()
    words = cursor.take(cursor.varint())
    size = math.prod(shape)
    if width > MAX_WIDTH or entries > size:
        raise ContainerError(
            f"{entries} gaps of {width} bits for {size} elements; at most {size} of {MAX_WIDTH} "
            f"are allowed; get the file again"
        )
    gaps = huffman.unpack(words, entries, 1 << width, planes)
    values = huffman.unpack(cursor.rest(), entries, alphabet, planes)
    return from_gaps(gaps, values, width, size)


def _least_of_symbols(codes: Codes, codebook: Book) -> int:
    return huffman.packed_bytes(huffman.symbol_counts(codes.reshape(-1), codebook.size))


def _write_symbols(codes: Codes, codebook: Book, planes: bool) -> bytes:
    return huffman.pack(codes.reshape(-1), codebook.size, planes)


def _read_symbols(cursor: Cursor, shape: tuple[int, ...], alphabet: int, planes: bool) -> Codes:
    return huffman.unpack(cursor.rest(), math.prod(shape), alphabet, planes)


def _write_context(codes: Codes, codebook: Book) -> bytes:
    return pack_codes(codes, codebook.size, codebook)


def _read_context(cursor: Cursor, shape: tuple[int, ...], alphabet: int) -> Codes:
    return unpack_codes(cursor.rest(), shape, alphabet)


def _least_of_context(codes: Codes, codebook: Book) -> int:
    """It has no cheap bound; it is the smallest more often than not."""
    del codes, codebook
    return 0


def _of_words(name: str, planes: bool) -> tuple[Coding, Coding]:
    """Gaps and symbols in Huffman words."""
    return (
        Coding(
            f"gaps{name}",
            _least_of_gaps,
            partial(_write_gaps, planes=planes),
            partial(_read_gaps, planes=planes),
        ),
        Coding(
            f"symbols{name}",
            _least_of_symbols,
            partial(_write_symbols, planes=planes),
            partial(_read_symbols, planes=planes),
        ),
    )


GAPS, SYMBOLS, CONTEXT, GAPS_IN_PLANES, SYMBOLS_IN_PLANES = range(5)
QUICK = {GAPS_IN_PLANES, SYMBOLS_IN_PLANES}
_LANES, _PLANES = _of_words("", False), _of_words(" in planes", True)
CODINGS: dict[int, Coding] = {
    GAPS: _LANES[0],
    SYMBOLS: _LANES[1],
    CONTEXT: Coding("context", _least_of_context, _write_context, _read_context, MAX_ALPHABET),
    GAPS_IN_PLANES: _PLANES[0],
    SYMBOLS_IN_PLANES: _PLANES[1],
}
