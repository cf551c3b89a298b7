"""The simulated integers against plain numpy loops over integers, written independently."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.candidate import ActivationQuant, Candidate
from compress.encoding import Encoded, int8_codebook
from compress.graph import TensorId
from compress.placement import place
from compress.simulate import int32_bias, simulate
from compress.stages.quantize_int8 import QuantizeInt8
from tests.candidates import fresh, int8, strided_spec
from tests.digits import digits, digits_task
from tests.nets import digits_channels_last_spec

X = ActivationQuant(0.03, 120)
HIDDEN = ActivationQuant(0.21, 3)
OUT = ActivationQuant(0.11, 140)
INPUT, CONV, RELU = TensorId("", "input"), TensorId("conv", "conv2d"), TensorId("", "relu")
POOL, FLAT, FC = TensorId("", "max_pool2d"), TensorId("", "flatten"), TensorId("fc", "linear")
GRIDS = {INPUT: X, RELU: HIDDEN, POOL: HIDDEN, FLAT: HIDDEN, FC: OUT}


def quantized() -> Candidate:
    base = fresh(strided_spec)
    weights = {n: p.shape for n, p in base.network.parameters().items() if n.endswith("weight")}
    encodings = {name: int8(shape, seed=len(name)) for name, shape in weights.items()}
    candidate = dataclasses.replace(base.with_values({}, encodings), activations=GRIDS)
    candidate.check()
    return candidate


CANDIDATE = quantized()


def pictures(count: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 4, 8, 8)) * 2).astype(np.float32)


def half_even(value: float) -> int:
    """Python's own round is half to even; numpy and torch are not asked."""
    return round(value)


def to_codes(values: NDArray[np.float32], grid: ActivationQuant) -> NDArray[np.int64]:
    scale = np.float32(grid.scale)
    flat = [half_even(float(np.float32(v) / scale)) + grid.zero_point for v in values.ravel()]
    return np.clip(np.array(flat, np.int64), 0, 255).reshape(values.shape)


def weight_codes(name: str) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """(integers, scales, int32 bias by the definition) of a layer."""
    encoding = CANDIDATE.encodings[f"{name}.weight"]
    assert isinstance(encoding, Encoded)
    codes = encoding.indices.astype(np.int64)
    codes = np.where(codes > 127, codes - 256, codes)
    scales = encoding.scale.astype(np.float64)
    s_x = float(np.float32((X if name == "conv" else HIDDEN).scale))
    bias = CANDIDATE.network.parameters()[f"{name}.bias"]
    steps = [half_even(float(b) / (s_x * s)) for b, s in zip(bias, scales, strict=True)]
    return codes, scales * s_x, np.array(steps, np.int64)


def integer_network(batch: NDArray[np.float32]) -> dict[TensorId, NDArray[np.int64]]:
    """Codes of every tensor with a grid: loops over integers, one multiplication at each end."""
    x = to_codes(batch, X) - X.zero_point
    codes, scale, bias = weight_codes("conv")
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    sums = np.zeros((len(x), 6, 4, 4), np.int64)
    for o in range(6):
        group = padded[:, 2 * (o // 3) : 2 * (o // 3) + 2]
        for i in range(4):
            for j in range(4):
                window = group[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                sums[:, o, i, j] = (window * codes[o]).sum((1, 2, 3)) + bias[o]
    real = np.maximum((sums * scale[:, None, None]).astype(np.float32), 0)
    hidden = to_codes(real, HIDDEN)
    pooled = hidden.reshape(len(x), 6, 2, 2, 2, 2).max((3, 5))
    codes, scale, bias = weight_codes("fc")
    total = (pooled.reshape(len(x), 24) - HIDDEN.zero_point) @ codes.T + bias
    out = to_codes((total * scale).astype(np.float32), OUT)
    return {INPUT: x + X.zero_point, RELU: hidden, POOL: pooled, FC: out}


def test_every_tensor_has_the_integers_of_the_independent_network() -> None:
    batch = pictures(7)
    seen = simulate(CANDIDATE).activations(batch)
    for tensor, codes in integer_network(batch).items():
        grid = GRIDS[tensor]
        found = np.rint(seen[tensor] / np.float32(grid.scale)).astype(int) + grid.zero_point
        np.testing.assert_array_equal(found, codes, err_msg=str(tensor))
        assert len(np.unique(codes)) > 3  # the test has something to compare


def test_predict_is_the_simulation_and_lies_on_the_outputs_grid() -> None:
    batch = pictures(3)
    out = CANDIDATE.predict(batch)
    codes = integer_network(batch)[FC]
    expected = (codes - OUT.zero_point).astype(np.float32) * np.float32(OUT.scale)
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == np.float32


def test_a_batch_and_single_pictures_give_equal_bits() -> None:
    batch = pictures(9)
    singles = np.concatenate([CANDIDATE.predict(batch[i : i + 1]) for i in range(9)])
    np.testing.assert_array_equal(CANDIDATE.predict(batch), singles)
    assert CANDIDATE.predict(batch[:0]).shape == (0, 5)


def test_more_pictures_than_a_block() -> None:
    batch = pictures(260)
    np.testing.assert_array_equal(CANDIDATE.predict(batch)[256:], CANDIDATE.predict(batch[256:]))


def test_points_of_the_placement_are_the_grids_of_this_test() -> None:
    assert set(place(CANDIDATE.network.graph).points) == set(GRIDS)
    assert CONV not in GRIDS


@pytest.mark.parametrize("code", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("part", [-0.5, 0.0, 0.49, 0.5])
def test_rounding_is_half_to_even_and_clips(code: int, part: float) -> None:
    grid = ActivationQuant(0.5, 0)
    candidate = dataclasses.replace(fresh(strided_spec), activations={INPUT: grid})
    value = (code + part) * 0.5
    seen = simulate(candidate).activations(np.full((1, 4, 8, 8), value, np.float32))
    assert set(seen[INPUT].ravel()) == {min(255, max(0, half_even(code + part))) * 0.5}


def test_layers_without_integer_weights_run_in_float() -> None:
    base = fresh(strided_spec)
    loose = dataclasses.replace(base, activations={RELU: ActivationQuant(1e-4, 0, bits=16)})
    batch = pictures(4)
    np.testing.assert_allclose(loose.predict(batch), base.predict(batch), atol=2e-3)
    assert (loose.predict(batch) != base.predict(batch)).any()


def test_a_weight_with_scales_on_another_axis_runs_in_float() -> None:
    codes = np.random.default_rng(0).integers(-127, 128, (5, 24)).astype(np.int8)
    scale = np.linspace(0.001, 0.01, 24, dtype=np.float32)
    encoding = Encoded(codes.view(np.uint8), int8_codebook(), scale, 1)
    base = fresh(strided_spec).with_values({}, {"fc.weight": encoding})
    candidate = dataclasses.replace(base, activations={FLAT: ActivationQuant(1e-4, 0, bits=16)})
    batch = pictures(4)
    np.testing.assert_allclose(candidate.predict(batch), base.predict(batch), atol=1e-2)


def test_a_linear_layer_over_more_axes_has_its_channels_last() -> None:
    candidate = fresh(digits_channels_last_spec)
    quantized = QuantizeInt8()(candidate, digits_task()).candidate
    images = digits()["validation"].images
    wanted = candidate.predict(images)
    assert np.abs(quantized.predict(images) - wanted).max() < 0.02 * np.abs(wanted).max()


def test_one_scale_for_the_whole_weight() -> None:
    encoding = CANDIDATE.encodings["fc.weight"]
    assert isinstance(encoding, Encoded)
    one = dataclasses.replace(encoding, scale=np.full(1, 0.01, np.float32), axis=None)
    each = dataclasses.replace(encoding, scale=np.full(5, 0.01, np.float32))
    predictions = [
        CANDIDATE.with_values({}, {"fc.weight": e}).predict(pictures(5)) for e in (one, each)
    ]
    np.testing.assert_array_equal(*predictions)


@given(
    bias=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    input_scale=st.floats(1e-4, 10),
    weight_scale=st.floats(0.0001220703125, 1, width=32),
)
def test_int32_bias_is_the_nearest_step_half_to_even(
    bias: list[float], input_scale: float, weight_scale: float
) -> None:
    scales = np.full(len(bias), weight_scale, np.float32)
    steps = int32_bias(np.array(bias, np.float32), input_scale, scales)
    assert steps.dtype == np.int32
    step = input_scale * float(np.float32(weight_scale))
    for given_bias, found in zip(bias, steps, strict=True):
        exact = float(np.float32(given_bias)) / step
        expected = min(2**31 - 1, max(-(2**31), half_even(exact)))
        assert int(found) == expected


def test_int32_bias_saturates_and_survives_a_scale_of_zero() -> None:
    bias = np.array([1e30, -1e30, 2.5, 3.0], np.float32)
    steps = int32_bias(bias, 1.0, np.array([1, 1, 1, 0], np.float32))
    assert steps.tolist() == [2**31 - 1, -(2**31), 2, 3]
    assert math.isfinite(float(steps.sum()))
