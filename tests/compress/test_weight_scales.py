"""weight_scales: the scale of the least squared error, against trying many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.affine import quantize_symmetric, symmetric_scale
from compress.errors import RangeError
from compress.weight_scales import least_error_scale


def error(weight: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    integers = quantize_symmetric(weight, scale, 0, bits)
    missed = integers * scale[:, None].astype(np.float64) - weight
    return (missed**2).sum(axis=1)


@given(st.integers(0, 1000), st.sampled_from([4, 8]), st.integers(1, 40))
def test_it_never_errs_more_than_the_grid_to_the_largest_weight(
    seed: int, bits: int, width: int
) -> None:
    weight = np.random.default_rng(seed).standard_t(3, (3, width)).astype(np.float32)
    found = least_error_scale(weight, 0, bits)
    assert found.dtype == np.float32
    assert found.shape == (3,)
    whole = symmetric_scale(weight, 0, bits)
    assert (error(weight, found, bits) <= error(weight, whole, bits)).all()


def test_it_is_near_the_best_of_many() -> None:
    weight = np.random.default_rng(0).laplace(size=(6, 300)).astype(np.float32)
    whole = symmetric_scale(weight, 0, 4)
    least = np.min([error(weight, whole * np.float32(s), 4) for s in np.linspace(0.2, 1, 801)], 0)
    found = error(weight, least_error_scale(weight, 0, 4), 4)
    assert (found <= 1.01 * least).all()
    assert (found < 0.8 * error(weight, whole, 4)).all()


def test_a_weight_on_the_grid_keeps_its_scale_and_zeros_have_one() -> None:
    integers = np.random.default_rng(1).integers(-7, 8, (4, 50))
    integers[:, 0] = 7
    scale = np.array([0.5, 0.1, 3.0, 1e-3], np.float32)
    weight = (integers * scale[:, None]).astype(np.float32)
    found = least_error_scale(weight, 0, 4)
    np.testing.assert_array_equal(quantize_symmetric(weight, found, 0, 4), integers)
    np.testing.assert_allclose(found, scale, rtol=1e-6)
    assert least_error_scale(np.zeros((2, 5), np.float32), 0, 4).tolist() == [1, 1]


def test_one_scale_for_all_and_weights_that_count() -> None:
    weight = np.array([[1.0, 0.3, 0.2], [9.0, 0.1, -0.3]], np.float32)
    assert least_error_scale(weight, None, 4).shape == (1,)
    small = np.where(np.abs(weight) < 0.5, np.float32(1), np.float32(1e-6))
    fine = least_error_scale(weight, 0, 4, small)
    assert (fine < least_error_scale(weight, 0, 4) * 0.7).all()


def test_weights_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(RangeError, match="NaN or infinity"):
        least_error_scale(np.array([[np.nan, 1.0]], np.float32), 0, 4)
