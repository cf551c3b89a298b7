from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from compress.affine import (
    affine_grid,
    dequantize,
    quantize_symmetric,
    symmetric_scale,
)
from compress.candidate import ActivationQuant
from compress.errors import RangeError
from compress.simulate import on_grid

# Next to float32's end the decoded top of a grid may round to infinity.
finite = st.floats(-(2.0**126), 2.0**126, width=32)


@pytest.fixture(scope="module")
def stock() -> onnxruntime.InferenceSession:
    """onnxruntime's own QuantizeLinear and DequantizeLinear."""
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"]),
        ],
        "quantize",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("zero_point", TensorProto.UINT8, []),
        ],
        [
            helper.make_tensor_value_info("q", TensorProto.UINT8, ["n"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def placed(
    x: NDArray[np.float32], scale: np.float32, zero: int, bits: int = 8
) -> NDArray[np.float32]:
    """The values on the grid, as `simulate` and training see them."""
    return on_grid(torch.from_numpy(x), ActivationQuant(float(scale), zero, bits)).numpy()


def check_against(
    stock: onnxruntime.InferenceSession, x: NDArray[np.float32], scale: np.float32, zero: int
) -> None:
    feeds = {"x": x, "scale": np.array(scale), "zero_point": np.array(zero, np.uint8)}
    expected_q, expected_y = stock.run(None, feeds)
    assert np.array_equal(dequantize(expected_q, scale, zero), expected_y)
    assert np.array_equal(placed(x, scale, zero), expected_y)


def test_ties_as_onnxruntime(stock: onnxruntime.InferenceSession) -> None:
    x = np.arange(-300, 600, dtype=np.float32) / 2
    check_against(stock, x, np.float32(1.0), 100)
    ties = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    assert placed(ties, np.float32(1), 10).tolist() == [0, 2, 2, 0, -2]


def test_random_values_as_onnxruntime(stock: onnxruntime.InferenceSession) -> None:
    generator = np.random.default_rng(0)
    for low, high in ((-1.0, 3.0), (0.0, 6.0), (-1e-3, 0.0), (-1e30, 1e30), (1e-20, 2e-20)):
        x = (generator.standard_normal(50_000) * max(-low, high)).astype(np.float32)
        check_against(stock, x, *affine_grid(low, high))


@given(st.lists(finite, min_size=1, max_size=20), finite, finite)
def test_any_values_as_onnxruntime(
    stock: onnxruntime.InferenceSession, values: list[float], one: float, other: float
) -> None:
    scale, zero = affine_grid(min(one, other), max(one, other))
    check_against(stock, np.array(values, np.float32), scale, zero)


def test_infinities_saturate() -> None:
    x = np.array([-np.inf, np.inf, 3e38, -3e38], np.float32)
    scale = np.float32(1e-3)
    ends = dequantize(np.array([0, 255, 255, 0], np.uint8), scale, 7)
    assert np.array_equal(placed(x, scale, 7), ends)


@given(finite, finite, st.integers(2, 8))
def test_grid_holds_zero_and_both_ends(one: float, other: float, bits: int) -> None:
    low, high = min(one, other), max(one, other)
    scale, zero = affine_grid(low, high, bits)
    assert scale.dtype == np.float32
    assert scale > 0
    assert np.isfinite(scale)
    assert 0 <= zero < 1 << bits
    assert placed(np.zeros(1, np.float32), scale, zero, bits)[0] == 0.0
    ends = np.array([low, high], np.float32)
    off = np.abs(placed(ends, scale, zero, bits).astype(np.float64) - ends)
    assert np.all(off <= 0.5001 * float(scale))


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [
        (0.0, 255.0, 1.0, 0),
        (-128.0, 127.0, 1.0, 128),
        (-255.0, 0.0, 1.0, 255),
        (51.0, 255.0, 1.0, 0),  # widened to 0
        (-255.0, -51.0, 1.0, 255),
        (0.0, 0.0, 1.0, 0),
        (-1.0, 1.0, np.float32(2 / 255), 127),  # 1 / scale is just below 127.5
    ],
)
def test_known_grids(low: float, high: float, scale: float, zero: int) -> None:
    assert affine_grid(low, high) == (np.float32(scale), zero)


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 0.0), (np.nan, 1.0), (0.0, np.inf), (-np.inf, 0.0)]
)
def test_refused_ranges(low: float, high: float) -> None:
    with pytest.raises(RangeError, match="range"):
        affine_grid(low, high)


def test_values_on_the_grid_stay() -> None:
    scale, zero = affine_grid(-0.7, 2.9)
    grid = dequantize(np.arange(256, dtype=np.uint8), scale, zero)
    assert np.array_equal(placed(grid, scale, zero), grid)


def test_symmetric_scale_for_each_channel() -> None:
    weight = np.zeros((3, 2, 2), np.float32)
    weight[0, 1, 0], weight[2, 0, 1], weight[2, 1, 1] = 1.27, -254.0, 3.0
    scale = symmetric_scale(weight, 0)
    assert scale.dtype == np.float32
    assert scale.tolist() == [np.float32(1.27) / np.float32(127), 1.0, 2.0]
    q = quantize_symmetric(weight, scale, 0)
    assert q.dtype == np.int8
    assert (q[0, 1, 0], q[2, 0, 1], q[2, 1, 1]) == (127, -127, 2)  # 1.5 to even
    assert not q[1].any()
    assert symmetric_scale(weight, None).tolist() == 2.0
    assert symmetric_scale(weight, -1).tolist() == [np.float32(1.27) / np.float32(127), 2.0]
    assert symmetric_scale(weight, 0, bits=4)[2] == np.float32(254) / np.float32(7)


@given(
    st.lists(finite, min_size=6, max_size=6), st.sampled_from([None, 0, 1, -1]), st.integers(2, 8)
)
def test_symmetric_error_and_range(values: list[float], axis: int | None, bits: int) -> None:
    weight = np.array(values, np.float32).reshape(2, 3)
    scale = symmetric_scale(weight, axis, bits)
    top = (1 << (bits - 1)) - 1
    q = quantize_symmetric(weight, scale, axis, bits)
    assert -top <= q.min()
    assert q.max() <= top
    wide = scale if axis is None else np.expand_dims(scale, 1 if axis == 0 else 0)
    back = q.astype(np.float32) * wide
    assert np.all(np.abs(back - weight.astype(np.float64)) <= 0.5001 * wide)
    # A tensor on the grid stays there bit by bit, whatever scale it is measured with again.
    assert np.array_equal(quantize_symmetric(back, scale, axis, bits), q)


def test_minus_128_never_occurs() -> None:
    weight = np.array([-1000.0, 1000.0], np.float32)
    assert quantize_symmetric(weight, np.array(1.0, np.float32), None).tolist() == [-127, 127]


def test_subnormal_weights_get_a_normal_scale() -> None:
    scale = symmetric_scale(np.array([1e-45], np.float32), None)
    assert scale == np.finfo(np.float32).tiny
    assert affine_grid(0.0, 1e-45)[0] == np.finfo(np.float32).tiny


def test_refused_arguments() -> None:
    weight = np.ones((2, 3), np.float32)
    for bad in (np.nan, np.inf):
        with pytest.raises(RangeError, match="NaN or infinity"):
            symmetric_scale(np.array([1.0, bad], np.float32), 0)
    with pytest.raises(RangeError, match="axis 2"):
        symmetric_scale(weight, 2)
    for bits in (1, 9):
        with pytest.raises(RangeError, match="bits"):
            symmetric_scale(weight, 0, bits)
        with pytest.raises(RangeError, match="bits"):
            affine_grid(0, 1, bits)
    with pytest.raises(RangeError, match="shape"):
        quantize_symmetric(weight, np.ones(3, np.float32), 0)
    with pytest.raises(RangeError, match="positive"):
        quantize_symmetric(weight, np.zeros(2, np.float32), 0)
    with pytest.raises(RangeError, match="NaN"):
        quantize_symmetric(weight * np.float32(np.nan), np.ones(2, np.float32), 0)
