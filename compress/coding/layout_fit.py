"""Which layouts a tensor's codes may be tried in, with the parameters that suit them.

The parameters are fitted in exact integers and in a fixed order of floating-point operations, so
that equal codes give equal layouts on every machine.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compress.coding.huffman import symbol_counts
from compress.coding.layouts import (
    MAX_PLACES,
    Blocks,
    Codes,
    Limits,
    Place,
    Planes,
    near_places,
)
from compress.coding.model import signed

_SPREADS = 6  # of Blocks
_LEAST_BLOCKS = 512
_LEAST_PLANES = 64
# (limits on each side of the middle, spreads)
GRIDS = ((2, 4), (0, 4), (1, 2), (4, 4), (4, 8))
# A sample's quantiles are as good.
_SAMPLE = 1 << 16
_KERNELS = 1 << 14  # at a time
_RIDGE = 1e-3
_LEAST_RIDGE = 1e-3  # keeps the equations solvable where a place is always zero


def blocks_fit(codes: Codes) -> bool:
    """Whether Blocks may be worth a try; codes of the tensor's shape."""
    return codes.ndim > 1 and len(codes) >= 4 and codes.size >= max(_LEAST_BLOCKS, 4 * len(codes))


def fit_blocks(codes: Codes, alphabet: int, negatives: int) -> Blocks:
    """Blocks with limits that share the codes out evenly."""
    magnitudes = np.abs(signed(np.arange(alphabet), negatives))
    counts = symbol_counts(codes.reshape(-1), alphabet)
    mean = int(counts @ magnitudes) * 256 // codes.size
    layout = Blocks(alphabet, negatives, mean, ())
    matrix = codes.reshape(layout.seen(codes.shape))
    step = codes.size // _SAMPLE + 1
    # Copies: a view would keep the measures of all codes, 8 bytes each.
    sampled = [measure.reshape(-1)[::step].copy() for _, measure in layout.measures(matrix)]
    limits = _quantiles(np.concatenate(sampled), [k / _SPREADS for k in range(1, _SPREADS)])
    return replace(layout, limits=limits)


def planes_fit(codes: Codes) -> bool:
    """Whether Planes may be worth a try; codes of the tensor's shape."""
    return (
        codes.ndim > 2
        and 1 < math.prod(codes.shape[2:]) <= MAX_PLACES
        and codes.size >= _LEAST_PLANES
    )


def fit_planes(
    codes: Codes, alphabet: int, negatives: int, fitted: bool, grid: tuple[int, int]
) -> Planes:
    """Planes with spreads by least squares (`fitted`) or by distance, which are smaller to write.

    grid: one of GRIDS; the limits share the codes out evenly.
    """
    shape, near = codes.shape, near_places(codes.shape)
    ranks = signed(np.arange(alphabet), negatives).astype(np.float64)
    kernels = codes.reshape(-1, len(near))
    signs, sizes = _moments(ranks, kernels), _moments(np.abs(ranks), kernels)
    mean = int(16 * sizes[0, 1:].sum()) // codes.size
    places: list[Place] = []
    for number, before in enumerate(near):
        shifts = _least_squares(signs, before, number)[1:] if grid[0] else [0] * len(before)
        spreads = _least_squares(sizes, before, number)
        if not fitted:
            spreads = _by_distance(number, before, shape, mean)
        places.append(Place(before, tuple(shifts), tuple(spreads[1:]), spreads[0]))
    return _with_limits(Planes(alphabet, negatives, tuple(places), (), ()), codes, grid)


def _with_limits(planes: Planes, codes: Codes, grid: tuple[int, int]) -> Planes:
    each_side, spreads = grid
    shift_parts: list[NDArray[np.int64]] = []
    spread_parts: list[NDArray[np.int64]] = []
    step = codes.size // _SAMPLE + 1
    matrix = codes.reshape(planes.seen(codes.shape))
    for number, (_, expected, spread) in enumerate(planes.measures(matrix)):
        if number:  # nothing is known at the first place
            shift_parts.append(16 * np.abs(expected[::step]) // spread[::step])
            spread_parts.append(spread[::step].copy())
    parts = 2 * each_side + 1
    middles = [(2 * k + 1) / parts for k in range(each_side)]
    return replace(
        planes,
        shift_limits=_quantiles(np.concatenate(shift_parts), middles),
        spread_limits=_quantiles(
            np.concatenate(spread_parts), [k / spreads for k in range(1, spreads)]
        ),
    )


def _quantiles(measures: NDArray[np.int64], shares: list[float]) -> Limits:
    """Rising limits of at least 1, as many as there are different ones."""
    ordered = np.sort(measures)
    return tuple(sorted({max(1, int(ordered[int(share * ordered.size)])) for share in shares}))


def _moments(table: NDArray[np.float64], kernels: Codes) -> NDArray[np.float64]:
    """Sums of products of each two places and a constant 1, which comes first.

    A code stands for its entry in `table`, an integer: the sums are exact in any order.
    """
    places = kernels.shape[1]
    sums = np.zeros((places + 1, places + 1))
    for start in range(0, len(kernels), _KERNELS):
        values = table[kernels[start : start + _KERNELS]]
        whole = np.concatenate([np.ones((len(values), 1)), values], axis=1)
        sums += whole.T @ whole
    return sums


def _least_squares(moments: NDArray[np.float64], near: tuple[int, ...], number: int) -> list[int]:
    """16ths: the constant, then a coefficient for each of `near`, for the place `number`."""
    inputs = [0, *(place + 1 for place in near)]
    system = moments[np.ix_(inputs, inputs)]
    ridge = _RIDGE * math.fsum(np.diag(system)[1:]) / max(1, len(near)) + _LEAST_RIDGE
    system = system + np.diag([0.0, *[ridge] * len(near)])
    solved = _solved(system, moments[inputs, number + 1])
    return [max(-(1 << 20), min(1 << 20, math.floor(16 * value + 0.5))) for value in solved]


def _solved(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> list[float]:
    """Gauss's elimination for a positive definite matrix: the same steps on every machine."""
    rows = [[*row, value] for row, value in zip(matrix.tolist(), right.tolist(), strict=True)]
    size = len(rows)
    for pivot in range(size):
        for row in range(pivot + 1, size):
            factor = rows[row][pivot] / rows[pivot][pivot]
            for column in range(pivot, size + 1):
                rows[row][column] -= factor * rows[pivot][column]
    solution = [0.0] * size
    for row in reversed(range(size)):
        rest = rows[row][size] - sum(rows[row][k] * solution[k] for k in range(row + 1, size))
        solution[row] = rest / rows[row][row]
    return solution


def _by_distance(
    number: int, near: tuple[int, ...], shape: tuple[int, ...], mean: int
) -> list[int]:
    """16ths: a bias towards the mean magnitude, and nearer places weighing more."""
    width = shape[-1]
    weights = []
    for place in near:
        rows, columns = number // width - place // width, number % width - place % width
        weights.append({1: 4, 2: 3}.get(rows**2 + columns**2, 2))
    total = sum(weights) + 4
    return [4 * mean // total, *[(16 * w + total // 2) // total for w in weights]]
