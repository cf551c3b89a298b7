"""One layer's weight as codes that are cheap for what they keep of its outputs. Plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from compress.compensation import Factors, Floats, as_groups, compensated
from compress.encoding import Encoded, IndexArray, index_dtype
from compress.rate_levels import Codes, Rates, cheapest, even_step
from compress.rate_models import RateModel

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
    if known is None:
        grid = _even(wide, sensitivity, tradeoff)
    else:
        grid = _kept(wide, _of(known, wide.shape), sensitivity, tradeoff)
    found = _places(wide, grid, zeros, sensitivity, tradeoff)
    return _even_encoding(found, grid) if known is None else _again(found, grid, known)


def rounded_bias(
    bias: NDArray[np.floating], price: float, importance: float
) -> NDArray[np.float32]:
    """`bias` on an even grid, finer than its bits are worth; importance of one squared error.

    There are few of them, and no neighbour makes their errors good.
    """
    worth = price / _CAUTION**2
    step = np.float32(even_step(worth, importance, float(np.abs(bias).max(initial=0)), _FINE))
    # Plus 0.0: a bias of -0.0 lies on no grid, and all of them would be stored as they are.
    return np.rint(bias / step).astype(np.float32) * step + np.float32(0)


def used_bytes(encoded: Encoded, model: RateModel) -> float:
    """Bytes of the codes by the rate model, of the codebook and of the scales."""
    return model.size_bytes(encoded) + encoded.codebook.nbytes + encoded.scale.nbytes


def _even(wide: Floats, sensitivity: Sensitivity, tradeoff: Tradeoff) -> _Grid:
    # Half the sum is the divergence (moments.py).
    step, low, high = tradeoff.model.grid(wide, sensitivity.mean() / 2, tradeoff.price)
    return _Grid(np.arange(low, high + 1, dtype=np.float64), np.full((1, 1, 1), step))


def _of(known: Encoded, shape: tuple[int, ...]) -> _Grid:
    levels = np.unique(known.codebook.astype(np.float64))
    if known.on_integers:  # symmetric, as the runtimes want it
        levels = levels[levels >= -127]
    scale = np.broadcast_to(known.broadcast_scale(), known.shape).astype(np.float64)
    return _Grid(levels, scale.reshape(shape))


def _kept(wide: Floats, grid: _Grid, sensitivity: Sensitivity, tradeoff: Tradeoff) -> _Grid:
    """The levels of `grid` that the rate model keeps."""
    scale = np.broadcast_to(grid.scale, wide.shape)
    inputs = sensitivity.factors.scales.mean(axis=1)[:, None, None]
    worth = inputs * sensitivity.outputs[:, :, None] / 2 * scale**2
    values = wide / np.where(scale == 0, 1.0, scale)
    levels = tradeoff.model.kept(values, worth, grid.levels, tradeoff.price)
    return replace(grid, levels=levels)


def _places(
    wide: Floats,
    grid: _Grid,
    zeros: NDArray[np.bool_],
    sensitivity: Sensitivity,
    tradeoff: Tradeoff,
) -> Codes:
    """Places in grid.levels, of the shape of `zeros`. Bits are those of the pass before.

    The first pass has none.
    """
    every = np.arange(len(wide))
    scale, pruned = np.broadcast_to(grid.scale, wide.shape), zeros.reshape(wide.shape)
    price = tradeoff.price * tradeoff.rate
    none = int(np.abs(grid.levels).argmin())
    places = np.zeros(wide.shape, np.intp)
    rates = Rates(np.zeros((1, grid.levels.size)), np.zeros(wide.shape, np.uint16))

    def choose(wanted: Floats, importance: Floats, column: NDArray[np.intp]) -> Floats:
        unit, contexts = scale[every, :, column], rates.contexts[every, :, column]
        safe = np.where(unit == 0, 1.0, unit)
        worth = importance / 2 * unit**2
        found = cheapest(wanted / safe, worth, grid.levels, rates.bits, contexts)
        found = np.where(pruned[every, :, column], none, found)
        places[every, :, column] = found
        return grid.levels[found] * unit

    for number in range(_PASSES if price > 0 else 1):
        if number:
            seen = tradeoff.model.rates(places.reshape(zeros.shape), grid.levels)
            rates = Rates(price * seen.bits, seen.contexts.reshape(wide.shape))
        compensated(wide, sensitivity.factors, sensitivity.outputs, choose)
    return places.reshape(zeros.shape)


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
