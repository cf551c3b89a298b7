"""rate_levels: steps that follow the price, cheapest levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.rate_levels import cheapest, even_grid, even_step

LEVELS = np.arange(-8.0, 9.0)


def contexts(count: int) -> np.ndarray:
    return np.zeros(count, np.uint16)


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(1e-6, 1e3))
def test_the_step_lies_between_its_ends(price: float, importance: float, largest: float) -> None:
    step = even_step(price, importance, largest, 100)
    assert largest / 100 <= step <= largest * 2 ** (1 / 8) * (1 + 1e-9)
    assert even_step(2 * price, importance, largest, 100) >= step


def test_a_price_four_times_as_high_doubles_the_step() -> None:
    assert even_step(4e-6, 1.0, 1.0, 1 << 20) == 2 * even_step(1e-6, 1.0, 1.0, 1 << 20)
    assert even_step(1e-6, 1.0, 0.0, 100) == 1.0  # nothing but zeros


def test_at_that_step_a_bit_costs_its_price() -> None:
    """A step half as large takes a bit more and three quarters of the error away; at the limit."""
    step = even_step(1e-6, 3.0, 1.0, 1 << 20)
    slope = 2 * np.log(2) * 3.0 * step**2 / 12
    assert slope == pytest.approx(1e-6, rel=0.2)  # steps are rounded to eighths of an octave


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=30))
def test_without_bits_the_nearest_is_the_cheapest(wanted: list[float]) -> None:
    values = np.array(wanted)
    none, here = np.zeros((1, 17)), contexts(values.size)
    found = LEVELS[cheapest(values, np.ones(values.size), LEVELS, none, here)]
    np.testing.assert_allclose(np.abs(found - values), np.abs(np.rint(values).clip(-8, 8) - values))


@given(st.floats(-9, 9), st.floats(0.01, 10), st.floats(0, 3))
def test_the_cheapest_of_its_neighbours_and_zero(want: float, weight: float, price: float) -> None:
    bits = price * np.abs(LEVELS)
    cost = weight * (LEVELS - want) ** 2 + bits
    place = cheapest(np.array([want]), np.array([weight]), LEVELS, bits[None], contexts(1))[0]
    near = np.abs(LEVELS - np.clip(want, -8, 8)) <= 1.5
    assert cost[place] <= min(cost[near].min(), cost[8]) + 1e-12


def test_what_is_cheap_depends_on_the_context() -> None:
    bits = np.zeros((2, 17))
    bits[0, 9], bits[1, 10] = 5.0, 5.0  # of the levels 1 and 2
    here = np.array([0, 1], np.uint16)
    found = cheapest(np.array([1.4, 1.6]), np.ones(2), LEVELS, bits, here)
    assert LEVELS[found].tolist() == [2.0, 1.0]


def test_an_even_grid_reaches_a_level_beyond_the_largest_weight() -> None:
    grid = even_grid(np.array([-1.0, 0.25]), 1.0, 1e-3)
    assert grid.step == even_step(1e-3, 1.0, 1.0, 16_000)
    assert grid.step * (grid.high - 1) == pytest.approx(1.0, abs=grid.step / 2)
    assert grid.low == -grid.high
