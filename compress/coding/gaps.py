"""Positions of the weights that survive pruning, as the gaps between them.

Han, Mao and Dally, "Deep Compression", ICLR 2016 (arXiv:1510.00149), section 2 and figure 2: a
sparse tensor is stored as its non-zero entries, each with the distance from the one before in a
few bits; where the distance does not fit, a zero is stored as a filler.

Here a gap is the number of zeros passed over (the paper's distance less one), 0 to 2**width - 1,
and the place before the first entry is -1. A filler has the largest gap and the value 0, so it
moves on by 2**width places. Zeros after the last entry are not stored. Width 0 stores every zero
up to the last entry, that is, the tensor as it is.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.coding import compiled
from compress.coding.huffman import packed_bytes, symbol_counts
from compress.errors import ContainerError, RangeError

MAX_WIDTH = 8
_BLOCK = 1 << 18

Codes = TypeVar("Codes", bound=np.unsignedinteger[Any])
Pairs: TypeAlias = tuple[NDArray[np.uint8], NDArray[Codes]]


def to_gaps(codes: NDArray[Codes], width: int) -> Pairs[Codes]:
    """(gaps, values) of a tensor's codes, both (entries,).

    codes: (size,), unsigned; 0 = pruned. width: bits of a gap, 0 to 8. values has the type of
    codes and a 0 for each filler. Raises RangeError for another width or shape.
    """
    _check_width(width)
    places, runs = _runs(codes)
    fillers = runs >> width
    # Each entry comes after its fillers.
    at = np.cumsum(fillers + 1) - 1
    entries = int(at[-1]) + 1 if at.size else 0
    gaps = np.full(entries, (1 << width) - 1, np.uint8)
    values = np.zeros(entries, codes.dtype)
    gaps[at] = runs & ((1 << width) - 1)
    values[at] = codes[places]
    return gaps, values


def from_gaps(
    gaps: NDArray[np.unsignedinteger[Any]], values: NDArray[Codes], width: int, size: int
) -> NDArray[Codes]:
    """The codes, (size,), from which to_gaps made gaps and values.

    Raises ContainerError for what to_gaps does not write: different numbers of gaps and values,
    a gap beyond the width, an entry beyond `size`, a zero that is no filler, a filler at the end.
    Nothing of `size` is allocated before these checks.
    """
    _check_width(width)
    if size < 0:
        raise RangeError(f"size of {size}: allowed are 0 and more")
    if gaps.ndim != 1 or gaps.shape != values.shape:
        raise _damaged(f"gaps of shape {gaps.shape} and values of shape {values.shape}")
    largest = (1 << width) - 1
    if gaps.size and int(gaps.max()) > largest:
        raise _damaged(f"a gap of {int(gaps.max())}, allowed are 0 to {largest}")
    if np.any((values == 0) & (gaps != largest)) or (values.size and values[-1] == 0):
        raise _damaged("a zero that fills no gap")
    last = int(gaps.sum(dtype=np.int64)) + gaps.size - 1
    if last >= size:
        raise _damaged(f"an entry at {last} of a tensor of {size} elements")
    codes = np.zeros(size, values.dtype)
    if compiled.worth_it(gaps.size):
        compiled.kernel("gaps_decode")(gaps, values, codes)
        return codes
    place = -1
    for start in range(0, gaps.size, _BLOCK):  # a place takes eight bytes, a gap one
        places = np.cumsum(gaps[start : start + _BLOCK] + np.int64(1)) + place
        codes[places] = values[start : start + _BLOCK]
        place = int(places[-1])
    return codes


def best_width(codes: NDArray[np.unsignedinteger[Any]], alphabet: int) -> int:
    """The width, 0 to 8, at which Huffman-coded gaps and values take the fewest bytes together.

    codes: (size,), unsigned integers below `alphabet`; 0 = pruned. Of equal widths the smallest.
    """
    return cheapest_width(codes, alphabet)[0]


def cheapest_width(codes: NDArray[np.unsignedinteger[Any]], alphabet: int) -> tuple[int, int]:
    """(best_width, bytes of both streams at it but for their directories)."""
    places, runs = _runs(codes)
    value_counts = symbol_counts(codes[places], alphabet)
    sizes: list[int] = []
    for width in range(MAX_WIDTH + 1):
        largest = (1 << width) - 1
        fillers = int((runs >> width).sum())
        gap_counts = symbol_counts(runs & largest, largest + 1)
        gap_counts[largest] += fillers
        value_counts[0] = fillers
        sizes.append(packed_bytes(gap_counts) + packed_bytes(value_counts))
    return sizes.index(min(sizes)), min(sizes)


def entries_by_width(codes: NDArray[np.unsignedinteger[Any]]) -> list[int]:
    """How many entries, fillers among them, to_gaps makes at widths of 0 to 8 bits."""
    places, runs = _runs(codes)
    return [places.size + int((runs >> width).sum()) for width in range(MAX_WIDTH + 1)]


def _runs(codes: NDArray[np.unsignedinteger[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(places of the non-zero codes, number of zeros right before each)."""
    if codes.ndim != 1:
        raise RangeError(f"codes of shape {codes.shape}: allowed is one axis; flatten them")
    places = np.flatnonzero(codes)
    return places, np.diff(places, prepend=-1) - 1


def _check_width(width: int) -> None:
    if not 0 <= width <= MAX_WIDTH:
        raise RangeError(f"gaps of {width} bits: allowed are 0 to {MAX_WIDTH}")


def _damaged(what: str) -> ContainerError:
    return ContainerError(f"sparse positions are damaged: {what}; get the file again")
