"""Levels for codes of one width, as a quick packed .onnx has them (targets/formats/packing.py).

A code has 1 to 8 bits or 16, the same for all of a tensor: the least that number its levels. Where
that is smaller, each weight has a bit of a mask instead, and only the others than zero have codes.
So a level's price does not depend on its use: what is chosen is the width, and for each width the
levels of the least error. Error and bits are taken from a sample of the weights, rounded to the
nearest level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.kmeans import cluster
from compress.rate_levels import MOST_LEVELS, EvenGrid, Floats, even_grid

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
_SAMPLE = 1 << 14
# Even grids end between the largest weight and a sixteenth of it, in eighths of an octave.
_STEPS = 33
_OCTET = 8


def packed_bytes(counts: NDArray[np.int64], zero: int) -> int:
    """Bytes of mask and codes; counts (k,) of the levels, zero the place of the level 0."""
    return min(_forms(counts, zero))


def packed_level_bits(counts: NDArray[np.int64], zero: int) -> Floats:
    """(k,) bits of each level. One that is not in use pays for the wider codes that it asks for."""
    used = counts > 0
    used[zero] = True
    width, wider = _width(int(used.sum())), _width(int(used.sum()) + 1)
    whole, masked = _forms(counts, zero)
    mask = int(masked < whole)
    codes = int(counts.sum()) - mask * int(counts[zero])
    bits = np.full(counts.size, float(mask + width))
    bits[~used] += (wider - width) * codes
    bits[zero] = 1 if mask else width
    return bits


def packed_grid(weight: Floats, importance: float, price: float) -> EvenGrid:
    """The even grid of the least cost: 2**width levels; 255 of 8 bits, 32,002 of 16.

    One level more lies on the side of the largest weight. Where it pays, the grid ends before
    that weight. importance: of a squared error; price: of a bit.
    """
    largest = float(np.abs(weight).max(initial=0))
    if largest == 0:
        return even_grid(weight, importance, price)
    values = _sampled(weight)
    below = int(-weight.min() > weight.max())
    costs: dict[EvenGrid, float] = {}
    for width in WIDTHS[1:]:
        most = min((1 << width - 1) - 1, MOST_LEVELS)
        # Integers stay below 128, as the runtimes want them.
        more = int(width != 8)
        low, high = -most - below * more, most + (1 - below) * more
        start = int(np.ceil(np.log2(largest / most) * 8))
        # Nothing is gained by clipping where every weight may have a level of its own.
        for place in range(start, start - (_STEPS if width < 16 else 1), -1):
            grid = EvenGrid(float(2.0 ** (place / 8)), low, high)
            found = np.rint(values / grid.step).clip(low, high)
            error = float(((found * grid.step - values) ** 2).mean())
            share = np.count_nonzero(found) / found.size
            costs[grid] = importance * error + price * min(width, 1 + share * width)
    return min(costs, key=costs.__getitem__)


def kept_levels(weight: Floats, importance: Floats, levels: Floats, price: float) -> Floats:
    """Those of `levels` (k,), ascending, zero among them, that cost least; ascending, with zero.

    For each width the levels nearest the centroids of the weights (kmeans.py). weight: in units of
    the levels; importance: of its shape.
    """
    values, worth = _sampled(weight), _sampled(importance)
    others = values[values != 0].astype(np.float32)
    ways = [levels]
    for width in (w for w in WIDTHS[:-1] if others.size and 1 << w < levels.size):
        centroids = cluster(others, (1 << width) - 1).centroids.astype(np.float64)
        near = levels[_nearest(levels, centroids)]
        ways.append(np.union1d(near, [0.0]))

    def cost(kept: Floats) -> float:
        found = kept[_nearest(kept, values)]
        error = float((worth * (found - values) ** 2).mean())
        width = _width(np.unique(found).size)
        share = np.count_nonzero(found) / max(1, found.size)
        return error + price * min(width, 1 + share * width)

    return min(ways, key=cost)


def _forms(counts: NDArray[np.int64], zero: int) -> tuple[int, int]:
    """Bytes of a code for each weight; of mask and the codes of a zero and of the others."""
    used = int(np.count_nonzero(counts)) + int(counts[zero] == 0)
    width, count = _width(used), int(counts.sum())
    others = count - int(counts[zero])
    whole = _plane_bytes(count, width)
    return whole, -(-count // _OCTET) + _plane_bytes(others + 1, width)


def _plane_bytes(count: int, width: int) -> int:
    """Codes below 8 bits are filled up to a whole number of octets."""
    return -(-count // _OCTET) * width if width < _OCTET else count * width // 8


def _width(levels: int) -> int:
    needed = max(1, (levels - 1).bit_length())
    return next(width for width in WIDTHS if width >= needed)


def _nearest(levels: Floats, values: Floats) -> NDArray[np.intp]:
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values)


def _sampled(values: Floats) -> Floats:
    """Evenly spaced in the array, as it lies in memory; not a divisor's step of its rows."""
    flat = values.reshape(-1)
    if flat.size <= _SAMPLE:
        return flat
    return flat[np.linspace(0, flat.size - 1, _SAMPLE).astype(np.intp)]
