"""Tensors as integers: back to the bit, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from targets.formats.integers import as_integers
from targets.formats.packing import Array, Coded, same_bits

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=6)


def f4(*values: float) -> Array:
    return np.array(values, np.float32)


@given(arrays.arrays(np.int8, SHAPES))
def test_int8_is_itself(tensor: Array) -> None:
    found = as_integers("w", tensor, None)
    assert found is not None
    assert (found.name, found.kind, found.shape) == ("w", "int8", tensor.shape)
    np.testing.assert_array_equal(found.integers, tensor.reshape(-1))
    assert same_bits(found.decoded(), tensor)


@st.composite
def coded(draw: st.DrawFn) -> tuple[Array, Coded]:
    """A tensor by the law of Encoded, and its codes; floats or integers, whatever the scale."""
    shape = draw(SHAPES)
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    size = draw(st.integers(1, 300))
    kind = draw(st.sampled_from(["int8", "float32", "whole"]))
    if kind == "int8":
        size = min(size, 256)
        book = random.permutation(np.arange(-128, 128))[:size].astype(np.int8)
    else:
        book = (random.normal(size=size) * 100).astype(np.float32)
        book = np.rint(book) if kind == "whole" else book
    book[0] = 0
    indices = random.integers(0, size, shape).astype(np.uint16)
    axis = draw(st.sampled_from([None, "none", 0, len(shape) - 1]))
    if axis == "none":
        return book[indices].astype(np.float32) + np.float32(0), Coded(indices, book)
    wide = [1] * len(shape)
    if axis is not None:
        wide[axis] = shape[axis]
    scale = random.normal(size=wide).astype(np.float32)
    tensor = book[indices].astype(np.float32) * scale + np.float32(0)
    return tensor, Coded(indices, book, scale)


@given(coded())
@settings(max_examples=200)
def test_what_codes_explain_comes_back(what: tuple[Array, Coded]) -> None:
    tensor, codes = what
    found = as_integers("w", tensor, codes)
    assert found is not None
    assert same_bits(found.decoded(), tensor)
    whole = np.array_equal(np.rint(codes.book), codes.book)
    assert found.kind == ("grid" if whole else "book")
    assert (found.book is None) == whole
    assert found.integers.shape == (tensor.size,)


@given(coded(), st.integers(0, 1 << 30), st.sampled_from([np.nan, np.inf, -0.0, 1e-3]))
def test_what_they_do_not_explain_is_none(
    what: tuple[Array, Coded], seed: int, other: float
) -> None:
    tensor, codes = what
    place = seed % tensor.size
    wanted = np.float32(other) if other != 1e-3 else np.nextafter(tensor.flat[place], np.float32(9))
    tensor.flat[place] = wanted
    assert as_integers("w", tensor, codes) is None


def test_floats_on_an_even_grid_need_no_codes() -> None:
    tensor = f4(0.75, -0.5, 0, 0.25, 2.5).reshape(5, 1)
    found = as_integers("w", tensor, None)
    assert found is not None
    assert found.integers.tolist() == [3, -2, 0, 1, 10]
    assert found.scale == np.float32(0.25)
    assert same_bits(found.decoded(), tensor)


@pytest.mark.parametrize(
    "values",
    [
        (),
        (0.5,),
        (0, 0, 0),
        (0.1, 0.7, 0.3141592),
        (1, 40_000),  # beyond 16 bits
        (1, np.inf),
        (1, np.nan),
        (-0.0, 1, 2),
    ],
)
def test_other_floats_are_none(values: tuple[float, ...]) -> None:
    assert as_integers("w", f4(*values), None) is None


@given(arrays.arrays(np.uint32, SHAPES))
def test_any_bits_at_all_are_exact_or_none(bits: Array) -> None:
    tensor = bits.view(np.float32)
    found = as_integers("w", tensor, None)
    assert found is None or same_bits(found.decoded(), tensor)


def test_the_greatest_book() -> None:
    book = np.linspace(0, 1, 1 << 15, dtype=np.float32)
    indices = np.array([0, 32767, 5], np.uint16)
    assert as_integers("w", book[indices], Coded(indices, book)) is None
    smaller = book[:-1]
    indices = np.array([0, 32766, 5], np.uint16)
    found = as_integers("w", smaller[indices], Coded(indices, smaller))
    assert found is not None
    assert (found.kind, found.integers.tolist()) == ("book", [0, 32766, 5])
