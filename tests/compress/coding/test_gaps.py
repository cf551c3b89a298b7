from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.coding.gaps import best_width, from_gaps, to_gaps
from compress.coding.huffman import pack
from compress.errors import ContainerError, RangeError


def sparse(size: int, density: float, seed: int = 0) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    codes = generator.integers(1, 32, size).astype(np.uint8)
    codes[generator.random(size) >= density] = 0
    return codes


def test_figure_2_of_the_paper() -> None:
    codes = np.zeros(16, np.uint8)
    codes[[1, 4, 15]] = [34, 9, 17]
    gaps, values = to_gaps(codes, 3)
    # Distances 1, 3, 8 (filler), 3 in the paper, which counts from 0; gaps count the zeros.
    assert gaps.tolist() == [1, 2, 7, 2]
    assert values.tolist() == [34, 9, 0, 17]
    assert np.array_equal(from_gaps(gaps, values, 3, 16), codes)


@pytest.mark.parametrize(
    ("codes", "width", "gaps", "values"),
    [
        ([], 4, [], []),
        ([0, 0, 0], 4, [], []),
        ([5], 4, [0], [5]),
        ([1, 2, 3], 4, [0, 0, 0], [1, 2, 3]),
        ([0, 7, 0, 0], 4, [1], [7]),  # trailing zeros are the size's to know
        ([0, 0, 0, 9], 2, [3], [9]),  # the largest gap is no filler
        ([0, 0, 0, 0, 9], 2, [3, 0], [0, 9]),
        ([0] * 9 + [9], 1, [1, 1, 1, 1, 1], [0, 0, 0, 0, 9]),
        ([0, 4, 0, 5, 0], 0, [0, 0, 0, 0], [0, 4, 0, 5]),
        ([0] * 256 + [3], 8, [255, 0], [0, 3]),
    ],
)
def test_known_gaps(codes: list[int], width: int, gaps: list[int], values: list[int]) -> None:
    array = np.array(codes, np.uint8)
    found_gaps, found_values = to_gaps(array, width)
    assert (found_gaps.tolist(), found_values.tolist()) == (gaps, values)
    assert np.array_equal(from_gaps(found_gaps, found_values, width, array.size), array)


@given(st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 65535]), max_size=600), st.integers(0, 8))
def test_round_trip(codes: list[int], width: int) -> None:
    array = np.array(codes, np.uint16)
    gaps, values = to_gaps(array, width)
    assert values.dtype == np.uint16
    assert gaps.size == 0 or gaps.max() < 1 << width
    back = from_gaps(gaps, values, width, array.size)
    assert back.dtype == np.uint16
    assert np.array_equal(back, array)


@pytest.mark.parametrize("density", [0.0, 0.001, 0.08, 0.3, 0.7, 1.0])
def test_best_width_is_best(density: float) -> None:
    codes = sparse(20_000, density)
    sizes: list[int] = []
    for width in range(9):
        gaps, values = to_gaps(codes, width)
        sizes.append(len(pack(gaps, 1 << width)) + len(pack(values, 32)))
    # Its estimate leaves out the lanes' directories, of some bytes.
    assert sizes[best_width(codes, 32)] <= min(sizes) + 12


def test_best_width_of_the_extremes() -> None:
    assert best_width(sparse(1000, 1.0), 32) == 0
    assert best_width(np.zeros(1000, np.uint8), 32) == 0
    assert best_width(np.array([], np.uint8), 32) == 0
    assert best_width(sparse(100_000, 0.01), 32) >= 5


@pytest.mark.parametrize(
    ("gaps", "values", "size", "what"),
    [
        ([1, 2], [1], 9, "shape"),
        ([4], [1], 9, "a gap of 4"),
        ([3, 3], [1, 1], 7, "entry at 7"),
        ([1, 1], [0, 1], 9, "fills no gap"),
        ([3, 3], [1, 0], 9, "fills no gap"),
        ([0], [1], 0, "entry at 0"),
    ],
)
def test_damaged_gaps(gaps: list[int], values: list[int], size: int, what: str) -> None:
    with pytest.raises(ContainerError, match=what):
        from_gaps(np.array(gaps, np.uint8), np.array(values, np.uint8), 2, size)


def test_arguments_out_of_range() -> None:
    codes = np.array([1], np.uint8)
    for width in (-1, 9):
        with pytest.raises(RangeError):
            to_gaps(codes, width)
        with pytest.raises(RangeError):
            from_gaps(codes, codes, width, 5)
    with pytest.raises(RangeError):
        to_gaps(codes.reshape(1, 1), 3)
    with pytest.raises(RangeError):
        from_gaps(codes, codes, 3, -1)
    with pytest.raises(RangeError):
        best_width(np.array([9], np.uint8), 8)
