"""Encodings: one bit-exact law, and arrays of the wrong kind stopped at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compress.encoding import Encoded, Masked, index_dtype, int8_codebook
from compress.errors import EncodingError
from tests.candidates import int8, shared

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)
WEIGHTS = st.floats(-100, 100, width=32)


def bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


@given(shape=SHAPES, data=st.data())
def test_masks_project_to_exact_zeros_and_twice_is_once(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    weight = data.draw(hnp.arrays(np.float32, shape, elements=WEIGHTS))
    mask = data.draw(hnp.arrays(np.bool_, shape))
    masked = Masked(mask)
    once = masked.project(weight)
    assert once.dtype == np.float32
    np.testing.assert_array_equal(bits(once[mask]), bits(weight[mask]))
    assert not bits(once[~mask]).any()  # +0.0, never -0.0
    np.testing.assert_array_equal(bits(masked.project(once)), bits(once))
    np.testing.assert_array_equal(masked.zeros(), ~mask)
    assert masked.shape == shape


@given(shape=SHAPES, data=st.data())
def test_codebooks_decode_as_the_formula_says(shape: tuple[int, ...], data: st.DataObject) -> None:
    codes = data.draw(st.integers(1, 300))
    axis = data.draw(st.one_of(st.none(), st.integers(0, len(shape) - 1)))
    channels = 1 if axis is None else shape[axis]
    codebook = data.draw(hnp.arrays(np.float32, codes, elements=WEIGHTS))
    codebook[0] = 0
    scale = data.draw(hnp.arrays(np.float32, channels, elements=WEIGHTS))
    indices = data.draw(hnp.arrays(index_dtype(codes), shape, elements=st.integers(0, codes - 1)))
    encoded = Encoded(indices, codebook, scale, axis)
    decoded = encoded.decode()
    assert decoded.shape == shape
    assert decoded.dtype == np.float32
    for place in np.ndindex(*shape):
        channel = 0 if axis is None else place[axis]
        expected = np.float32(codebook[indices[place]]) * scale[channel] + np.float32(0)
        assert bits(decoded[place]) == bits(expected)
    assert not (bits(decoded) == 0x80000000).any()  # no -0.0
    assert encoded.bits == max(1, int(np.ceil(np.log2(codes))))
    assert (decoded[encoded.zeros()] == 0).all()


def test_int8_codebook_is_twos_complement_with_zero_first() -> None:
    codebook = int8_codebook()
    assert codebook.dtype == np.int8
    assert codebook[[0, 1, 127, 128, 255]].tolist() == [0, 1, 127, -128, -1]
    codes = np.array([[-128, -1, 0, 1, 127]], np.int8)
    encoded = Encoded(codes.view(np.uint8), codebook, np.array([0.5], np.float32))
    np.testing.assert_array_equal(encoded.integers(), codes)
    assert encoded.decode().tolist() == [[-64.0, -0.5, 0.0, 0.5, 63.5]]
    assert encoded.on_integers
    assert not shared((2, 2)).on_integers


@pytest.mark.parametrize("axis", [0, 1])
def test_scaling_a_channel_keeps_codes_codebook_and_zeros(axis: int) -> None:
    encoded = shared((3, 4, 2, 2))
    factor = np.linspace(-2, 2.5, encoded.shape[axis], dtype=np.float32)
    scaled = encoded.scaled(axis, factor)
    np.testing.assert_array_equal(scaled.indices, encoded.indices)
    np.testing.assert_array_equal(scaled.codebook, encoded.codebook)
    wide = factor.reshape([-1 if a == axis else 1 for a in range(4)])
    np.testing.assert_array_equal(scaled.decode(), encoded.decode() * wide)
    assert scaled.axis == axis
    again = scaled.scaled(axis, factor)
    np.testing.assert_allclose(again.decode(), encoded.decode() * wide * wide, rtol=1e-6)
    with pytest.raises(EncodingError, match="axis"):
        scaled.scaled(1 - axis, np.ones(encoded.shape[1 - axis], np.float32))


def test_a_channel_scaled_to_nothing_becomes_zeros_that_can_be_seen() -> None:
    factor = np.array([2, 0, 1e-42], np.float32)
    scaled = shared((3, 4)).scaled(0, factor)
    assert scaled.zeros()[1:].all()
    assert scaled.scale.tolist() == [2, 1, 1]
    np.testing.assert_array_equal(scaled.decode()[0], shared((3, 4)).decode()[0] * 2)
    assert not scaled.decode()[1:].any()


def test_runtimes_get_the_same_products_with_scales_above_zero() -> None:
    encoded = int8((4, 6)).scaled(0, np.array([1, -1, 2, -0.5], np.float32))
    integers, scale = encoded.runtime_form()
    assert integers.dtype == np.int8
    assert (scale > 0).all()
    np.testing.assert_array_equal(integers * scale[:, None] + np.float32(0), encoded.decode())


GOOD: dict[str, Any] = {
    "indices": np.zeros((2, 3), np.uint8),
    "codebook": np.array([0, 1], np.float32),
    "scale": np.ones(2, np.float32),
    "axis": 0,
}
BAD = {
    "index past the end": ({"indices": np.full((2, 3), 2, np.uint8)}, "index 2"),
    "float indices": ({"indices": np.zeros((2, 3), np.float32)}, "indices of type float32"),
    "signed indices": ({"indices": np.full((2, 3), -1, np.int8)}, "indices of type int8"),
    "code 0 not zero": ({"codebook": np.array([1, 0], np.float32)}, "code 0 must be"),
    "empty codebook": ({"codebook": np.zeros(0, np.float32)}, "1..65536"),
    "flat codebook only": ({"codebook": np.zeros((2, 2), np.float32)}, "1..65536"),
    "codebook too long": ({"codebook": np.zeros((1 << 16) + 1, np.float32)}, "1..65536"),
    "float64 codebook": ({"codebook": np.zeros(2)}, "codebook of type float64"),
    "NaN in the codebook": ({"codebook": np.array([0, np.nan], np.float32)}, "not finite"),
    "infinite scale": ({"scale": np.array([1, np.inf], np.float32)}, "not finite"),
    "weights beyond float32": (
        {"codebook": np.array([0, 1e20], np.float32), "scale": np.array([1, 1e20], np.float32)},
        r"as large as 1e\+40",
    ),
    "scale of the wrong length": ({"scale": np.ones(3, np.float32)}, r"\(2,\) is needed"),
    "scale without an axis": ({"axis": None}, r"\(1,\) is needed"),
    "negative axis": ({"axis": -1}, "axis -1"),
    "axis too high": ({"axis": 2}, "axis 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arrays_are_refused_in_one_line(case: str) -> None:
    changed, message = BAD[case]
    Encoded(**GOOD)
    with pytest.raises(EncodingError, match=message) as error:
        Encoded(**{**GOOD, **changed})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("codes", "name"), [(1, "uint8"), (256, "uint8"), (257, "uint16")])
def test_index_type_is_the_smallest(codes: int, name: str) -> None:
    assert np.dtype(index_dtype(codes)).name == name
