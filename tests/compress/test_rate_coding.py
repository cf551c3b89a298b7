"""Biases at the price of their bits: on a grid that the containers find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding.grids import even_grid, on_grid
from compress.rate_coding import rounded_bias


@given(
    st.integers(8, 300),
    st.integers(0, 1 << 30),
    st.sampled_from([1e-5, 1e-3, 1.0]),
    st.sampled_from([1e-3, 1.0, 10.0]),
)
def test_they_lie_on_a_grid(size: int, seed: int, price: float, importance: float) -> None:
    random = np.random.default_rng(seed)
    bias = random.normal(size=size) * np.exp(random.normal(size=size) * 0.5)
    found = rounded_bias(bias, price, importance)
    assert found.dtype == np.float32
    assert not np.any(np.signbit(found) & (found == 0))
    if not found.any():
        return
    grid = even_grid(found)
    assert grid is not None
    assert on_grid(*grid).tobytes() == found.tobytes()


@pytest.mark.parametrize("price", [1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("importance", [0.1, 1.0, 30.0])
def test_the_error_is_worth_its_bits(price: float, importance: float) -> None:
    """A mean squared error of step**2 / 12 costs a sixteenth of what halving the step would."""
    bias = np.random.default_rng(0).normal(size=4000)
    error = float(np.mean((rounded_bias(bias, price, importance) - bias) ** 2))
    step = np.sqrt(6 * price / 16 / (np.log(2) * importance))
    assert step**2 / 12 < error * 1.1 < 1.5 * step**2 / 12


def test_small_biases_become_positive_zeros() -> None:
    found = rounded_bias(np.array([-0.01, 0.01, -8.0, 0.0]), 100.0, 1.0)
    assert found[2] == -8
    assert not np.signbit(found[[0, 1, 3]]).any()
    assert rounded_bias(np.zeros(3), 1.0, 1.0).tobytes() == bytes(12)
