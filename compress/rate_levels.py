"""Which level a weight takes when a level has a price: error against bits.

Entropy-constrained scalar quantization (Chou, Lookabaugh and Gray 1989): level k costs
importance * (level - wanted)^2 + price * bits(k), where bits come from a model of the coder
(rate_models.py). The step of an even grid follows from the price: at high rate an error of
step^2 / 12 falls by 2 ln 2 times itself for each bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
# Levels next to the nearest one that are tried on each side, beside the level zero.
_REACH = 2
# On each side of zero, at the finest.
MOST_LEVELS = 16_000


class Rates(NamedTuple):
    """What levels cost: bits[contexts[place], level] for a level at a place of the weight."""

    bits: Floats  # (contexts, k), finite for levels that are not in use, too
    contexts: NDArray[np.uint16]  # of the weight's shape


class EvenGrid(NamedTuple):
    """The levels low, low + 1, ..., high, times `step`."""

    step: float
    low: int
    high: int


def even_grid(weight: Floats, importance: float, price: float) -> EvenGrid:
    """The grid of even_step over all of the weight, of any shape."""
    largest = float(np.abs(weight).max(initial=0))
    step = even_step(price, importance, largest, MOST_LEVELS)
    # One level more than the largest weight needs: compensation may ask for it.
    reach = round(largest / step) + 1
    return EvenGrid(step, -reach, reach)


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


def cheapest(
    wanted: Floats,
    importance: Floats,
    levels: Floats,
    bits: Floats,
    contexts: NDArray[np.uint16],
) -> Codes:
    """The place in `levels` of the least cost for each of `wanted`; bits are priced already.

    wanted, importance, contexts: of one shape, in units of the levels. levels: (k,), ascending,
    zero among them. bits: (contexts, k), times the price.
    """
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, wanted)
    if not bits.any():
        return nearest
    best = np.full(wanted.shape, np.abs(levels).argmin(), np.intp)
    cost = importance * wanted**2 + bits[contexts, best]
    for offset in sorted(range(-_REACH, _REACH + 1), key=abs):
        place = np.clip(nearest + offset, 0, levels.size - 1)
        other = importance * (levels[place] - wanted) ** 2 + bits[contexts, place]
        better = other < cost
        best, cost = np.where(better, place, best), np.where(better, other, cost)
    return best
