from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.ranking import smallest_magnitude

LARGEST = float(np.finfo(np.float32).max)


@given(st.lists(st.floats(-LARGEST, LARGEST, width=32), min_size=1, max_size=50), st.data())
def test_as_by_sorting(numbers: list[float], data: st.DataObject) -> None:
    values = np.array(numbers, np.float32)
    rank = data.draw(st.integers(0, values.size - 1))
    assert smallest_magnitude(values, rank) == np.sort(np.abs(values))[rank]


@pytest.mark.parametrize("scale", [1, 1e-42, 1e30])
def test_many_values_of_any_shape(scale: float) -> None:
    values = (np.random.default_rng(0).standard_normal((3, 50_000, 2)) * scale).astype(np.float32)
    ordered = np.sort(np.abs(values), axis=None)
    for rank in (0, 1, 12_345, 150_000, values.size - 1):
        assert smallest_magnitude(values[:, ::-1], rank) == ordered[rank]


def test_equal_values_and_zeros() -> None:
    values = np.array([0.0, -0.0, 2.0, -2.0, 2.0, 1.0], np.float32)
    found = [float(smallest_magnitude(values, rank)) for rank in range(6)]
    assert found == [0, 0, 1, 2, 2, 2]


def test_double_precision() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    assert smallest_magnitude(values, 700) == np.sort(np.abs(values))[700]
