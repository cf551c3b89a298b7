"""The range of an activation's grid, against the error that the grid then makes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.affine import affine_grid
from compress.clipping import least_error, trimmed

BINS = 8192


def histogram(values: NDArray[np.float64]) -> tuple[tuple[float, float], NDArray[np.float64]]:
    whole = (float(values.min()), float(values.max()))
    return whole, np.histogram(values, BINS, whole)[0].astype(np.float64)


def error(values: NDArray[np.float64], low: float, high: float) -> float:
    """The mean squared error of the very integers."""
    scale, zero = affine_grid(low, high)
    codes = np.clip(np.rint(values / float(scale)) + zero, 0, 255)
    return float(((values - (codes - zero) * float(scale)) ** 2).mean())


def relu(seed: int, spread: float, size: int = 20_000) -> NDArray[np.float64]:
    """Half zeros, and a tail as activations have."""
    return np.maximum(np.random.default_rng(seed).laplace(0, spread, size), 0)


def test_rare_large_values_are_clipped() -> None:
    """Ten million values of which one is at 60, where clipping costs less than coarse steps."""
    whole, counts = (0.0, 60.0), np.histogram(relu(0, 1.0), BINS, (0, 60))[0] * 500.0
    counts[-1] += 1
    low, high = least_error(whole, counts)
    assert low == 0.0
    assert 5 < high < 15
    counts[-1] += 1e6
    assert least_error(whole, counts) == (0.0, pytest.approx(60, abs=1))


def test_evenly_spread_values_keep_their_range() -> None:
    values = np.random.default_rng(0).uniform(-3, 5, 20_000)
    low, high = least_error(*histogram(values))
    assert low == pytest.approx(-3, abs=0.05)
    assert high == pytest.approx(5, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.booleans(), st.booleans())
def test_no_other_range_errs_less(seed: int, spread: float, negative: bool, both: bool) -> None:
    """Found by a formula, judged by the quantized values themselves, within 3 %.

    Of n values the mean squared rounding error is known to 0.9 / sqrt(n): here 0.3 %, as half of
    them are zeros.
    """
    values = relu(seed, spread, 200_000) * (-1 if negative else 1)
    if both:
        values[::3] = -relu(seed + 1, spread / 4, 200_000)[::3]
    whole, counts = histogram(values)
    low, high = least_error(whole, counts)
    assert min(whole[0], 0) <= low <= 0 <= high <= max(whole[1], 0)
    found = error(values, low, high)
    assert found <= 1.03 * error(values, *whole)
    for factor in (0.6, 0.8, 0.9, 1.1, 1.25, 1.6):
        assert found <= 1.03 * error(values, max(low * factor, whole[0]), high)
        assert found <= 1.03 * error(values, low, min(high * factor, whole[1]))


@pytest.mark.parametrize("seed", [17, 377, 911])
def test_a_range_below_zero_is_that_of_its_mirror_image(seed: int) -> None:
    """Zeros, half of the values, err by nothing on either side."""
    values = relu(seed, 1.0)
    low, high = least_error(*histogram(-values))
    assert (low, high) == (pytest.approx(-least_error(*histogram(values))[1], rel=1e-3), 0.0)


def test_values_that_never_cross_zero_get_zero_too() -> None:
    values = np.random.default_rng(0).uniform(7, 8, 1000)
    assert least_error(*histogram(values)) == (0.0, pytest.approx(8, abs=0.05))
    low, high = least_error(*histogram(-values))
    assert (low, high) == (pytest.approx(-8, abs=0.05), 0.0)


@pytest.mark.parametrize("whole", [(0.0, 0.0), (2.0, 2.0), (-1.0, 1.0)])
def test_without_counts_the_range_stays(whole: tuple[float, float]) -> None:
    nothing = np.zeros(BINS)
    assert least_error(whole, nothing) == whole
    assert trimmed(whole, nothing, 0.1) == whole
