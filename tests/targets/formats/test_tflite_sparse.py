"""Sparse tensors: every layout gives the tensor back, and the smallest is chosen."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from targets.formats.packing import same_bits
from targets.formats.tflite_schema import schema
from targets.formats.tflite_sparse import Layout, SparseTensor, dense, smallest, stored
from targets.formats.tflite_sparsity import sparse_tensor, sparsity_of


def sprinkled(shape: tuple[int, ...], kept: float, dtype: type = np.int8) -> NDArray[np.generic]:
    rng = np.random.default_rng(0)
    return (rng.integers(1, 100, shape) * (rng.random(shape) < kept)).astype(dtype)


def layouts(shape: tuple[int, ...]) -> list[Layout]:
    """All without a block: any order, any level sparse."""
    axes = range(len(shape))
    choices = list(itertools.product((False, True), repeat=len(shape)))
    return [Layout(turn, choice) for turn in itertools.permutations(axes) for choice in choices]


def size(tensor: SparseTensor) -> int:
    return tensor.index_bytes + tensor.values.nbytes


@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.float16, np.float32]),
        hnp.array_shapes(max_dims=4, max_side=5),
        elements=st.sampled_from([0, 0, 0, 1, -3]),
    ),
    st.data(),
)
def test_any_layout_gives_the_tensor_back(tensor: NDArray[np.generic], data: st.DataObject) -> None:
    made = stored(tensor, data.draw(st.sampled_from(layouts(tensor.shape))))
    assert same_bits(dense(made), tensor)
    assert made.values.size


def test_known_arrays() -> None:
    """A dense axis over a sparse one: the usual compressed rows."""
    tensor = np.array([[0, 5, 0, 7], [0, 0, 0, 0], [9, 0, 0, 0]], np.int8)
    made = stored(tensor, Layout((0, 1), (False, True)))
    rows, columns = made.levels
    assert (rows.size, rows.segments, rows.indices) == (3, None, None)
    assert columns.segments is not None
    assert columns.indices is not None
    assert columns.segments.tolist() == [0, 2, 2, 3]
    assert columns.indices.tolist() == [1, 3, 0]
    assert made.values.tolist() == [5, 7, 9]
    assert made.index_bytes == 4 + 3


def test_the_smallest_layout_is_found() -> None:
    for shape, kept in (((7, 3, 3, 5), 0.2), ((40, 30), 0.02), ((6, 2, 1, 9), 0.3)):
        tensor = sprinkled(shape, kept)
        found = smallest(tensor)
        assert found is not None
        assert size(found) == min(size(stored(tensor, layout)) for layout in layouts(shape))


def test_indices_take_the_least_bytes() -> None:
    """8 bits up to 256 places, 16 above; segments by how many there are."""
    widths: dict[int, tuple[int, int]] = {}
    for length in (256, 257):
        made = stored(sprinkled((300, length), 0.5), Layout((0, 1), (False, True)))
        segments, indices = made.levels[1].segments, made.levels[1].indices
        assert segments is not None
        assert indices is not None
        widths[length] = segments.itemsize, indices.itemsize
    assert widths == {256: (2, 1), 257: (2, 2)}
    large = stored(sprinkled((300, 256), 1.0), Layout((0, 1), (False, True)))
    assert large.levels[1].segments is not None
    assert large.levels[1].segments.dtype == np.int32


@pytest.mark.parametrize("axis", [0, 1])
def test_a_long_axis_is_cut_into_blocks(axis: int) -> None:
    """So that 8 bits are enough for an index, at the price of a zero kept here and there."""
    shape = (1000, 512) if axis == 1 else (512, 1000)
    tensor = sprinkled((*shape[:1], 1, 1, *shape[1:]), 1 / 3)
    found = smallest(tensor)
    assert found is not None
    assert found.layout.block == (3 * axis, 2)
    assert same_bits(dense(found), tensor)
    plain = stored(tensor, Layout((1, 2, 0, 3), (False, False, False, True)))
    assert size(found) < 0.9 * size(plain)


def test_dense_tensors_have_no_sparse_form() -> None:
    assert smallest(sprinkled((30, 30), 1.0)) is None
    assert smallest(sprinkled((30, 30), 0.6)) is None  # an index a weight costs more than it saves
    assert smallest(sprinkled((30, 30), 0.6, np.float32)) is not None


def test_minus_zero_is_kept_and_nothing_but_zeros_has_a_value() -> None:
    tensor = np.zeros((4, 5), np.float32)
    tensor[2, 3] = -0.0
    made = smallest(tensor)
    assert made is not None
    assert same_bits(dense(made), tensor)
    empty = smallest(np.zeros((4, 5), np.float32))
    assert empty is not None
    assert empty.values.tolist() == [0] * empty.values.size != []


@pytest.mark.parametrize("shape", [(6, 5), (520, 1, 1, 300), (4, 3, 3, 8)])
def test_the_schema_says_the_same(shape: tuple[int, ...]) -> None:
    made = smallest(sprinkled(shape, 0.2))
    assert made is not None
    back = sparse_tensor(sparsity_of(made, schema()), shape, made.values)
    assert back.layout == made.layout
    assert same_bits(dense(back), dense(made))


def test_levels_of_another_tensor_are_refused() -> None:
    made = stored(sprinkled((6, 5), 0.3), Layout((0, 1), (False, True)))
    rows, columns = made.levels
    assert columns.segments is not None
    assert columns.indices is not None
    outside = replace(columns, indices=columns.indices + 5)
    with pytest.raises(IndexError, match="outside its axis"):
        dense(replace(made, levels=(rows, outside)))
    for segments in (columns.segments[1:], columns.segments[::-1], columns.segments + 1):
        with pytest.raises(ValueError, match="another tree"):
            dense(replace(made, levels=(rows, replace(columns, segments=segments))))
    with pytest.raises(ValueError):  # noqa: PT011 - numpy's own words
        dense(replace(made, values=made.values[:-1]))
