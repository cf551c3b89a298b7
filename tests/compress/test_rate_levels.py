"""rate_levels: bits that a decoder could keep to, steps that follow the price, cheapest levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.rate_levels import Order0, cheapest, even_step

LEVELS = np.arange(-8.0, 9.0)


@given(st.lists(st.integers(0, 1000), min_size=17, max_size=17))
def test_bits_are_finite_and_no_shorter_than_a_code_allows(counts: list[int]) -> None:
    bits = Order0().bits(np.array(counts), LEVELS)
    assert np.isfinite(bits).all()
    assert np.exp2(-bits).sum() <= 1 + 1e-9  # Kraft


def test_what_occurs_often_takes_few_bits() -> None:
    counts = np.zeros(17, np.int64)
    counts[8], counts[9] = 900, 100
    bits = Order0().bits(counts, LEVELS)
    assert bits[8] == pytest.approx(-np.log2(0.9), abs=0.01)
    assert bits[9] == pytest.approx(-np.log2(0.1), abs=0.05)
    assert bits[10] < bits[16]  # unused: the farther the dearer


def test_far_levels_of_a_narrow_distribution_do_not_overflow() -> None:
    levels = np.arange(-16000.0, 16001.0)
    counts = np.zeros(levels.size, np.int64)
    counts[16000] = 10_000
    assert np.isfinite(Order0().bits(counts, levels)).all()


def test_the_size_is_the_entropy() -> None:
    assert Order0().size_bytes(np.array([0, 4, 4, 0, 8])) == pytest.approx(16 * 1.5 / 8)
    assert Order0().size_bytes(np.array([5])) == 0
    assert Order0().size_bytes(np.zeros(3, np.int64)) == 0


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
    found = LEVELS[cheapest(values, np.ones(values.size), LEVELS, np.zeros(17))]
    np.testing.assert_allclose(np.abs(found - values), np.abs(np.rint(values).clip(-8, 8) - values))


@given(st.floats(-9, 9), st.floats(0.01, 10), st.floats(0, 3))
def test_the_cheapest_of_its_neighbours_and_zero(want: float, weight: float, price: float) -> None:
    bits = price * np.abs(LEVELS)
    cost = weight * (LEVELS - want) ** 2 + bits
    place = cheapest(np.array([want]), np.array([weight]), LEVELS, bits)[0]
    near = np.abs(LEVELS - np.clip(want, -8, 8)) <= 1.5
    assert cost[place] <= min(cost[near].min(), cost[8]) + 1e-12
