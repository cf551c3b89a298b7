"""Which level a weight takes when a level has a price: error against bits.

Entropy-constrained scalar quantization (Chou, Lookabaugh and Gray 1989): level k costs
importance * (level - wanted)^2 + price * bits(k), where bits come from a model of the coder. The
step of an even grid follows from the price: at high rate an error of step^2 / 12 falls by
2 ln 2 times itself for each bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
# Levels next to the nearest one that are tried on each side, beside the level zero.
_REACH = 2


class RateModel(Protocol):
    """Bits of each level, given how an earlier pass used them."""

    def bits(self, counts: NDArray[np.int64], levels: Floats) -> Floats:
        """(k,) bits for `counts` (k,) of `levels` (k,), ascending; finite where unused, too."""
        ...

    def size_bytes(self, counts: NDArray[np.int64]) -> float:
        """Bytes of the coded levels, without codebook and table."""
        ...


@dataclass(frozen=True)
class Order0:
    """An ideal coder that knows only how often each level occurs; Huffman comes near it.

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

    def size_bytes(self, counts: NDArray[np.int64]) -> float:
        used = counts[counts > 0].astype(np.float64)
        return float((used * (math.log2(max(1, used.sum())) - np.log2(used))).sum() / 8)


MODELS: Mapping[str, RateModel] = {"order0": Order0()}


def even_step(price: float, importance: float, largest: float, most: int) -> float:
    """The step of an even grid whose mean squared error, times `importance`, is worth its bits.

    price: cost of a bit, in the units of importance * error^2. Between the coarsest that still has
    a level beside zero for `largest`, and the finest of `most` levels a side. Rounded to eighths
    of an octave, so that steps take few bits.
    """
    if largest == 0:
        return 1.0
    # In logarithms: a price of 0 or a layer of no importance asks for the ends.
    wanted = math.inf if importance <= 0 else math.sqrt(6 * price / (math.log(2) * importance))
    least, greatest = largest / most, largest
    step = min(max(wanted, least), greatest)
    return float(2.0 ** (math.ceil(math.log2(step) * 8) / 8))


def cheapest(wanted: Floats, importance: Floats, levels: Floats, bits: Floats) -> Codes:
    """The place in `levels` of the least cost for each of `wanted`; bits are priced already.

    wanted, importance: of one shape, in units of the levels. levels: (k,), ascending, zero among
    them. bits: (k,), times the price.
    """
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, wanted)
    if not bits.any():
        return nearest
    best = np.full(wanted.shape, np.abs(levels).argmin(), np.intp)
    cost = importance * wanted**2 + bits[best]
    for offset in sorted(range(-_REACH, _REACH + 1), key=abs):
        place = np.clip(nearest + offset, 0, levels.size - 1)
        other = importance * (levels[place] - wanted) ** 2 + bits[place]
        better = other < cost
        best, cost = np.where(better, place, best), np.where(better, other, cost)
    return best
