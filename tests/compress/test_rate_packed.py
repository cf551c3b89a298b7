"""rate_packed: bytes of the packed .onnx's own forms; as many levels as are worth their bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.rate_packed import kept_levels, packed_bytes, packed_grid, packed_level_bits
from targets.formats.packing import PARTS, Coded, forms

WEIGHTS = np.random.default_rng(0).laplace(size=(1, 40, 100))
INT8 = np.arange(-127.0, 128.0)


def written(codes: np.ndarray, levels: int) -> int:
    """Bytes of codes and mask in the smallest of the exporter's forms."""
    book = np.arange(levels).astype(np.float32)
    data = {name for name in PARTS if name.startswith(("codes", "mask"))}
    found = forms(book[codes], Coded(codes, book))
    sizes = [sum(form.parts[p].nbytes for p in data & form.parts.keys()) for form in found]
    return min(sizes)


@pytest.mark.parametrize("levels", [2, 3, 8, 9, 16, 100, 200, 256, 257])
@pytest.mark.parametrize("zeros", [0.0, 0.1, 0.9])
def test_bytes_are_those_of_the_exporter(levels: int, zeros: float) -> None:
    generator = np.random.default_rng(levels)
    codes = np.arange(1003) % (levels - 1) + 1
    codes[generator.random(codes.size) < zeros] = 0
    codes = np.unique(np.append(codes, 0), return_inverse=True)[1][:-1]  # all that are left
    counts = np.bincount(codes)
    assert packed_bytes(counts, 0) == written(codes.astype(np.uint16), counts.size)


@given(st.lists(st.integers(0, 999), min_size=2, max_size=70).map(np.array), st.data())
def test_bits_of_what_is_in_use_add_up_to_the_bytes(
    counts: np.ndarray, data: st.DataObject
) -> None:
    zero = data.draw(st.integers(0, counts.size - 1))
    bits = packed_level_bits(counts, zero)
    total = float(counts @ bits) / 8
    assert total <= packed_bytes(counts, zero) <= total + 20  # filled up to octets of codes
    used = counts > 0
    used[zero] = False
    assert np.unique(bits[used]).size <= 1


def test_a_level_more_than_a_width_numbers_is_paid_for_by_all() -> None:
    counts = np.full(6, 100)
    counts[4:] = 0
    assert packed_level_bits(counts, 0).tolist() == [2, 2, 2, 2, 402, 402]
    counts[0] = 700  # now with a mask
    assert packed_level_bits(counts, 0).tolist() == [1, 3, 3, 3, 303, 303]
    counts[3] = 0
    assert packed_level_bits(counts, 0).tolist() == [1, 3, 3, 3, 203 - 200, 203 - 200]


@given(st.floats(-9, 0))
def test_a_grid_has_the_levels_of_a_whole_number_of_bits(exponent: float) -> None:
    grid = packed_grid(WEIGHTS, 1.0, 10**exponent)
    assert grid.low < 0 < grid.high
    assert grid.high - grid.low + 1 in {4, 8, 16, 32, 64, 128, 255, 32_002}


def test_the_dearer_a_bit_the_fewer_the_levels() -> None:
    grids = [packed_grid(WEIGHTS, 1.0, 10**exponent) for exponent in np.arange(-9, 0.5, 0.5)]
    levels = [grid.high - grid.low + 1 for grid in grids]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == 32_002
    assert levels[-1] == 4
    assert len(set(levels)) >= 6


def test_a_grid_errs_least_of_its_width() -> None:
    """It ends before the largest weight: the many small ones gain more by it."""
    weights = np.random.default_rng(1).standard_normal((1, 30, 100))
    step, low, high = packed_grid(weights, 1.0, 1e-2)

    def error(other: float) -> float:
        return float(((np.rint(weights / other).clip(low, high) * other - weights) ** 2).mean())

    assert high - low == 15
    assert step * max(high, -low) < np.abs(weights).max()
    others = step * 2.0 ** (np.arange(-24, 25) / 8)
    assert error(step) == min(map(error, others))


@pytest.mark.parametrize(("importance", "price"), [(0.0, 1e-3), (0.0, 0.0), (1.0, 1e3)])
def test_where_no_error_counts_the_grid_is_the_coarsest(importance: float, price: float) -> None:
    grid = packed_grid(-np.abs(WEIGHTS), importance, price)
    assert (grid.low, grid.high) == (-2, 1)


def test_zeros_alone_have_a_grid() -> None:
    assert packed_grid(np.zeros((1, 2, 3)), 1.0, 1e-3).step == 1.0


def test_given_levels_are_thinned_out_to_fewer_bits() -> None:
    values = np.rint(20 * WEIGHTS).clip(-127, 127)
    found = [kept_levels(values, np.ones(values.shape), INT8, 10.0**p) for p in range(-2, 6)]
    sizes = [levels.size for levels in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == INT8.size
    assert sizes[-1] <= 2  # one bit
    assert any(2 < size <= 16 for size in sizes)
    for levels in found:
        assert np.isin(levels, INT8).all()
        assert (np.diff(levels) > 0).all()
        assert 0 in levels


def test_at_no_price_or_with_nothing_to_keep_given_levels_stay() -> None:
    assert kept_levels(20 * WEIGHTS, np.ones(WEIGHTS.shape), INT8, 0.0).size == INT8.size
    zeros = np.zeros((1, 2, 3))
    assert np.array_equal(kept_levels(zeros, zeros, INT8, 1.0), INT8)
