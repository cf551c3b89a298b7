"""What a level takes in a file: the coders that a choice of levels may be made for.

order0   an ideal arithmetic coder without contexts; Huffman comes near it above two bits
huffman  whole bits, by the project's own code of at most 15 bits a word
context  the container's coder, whose bits depend on a weight's neighbours
packed   codes of one width in an .onnx that decodes itself (rate_packed.py)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compress.coding import huffman
from compress.coding.codes import MAX_ALPHABET, code_rates, packed_codes_bytes
from compress.coding.gaps import cheapest_width
from compress.encoding import Encoded
from compress.rate_levels import Codes, EvenGrid, Floats, Rates, even_grid
from compress.rate_packed import kept_levels, packed_bytes, packed_grid, packed_level_bits


class RateModel(Protocol):
    """A coder, as a choice of levels sees it. `weight` and `places` are of one shape."""

    def grid(self, weight: Floats, importance: float, price: float) -> EvenGrid:
        """The even grid whose error, times `importance`, is worth its bits at `price` each."""
        return even_grid(weight, importance, price)

    def kept(self, weight: Floats, importance: Floats, levels: Floats, price: float) -> Floats:
        """Those of given levels, ascending, that are worth their bits; zero among them.

        weight: in units of the levels; importance: of the squared errors of each.
        """
        del weight, importance, price
        return levels

    @abstractmethod
    def rates(self, places: Codes, levels: Floats) -> Rates:
        """Bits of `levels` (k,), ascending, where an earlier pass chose levels[places]."""
        ...

    @abstractmethod
    def size_bytes(self, encoded: Encoded) -> float:
        """Bytes of the codes and of what the coder has to be told, without the codebook."""
        ...


class ByCounts(RateModel, Protocol):
    """A coder for which only counts matter: a level costs the same at every place."""

    def rates(self, places: Codes, levels: Floats) -> Rates:
        counts = _counts(places, levels.size)
        everywhere = np.broadcast_to(np.uint16(0), places.shape)
        return Rates(self.bits(counts, levels)[None], everywhere)

    def size_bytes(self, encoded: Encoded) -> float:
        return self.counted_bytes(_counts(encoded.indices, encoded.codebook.size))

    @abstractmethod
    def bits(self, counts: NDArray[np.int64], levels: Floats) -> Floats:
        """(k,) bits for `counts` (k,) of `levels` (k,), ascending; finite where unused, too."""
        ...

    @abstractmethod
    def counted_bytes(self, counts: NDArray[np.int64]) -> float:
        """Bytes of codes with these counts, in the order of the codes: zero comes first."""
        ...


@dataclass(frozen=True)
class Order0(ByCounts):
    """An ideal coder that knows only how often each level occurs, and is told so for nothing.

    Unused levels cost what a two-sided geometric distribution of the same mean size gives them,
    with the weight of two occurrences in all.
    """

    def bits(self, counts: NDArray[np.int64], levels: Floats) -> Floats:
        total = max(1, int(counts.sum()))
        place = np.abs(np.arange(levels.size) - int(np.abs(levels).argmin()))
        mean = max(0.05, float((counts * place).sum()) / total)
        # In logarithms: far levels of a narrow distribution underflow.
        tail = place * math.log2(mean / (1 + mean))
        tail -= np.log2(np.exp2(tail).sum())
        own = np.log2(np.maximum(counts, 1e-300)) - math.log2(total + 2)
        return -np.logaddexp2(own, tail + 1 - math.log2(total + 2))

    def counted_bytes(self, counts: NDArray[np.int64]) -> float:
        used = counts[counts > 0].astype(np.float64)
        return float((used * (math.log2(max(1, used.sum())) - np.log2(used))).sum() / 8)


@dataclass(frozen=True)
class Huffman(ByCounts):
    """One canonical Huffman word a weight (huffman.py), zeros as any other; its table counts.

    A level alone takes no bits. An unused one costs a bit more than the longest word, at most 15:
    what it gets where that word is split for it.
    """

    def bits(self, counts: NDArray[np.int64], levels: Floats) -> Floats:
        del levels
        lengths = huffman.code_lengths(counts).astype(np.float64)
        if np.count_nonzero(counts) == 1:
            lengths[:] = 0
        unused = min(lengths.max(initial=0) + 1, huffman.MAX_LENGTH)
        return np.where(counts > 0, lengths, unused)

    def counted_bytes(self, counts: NDArray[np.int64]) -> float:
        return huffman.packed_bytes(counts)


@dataclass(frozen=True)
class Context(RateModel):
    """The container's coder: bits by the level and by what stands around it (codes.py).

    While weights are chosen one after another, contexts and bits are those of the pass before:
    what a choice does to the contexts of its neighbours is not seen. More levels than that coder
    takes (4096) cost what they do for Order0. The size is that of the smallest of the container's
    codings, to about 0.2 %. Some ten times as slow as the others.
    """

    def rates(self, places: Codes, levels: Floats) -> Rates:
        if levels.size > MAX_ALPHABET:
            return Order0().rates(places, levels)
        zero = int(np.abs(levels).argmin())
        order = np.concatenate([[zero], np.delete(np.arange(levels.size), zero)])
        numbers = np.empty(levels.size, np.uint16)
        numbers[order] = np.arange(levels.size)
        found = code_rates(numbers[places], levels.size, levels[order])
        bits = np.empty(found.bits.shape)
        bits[:, order] = found.bits
        return Rates(bits, found.contexts)

    def size_bytes(self, encoded: Encoded) -> float:
        codes, book = encoded.indices, encoded.codebook
        counts = _counts(codes, book.size)
        sizes = [huffman.packed_bytes(counts), cheapest_width(codes.reshape(-1), book.size)[1]]
        if book.size <= MAX_ALPHABET:
            sizes.append(packed_codes_bytes(codes, book.size, book))
        return min(sizes)


@dataclass(frozen=True)
class Packed(ByCounts):
    """The packed .onnx: every code has the same bits, and zeros a mask where that is smaller.

    Only the number of levels matters, so it is chosen first: the width of a code, and for that
    width the grid or those of the given levels. The choice of a level then sees a mask's bit for
    a zero, no difference between the others. Names and operators of the file are not counted.
    """

    def grid(self, weight: Floats, importance: float, price: float) -> EvenGrid:
        return packed_grid(weight, importance, price)

    def kept(self, weight: Floats, importance: Floats, levels: Floats, price: float) -> Floats:
        return kept_levels(weight, importance, levels, price)

    def bits(self, counts: NDArray[np.int64], levels: Floats) -> Floats:
        return packed_level_bits(counts, int(np.abs(levels).argmin()))

    def counted_bytes(self, counts: NDArray[np.int64]) -> float:
        return packed_bytes(counts, 0)


MODELS: Mapping[str, RateModel] = {
    "order0": Order0(),
    "huffman": Huffman(),
    "context": Context(),
    "packed": Packed(),
}


def _counts(codes: Codes | NDArray[np.uint8] | NDArray[np.uint16], size: int) -> NDArray[np.int64]:
    return np.bincount(codes.reshape(-1), minlength=size).astype(np.int64)
