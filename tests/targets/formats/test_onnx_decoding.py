"""What a packed file makes of its constants: the very tensors; a hostile file makes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from compress.candidate import Candidate
from compress.errors import DataError
from targets.formats.onnx_decoding import OPERATORS, Decoding
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.runtimes.onnxruntime import constant_outputs
from tests.candidates import lenet, mixed, shared
from tests.containers import sparse_lenet
from tests.exports import exported

LENET = sparse_lenet()
MIXED = mixed(lenet())
EXPORTERS = (
    OnnxPackedExporter(),
    OnnxPackedExporter(quick=True),
    OnnxPackedExporter("modern"),
)


def uneven() -> Candidate:
    """One level of fc1 has nearly all weights, and is not zero: each has a word, most one bit."""
    candidate = lenet()
    shape = candidate.network.parameters()["fc1.weight"].shape
    rarer = np.minimum(np.random.default_rng(0).geometric(0.93, shape) - 1, 7)
    coded = replace(shared(shape), indices=(7 - rarer).astype(np.uint8))
    return candidate.with_values({}, {"fc1.weight": coded})


def model_of(nodes: Sequence[NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """y = x + w, and what makes w."""
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"])] for name in ("x", "y")]
    held = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    add = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([*nodes, add], "net", *ends, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("exporter", EXPORTERS, ids=["prefix codes", "quick", "modern"])
@pytest.mark.parametrize("candidate", [LENET, MIXED], ids=["sparse", "mixed"])
def test_every_tensor_to_the_bit(exporter: OnnxPackedExporter, candidate: Candidate) -> None:
    model = onnx.load(exported(exporter, candidate).path)
    decoding = Decoding(model, "a file")
    found = constant_outputs(decoding.model(decoding.names), "a file")
    parameters = candidate.network.parameters()
    assert set(found) == set(decoding.names)
    assert set(found) >= set(candidate.encodings)
    for name, values in found.items():
        assert values.dtype == np.float32
        assert values.shape == parameters[name].shape
        assert values.tobytes() == parameters[name].tobytes(), name


def test_every_operator_before_the_net_is_of_the_decoding() -> None:
    for exporter in EXPORTERS:
        model = onnx.load(exported(exporter, MIXED).path)
        decoding = Decoding(model, "a file")
        kinds = [node.op_type for node in model.graph.node[len(decoding.nodes) :]]
        assert kinds[:2] == ["Reshape", "Gemm"]
        assert {node.op_type for node in decoding.nodes} <= OPERATORS


def test_elements_before_several_scales() -> None:
    """fc3 has a scale for each channel: its levels are those of the int8 grid."""
    for exporter in EXPORTERS[:2]:
        decoding = Decoding(onnx.load(exported(exporter, LENET).path), "a file")
        before = decoding.before_scale("fc3.weight")
        assert before != "fc3.weight"
        found = constant_outputs(decoding.model([before, "fc3.weight"]), "a file")
        np.testing.assert_array_equal(found[before], np.rint(found[before]))
        scale = numpy_helper.to_array(decoding.constants["fc3.weight:scale"])
        np.testing.assert_array_equal(found[before] * scale, found["fc3.weight"])
        # One scale changes no level.
        assert decoding.before_scale("fc1.weight") == "fc1.weight"


def test_where_a_zero_has_no_element() -> None:
    decoding = Decoding(onnx.load(exported(EXPORTERS[0], LENET).path), "a file")
    assert decoding.is_scattered("fc1.weight")
    assert not decoding.is_scattered("fc2.1.weight")
    assert decoding.made_of(":planes") >= {"fc1.weight", "fc2.0.weight", "fc3.weight"}
    assert "fc2.1.weight" not in decoding.made_of(":planes")
    dense = Decoding(onnx.load(exported(EXPORTERS[0], uneven()).path), "a file")
    assert "fc1.weight" in dense.made_of(":planes")
    assert not dense.is_scattered("fc1.weight")
    assert not dense.is_scattered("no such tensor")


# -- files made to do harm --------------------------------------------------------------------


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(DataError) as caught:
        constant_outputs(Decoding(model, "bad.onnx").model(["w"]), "bad.onnx")
    assert "bad.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_more_than_memory_is_not_made() -> None:
    big = model_of(
        [helper.make_node("Expand", ["one", "shape"], ["w"])],
        one=np.float32([1]),
        shape=np.array([1 << 40], np.int64),
    )
    line = refused(big)
    assert "makes 4,398,046,511,104 bytes of arrays of its constants" in line
    assert "may make 1,073,741,824" in line


def test_many_arrays_count_together() -> None:
    """None is too large alone."""
    names = ["one", *(f"a{i}" for i in range(10)), "w"]
    nodes = [helper.make_node("Expand", ["one", "shape"], ["a0"])]
    nodes += [helper.make_node("Cast", [a], [b], to=1) for a, b in pairwise(names[1:])]
    shape = np.array([1 << 25], np.int64)
    assert "bytes of arrays" in refused(model_of(nodes, one=np.float32([1]), shape=shape))
    small = model_of(nodes, one=np.float32([1]), shape=np.array([3], np.int64))
    found = constant_outputs(Decoding(small, "f").model(["w"]), "f")
    np.testing.assert_array_equal(found["w"], np.ones(3, np.float32))


def test_a_size_that_values_decide_is_refused() -> None:
    nodes = [
        helper.make_node("CumSum", ["sizes", "axis"], ["sums"]),
        helper.make_node("Expand", ["one", "sums"], ["w"]),
    ]
    constants = {"sizes": np.array([1 << 50], np.int64), "axis": np.array(0, np.int32)}
    line = refused(model_of(nodes, one=np.float32([1]), **constants))
    assert "makes 'w' of its constants, of a size that depends on their values" in line


def test_what_the_engine_refuses_is_one_line() -> None:
    node = helper.make_node("GatherElements", ["book", "codes"], ["w"])
    model = model_of([node], book=np.float32([0, 1]), codes=np.array([0, 7], np.int32))
    assert refused(model).startswith("onnxruntime cannot decode bad.onnx: ")


@pytest.mark.parametrize("again", ["w", "one"])
def test_a_name_that_is_made_twice(again: str) -> None:
    nodes = [
        helper.make_node("Cast", ["one"], ["w"], to=1),
        helper.make_node("Cast", ["w"], [again], to=1),
    ]
    assert f"makes {again!r} twice" in refused(model_of(nodes, one=np.float32([1])))


def test_operators_that_no_packed_file_has_are_not_run() -> None:
    """Loops need not end; operators of another domain do what they like."""
    loop = helper.make_node("Loop", ["count", "go"], ["w"])
    other = helper.make_node("Cast", ["one"], ["w"], domain="com.example", to=1)
    constants = {"count": np.array(1 << 62, np.int64), "go": np.array(True)}
    for model in (model_of([loop], **constants), model_of([other], one=np.float32([1]))):
        decoding = Decoding(model, "f")
        assert decoding.nodes == []
        assert decoding.names == ()
