"""Dense int4 weights in every format: half the bytes where a format has them, the same outputs."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compress.candidate import Candidate
from compress.stages.quantize_int8 import QuantizeInt8
from targets.audit.onnx import audit_onnx
from targets.equivalence import assert_equivalent
from targets.formats import deep_compression
from targets.formats.deep_compression import DeepCompressionExporter
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_nibbles import packed, store_nibbles
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.formats.tflite import TFLiteExporter
from targets.inspection import inspect_file
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits, trained
from tests.exports import exported
from tests.nets import digits_residual_spec
from tests.onnx_files import folded, quantized

PICTURES = digits()["validation"].images[:32]
PLAIN, NIBBLES = OnnxExporter(), OnnxExporter(opset=21)


@functools.cache
def int4() -> Candidate:
    task = trained(digits_residual_spec).task
    return QuantizeInt8(weight_bits=4)(folded(digits_residual_spec), task).candidate


def weights() -> list[int]:
    """How many there are in each layer."""
    own = int4().network.parameters()
    return [own[name].size for name in int4().encodings]


def predicted(exporter: object) -> np.ndarray:
    return OnnxRuntime().load(exported(exporter, int4()).path).predict(PICTURES)


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=9))
def test_nibbles_are_those_that_onnx_reads(integers: list[int]) -> None:
    values = np.array(integers, np.int8)
    tensor = helper.make_tensor("w", TensorProto.INT4, values.shape, packed(values), raw=True)
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.int8), values)


def test_the_onnx_file_of_opset_21_holds_nibbles_and_gives_the_same_outputs() -> None:
    artifact = exported(NIBBLES, int4())
    model = onnx.load(artifact.path)
    small = {t.name for t in model.graph.initializer if t.data_type == TensorProto.INT4}
    assert small
    large = weights()[1:]  # the first layer's are padded for a fourth input channel
    assert len(small) == len(large)
    whole = exported(PLAIN, int4()).size_bytes
    saved = sum(large) / 2
    assert artifact.size_bytes < whole - saved * 0.8
    assert_equivalent(int4(), artifact, OnnxRuntime(), PICTURES)
    np.testing.assert_array_equal(predicted(NIBBLES), predicted(PLAIN))


def test_signed_activations_and_unfolded_constants_change_nothing() -> None:
    signed = [OnnxExporter(opset=opset, activation_type="int8") for opset in (18, 21)]
    np.testing.assert_array_equal(*map(predicted, signed))
    session = OnnxRuntime(optimize=False).load(exported(NIBBLES, int4()).path)
    plain = OnnxRuntime(optimize=False).load(exported(PLAIN, int4()).path)
    np.testing.assert_array_equal(session.predict(PICTURES), plain.predict(PICTURES))


def test_the_engine_runs_its_integer_kernels() -> None:
    found = audit_onnx(exported(NIBBLES, int4()).path)
    assert {(layer.asked, layer.ran) for layer in found.layers} == {("int8", "int8")}


def test_int8_weights_stay_int8() -> None:
    model = onnx.load(exported(NIBBLES, quantized(digits_residual_spec)).path)
    before = model.SerializeToString(deterministic=True)
    store_nibbles(model)
    assert model.SerializeToString(deterministic=True) == before
    assert not [t for t in model.graph.initializer if t.data_type == TensorProto.INT4]


@pytest.mark.parametrize("profile", ["compatible", "modern"])
def test_packed_files_are_smaller_and_give_the_same_outputs(profile: str) -> None:
    exporter = OnnxPackedExporter(profile)  # type: ignore[arg-type]
    small, whole = exported(exporter, int4()), exported(exporter, quantized(digits_residual_spec))
    assert small.size_bytes < whole.size_bytes - 0.3 * sum(weights())
    np.testing.assert_array_equal(predicted(exporter), predicted(PLAIN))


def test_the_container_gives_the_candidate_back_in_half_the_bytes() -> None:
    small = exported(DeepCompressionExporter(), int4())
    back = deep_compression.load(small.path, digits_residual_spec())
    assert back.digest() == int4().digest()
    whole = exported(DeepCompressionExporter(), quantized(digits_residual_spec)).size_bytes
    assert small.size_bytes < whole - 0.3 * sum(weights())


def test_the_tflite_file_holds_the_same_numbers_as_int8() -> None:
    artifact = exported(TFLiteExporter(), int4())
    assert_equivalent(int4(), artifact, LiteRtRuntime(), PICTURES)


def test_the_artifact_says_int4_or_mixed() -> None:
    exporters = (NIBBLES, PLAIN, DeepCompressionExporter(), TFLiteExporter())
    assert {exported(exporter, int4()).precision for exporter in exporters} == {"int4"}
    task, start = trained(digits_residual_spec).task, folded(digits_residual_spec)
    first = start.network.layers()[0].name
    both = QuantizeInt8(weight_bits=((first, 8), ("*", 4)))(start, task).candidate
    nets = {"int4": int4(), "mixed": both, "int8": quantized(digits_residual_spec)}
    for precision, candidate in nets.items():
        container = exported(DeepCompressionExporter(), candidate)
        assert (container.precision, inspect_file(container.path).precision) == (precision,) * 2
    assert {t.form for t in inspect_file(container.path).tensors} == {"int8", "plain"}


@pytest.mark.parametrize("exporter", [NIBBLES, PLAIN], ids=["opset 21", "opset 18"])
def test_inspecting_says_what_is_stored(exporter: OnnxExporter) -> None:
    found = inspect_file(exported(exporter, int4()).path)
    assert found.precision == "int8"
    types = {tensor.dtype for tensor in found.tensors}
    assert ("int4" in types) is (exporter is NIBBLES)
    assert sum(t.file_bytes for t in found.tensors) < found.file_bytes
