"""Even grids are found whatever multiples of their step there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from compress.coding.grids import even_grid, on_grid


@given(
    st.floats(2.0**-100, 2.0**100, width=32),
    st.lists(st.integers(-2000, 2000), min_size=2, max_size=100),
)
@settings(max_examples=300)
def test_any_multiples_are_found(step: float, multiples: list[int]) -> None:
    """Where their greatest divisor, times the step, may be told by a few parts."""
    assume(math.gcd(*multiples) <= 16)
    values = on_grid(np.float32(step), np.array(multiples))
    found = even_grid(values)
    if not any(multiples):
        assert found is None
        return
    assert found is not None
    own, k = found
    assert own > 0
    assert on_grid(own, k).tobytes() == values.tobytes()


@given(st.integers(8, 300), st.sampled_from([30, 1000, 3000]), st.integers(0, 1 << 30))
def test_multiples_of_trained_biases(size: int, most: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    step = np.float32(np.exp(random.normal() * 5))
    values = on_grid(step, random.integers(-most, most + 1, size))
    found = even_grid(values)
    assert found is not None
    assert on_grid(*found).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("multiples", "step"),
    [
        ([6, 10, 15], 1),  # the least of them and the least difference are no steps
        ([6, -10, 16, 0], 2),
        ([1001, 1003, 65535], 1),
        ([5, 5, 5], 5),
        ([3, 0], 3),
        ([2, 6, 9], 1),
    ],
)
@pytest.mark.parametrize("unit", [0.1, 0.25, 1e-30, 3e30])
def test_the_coarsest_step_is_taken(multiples: list[int], step: int, unit: float) -> None:
    values = on_grid(np.float32(unit), np.array(multiples))
    found = even_grid(values)
    assert found is not None
    assert found[0] == pytest.approx(step * np.float32(unit), rel=1e-6)
    assert (found[1] * step).tolist() == multiples


@given(arrays.arrays(np.uint32, st.integers(0, 9)))
def test_any_bits_at_all_are_exact_or_none(bits: NDArray[np.uint32]) -> None:
    values = bits.view(np.float32)
    found = even_grid(values)
    assert found is None or on_grid(*found).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "values",
    [[], [1], [0, 0], [1, np.inf], [np.nan, 1], [-0.0, 1], [1, 65_537], [0.1, 0.2, 0.30000004]],
)
def test_none(values: list[float]) -> None:
    assert even_grid(np.array(values, np.float32)) is None


@pytest.mark.parametrize("size", [2, 5, 64, 65, 1000, 200_000])
def test_trained_weights_lie_on_none_and_rounded_ones_do(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size).astype(np.float32)
    assert size == 2 or even_grid(values) is None
    step = np.float32(0.0123)
    rounded = on_grid(step, np.rint(values / step).astype(np.int64))
    found = even_grid(rounded)
    assert found is not None
    assert on_grid(*found).tobytes() == rounded.tobytes()
