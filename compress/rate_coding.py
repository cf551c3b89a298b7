"""One layer's weight as codes that are cheap for what they keep of its outputs. Plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from compress.compensation import Factors, Floats, as_groups, compensated
from compress.encoding import Encoded, IndexArray, index_dtype
from compress.rate_levels import RateModel, cheapest, even_step

# Levels on each side of zero, at the finest.
_MOST = 16_000
_PASSES = 3
# Of a bias, at the finest: float32 counts as far.
_FINE = 1 << 23
# How much finer than the price asks for.
_CAUTION = 4


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What errors of a layer's weight cost: see compensation. outputs: (g, m)."""

    factors: Factors
    outputs: Floats

    def mean(self) -> float:
        """The mean importance of a squared error, once errors are made good."""
        return float((self.factors.scales.mean(axis=1) * self.outputs.mean(axis=1)).mean())


@dataclass(frozen=True)
class Tradeoff:
    """price: what a bit may cost in error. rate: the share of it that a choice of levels sees.

    The whole price sets the step. A level's bits count `rate` of it: rounding towards cheap levels
    shrinks a layer's outputs, which adds up from layer to layer, unlike rounding to the nearest.
    """

    price: float
    rate: float
    model: RateModel


@dataclass(frozen=True, eq=False)
class _Grid:
    """levels (k,), ascending float64 with zero; scale broadcasts to the weight (g, m, n)."""

    levels: Floats
    scale: Floats


def coded(
    weight: NDArray[np.float32],
    known: Encoded | None,
    zeros: NDArray[np.bool_],
    sensitivity: Sensitivity,
    tradeoff: Tradeoff,
) -> Encoded:
    """`weight` as an encoding: on an even grid, or in the codebook and scale that it has already.

    zeros: of the weight's shape, True where it is zero and stays so.
    """
    groups = sensitivity.outputs.shape[0]
    wide = as_groups(weight, groups)
    grid = _even(wide, sensitivity, tradeoff) if known is None else _of(known, wide.shape)
    places = _places(wide, grid, as_groups(zeros, groups) != 0, sensitivity, tradeoff)
    found = places.reshape(weight.shape)
    return _even_encoding(found, grid) if known is None else _again(found, grid, known)


def rounded_bias(
    bias: NDArray[np.floating], price: float, importance: float
) -> NDArray[np.float32]:
    """`bias` on an even grid, finer than its bits are worth; importance of one squared error.

    There are few of them, and no neighbour makes their errors good.
    """
    worth = price / _CAUTION**2
    step = np.float32(even_step(worth, importance, float(np.abs(bias).max(initial=0)), _FINE))
    return np.rint(bias / step).astype(np.float32) * step


def used_bytes(encoded: Encoded, model: RateModel) -> float:
    """Bytes of the codes by the rate model, of the codebook and of the scales."""
    counts = np.bincount(encoded.indices.reshape(-1), minlength=encoded.codebook.size)
    plain = encoded.codebook.nbytes + encoded.scale.nbytes
    return model.size_bytes(counts.astype(np.int64)) + plain


def _even(wide: Floats, sensitivity: Sensitivity, tradeoff: Tradeoff) -> _Grid:
    largest = float(np.abs(wide).max(initial=0))
    # Half the sum is the divergence (moments.py).
    step = even_step(tradeoff.price, sensitivity.mean() / 2, largest, _MOST)
    # One level more than the largest weight needs: compensation may ask for it.
    reach = round(largest / step) + 1
    return _Grid(np.arange(-reach, reach + 1, dtype=np.float64), np.full((1, 1, 1), step))


def _of(known: Encoded, shape: tuple[int, ...]) -> _Grid:
    levels = np.unique(known.codebook.astype(np.float64))
    if known.on_integers:  # symmetric, as the runtimes want it
        levels = levels[levels >= -127]
    scale = np.broadcast_to(known.broadcast_scale(), known.shape).astype(np.float64)
    return _Grid(levels, scale.reshape(shape))


def _places(
    wide: Floats,
    grid: _Grid,
    zeros: NDArray[np.bool_],
    sensitivity: Sensitivity,
    tradeoff: Tradeoff,
) -> NDArray[np.intp]:
    """(g, m, n) places in grid.levels. Bits are those of the pass before; the first has none."""
    every = np.arange(len(wide))
    scale = np.broadcast_to(grid.scale, wide.shape)
    price = tradeoff.price * tradeoff.rate
    none = int(np.abs(grid.levels).argmin())
    bits = np.zeros(grid.levels.size)
    places = np.zeros(wide.shape, np.intp)

    def choose(wanted: Floats, importance: Floats, column: NDArray[np.intp]) -> Floats:
        unit = scale[every, :, column]
        safe = np.where(unit == 0, 1.0, unit)
        found = cheapest(wanted / safe, importance / 2 * unit**2, grid.levels, bits)
        found = np.where(zeros[every, :, column], none, found)
        places[every, :, column] = found
        return grid.levels[found] * unit

    for _ in range(_PASSES if price > 0 else 1):
        compensated(wide, sensitivity.factors, sensitivity.outputs, choose)
        counts = np.bincount(places.reshape(-1), minlength=grid.levels.size)
        bits = price * tradeoff.model.bits(counts.astype(np.int64), grid.levels)
    return places


def _even_encoding(places: NDArray[np.intp], grid: _Grid) -> Encoded:
    """Only the levels in use: int8 where they fit, zero first, the others ascending."""
    used = np.unique(grid.levels[places])
    rest = used[used != 0]
    book = np.concatenate([np.zeros(1), rest])
    codes = np.zeros(grid.levels.size, np.intp)
    codes[np.searchsorted(grid.levels, rest)] = np.arange(1, rest.size + 1)
    small = np.abs(book).max() <= 127
    codebook = book.astype(np.int8) if small else book.astype(np.float32)
    scale = grid.scale.reshape(-1).astype(np.float32)
    return Encoded(_indices(codes[places], book.size), codebook, scale)


def _again(places: NDArray[np.intp], grid: _Grid, known: Encoded) -> Encoded:
    """`known` with other codes. Equal entries of a codebook: the first of them is taken."""
    book = known.codebook.astype(np.float64)
    codes = np.array([np.flatnonzero(book == level)[0] for level in grid.levels])
    return replace(known, indices=_indices(codes[places], book.size))


def _indices(codes: NDArray[np.intp], size: int) -> IndexArray:
    return cast("IndexArray", codes.astype(index_dtype(size)))
