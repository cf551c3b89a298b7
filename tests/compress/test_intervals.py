from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.intervals import Intervals

LARGEST = float(np.finfo(np.float32).max)
finite = st.floats(-LARGEST, LARGEST, width=32)
TINY = float(np.finfo(np.float32).smallest_subnormal)


def searched(borders: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.searchsorted(borders, values)


@given(st.lists(finite, unique=True, max_size=40), st.lists(finite, max_size=40))
def test_as_a_binary_search(borders: list[float], values: list[float]) -> None:
    edges = np.unique(np.array(borders, np.float32))
    # Each border itself and its two neighbours are the hard values.
    steps = [np.nextafter(edges, np.float32(side)) for side in (-LARGEST, LARGEST)]
    asked = np.concatenate([np.array(values, np.float32), edges, *steps])
    assert np.array_equal(Intervals(edges).of(asked), searched(edges, asked))


@pytest.mark.parametrize(
    "borders",
    [
        [],
        [0.0],
        [-TINY, 0.0, TINY],
        [-LARGEST, -1.0, 1.0, LARGEST],
        np.linspace(1, 1.0001, 9),  # many borders under one table entry
        np.linspace(1, 1.0001, 200),  # too many of them
        np.linspace(-1e-39, 1e-39, 300),  # subnormal, and answers of 16 bits
    ],
)
def test_hard_borders(borders: list[float]) -> None:
    edges = np.unique(np.array(borders, np.float32))
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 1 << 32, 20_000, dtype=np.uint32).view(np.float32)
    wobble = 1 + generator.uniform(-1e-6, 0, edges.size * 50).astype(np.float32)
    near = np.repeat(edges, 50) * wobble
    special = np.array([0.0, -0.0, TINY, -TINY, LARGEST, -LARGEST], np.float32)
    asked = np.concatenate([bits, near, special])
    asked = asked[np.isfinite(asked)]
    found = Intervals(edges).of(asked)
    assert np.array_equal(found, searched(edges, asked))
    assert found.dtype == (np.uint8 if edges.size < 256 else np.uint16)


def test_strided_values() -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    edges = np.array([-1, 0, 1], np.float32)
    assert np.array_equal(Intervals(edges).of(values[::3]), searched(edges, values[::3]))
