"""A net of every kind of layer, made by hand and packed: exact, smaller, and valid everywhere."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from compress.encoding import Encoded, Encoding, int8_codebook
from targets.formats.forest_graph import PLANES, TREE
from targets.formats.onnx_pack import PROFILES, pack
from targets.formats.onnx_sheet import Array
from tests.onnx_files import answers


class Net(NamedTuple):
    """A model, what explains its weights, and their values by name."""

    model: onnx.ModelProto
    encodings: Mapping[str, Encoding]
    weights: Mapping[str, Array]


def encoded(
    seed: int, shape: tuple[int, ...], bits: int, zeros: float, axis: int | None = None
) -> Encoded:
    """Shared floats; on an int8 grid where an axis has scales, some of them below zero."""
    random = np.random.default_rng(seed)
    if axis is None:
        book = np.sort(random.normal(size=(1 << bits) - 1)).astype(np.float32)
        book = np.concatenate([np.zeros(1, np.float32), book])
        scale = np.ones(1, np.float32)
    else:
        book = int8_codebook()
        scale = random.normal(size=shape[axis]).astype(np.float32) / 100
    shares = np.exp(-0.5 * np.arange(1 << bits))
    indices = random.choice(1 << bits, shape, p=shares / shares.sum()).astype(np.uint8)
    if axis is not None:  # small integers of both signs
        indices = (indices + 3).astype(np.uint8)
        indices[random.random(shape) < 0.4] = np.flatnonzero(book == -2)[0]
    indices[random.random(shape) < zeros] = 0
    return Encoded(indices, book, scale, axis)


@functools.cache
def net() -> Net:
    """Convolutions (one weight read twice), Gemm both ways round, MatMul, int8 weights, biases."""
    random = np.random.default_rng(0)
    encodings = {
        "a": encoded(1, (64, 16, 3, 3), 4, 0.0),
        "b": encoded(2, (64, 64, 3, 3), 4, 0.9),
        "c": encoded(3, (64, 64, 1, 1), 3, 0.3, axis=0),
        "d": encoded(4, (64, 1, 3, 3), 5, 0.5, axis=0),
        "e": encoded(5, (96, 64), 4, 0.6),
        "f": encoded(6, (200, 96), 4, 0.7, axis=0),  # the graph has it transposed
        "g": encoded(7, (200, 10), 6, 0.2),
    }
    weights: dict[str, Array] = {name: own.decode() for name, own in encodings.items()}
    weights["f"] = np.ascontiguousarray(weights["f"].T)
    weights["bias"] = (random.integers(-300, 300, 64) * 0.25).astype(np.float32)
    weights["other"] = random.normal(size=64).astype(np.float32)
    weights["h"] = np.rint(random.laplace(size=(200, 200)) * 6).clip(-128, 127).astype(np.int8)
    weights["h"][0, 0] = -128
    weights["step"] = np.array(0.01, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "a", "bias"], ["1"], pads=[1, 1, 1, 1], group=1),
        helper.make_node("Conv", ["1", "b", "other"], ["2"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["2", "b"], ["3"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["3", "c"], ["4"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["4", "d"], ["5"], group=64),
        helper.make_node("GlobalAveragePool", ["5"], ["6"]),
        helper.make_node("Flatten", ["6"], ["7"]),
        helper.make_node("Gemm", ["7", "e"], ["8"], transB=1),
        helper.make_node("MatMul", ["8", "f"], ["9"]),
        helper.make_node("DequantizeLinear", ["h", "step"], ["h float"]),
        helper.make_node("MatMul", ["9", "h float"], ["10"]),
        helper.make_node("Gemm", ["10", "g"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 16, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return Net(model, encodings, weights)


def packed(profile: str = "compatible", quick: bool = False) -> onnx.ModelProto:
    model = copy.deepcopy(net().model)
    model.opset_import[0].version = PROFILES[profile]
    pack(model, net().encodings, profile == "modern", quick)
    return model


def run(model: onnx.ModelProto, wanted: list[str], optimize: bool) -> list[Array]:
    """Outputs of the net for a fixed picture, and decoded weights beside them."""
    picture = np.random.default_rng(9).normal(size=(1, 16, 6, 6)).astype(np.float32)
    model = copy.deepcopy(model)
    known = {t.name for t in model.graph.initializer}
    for name in wanted:
        if name != "y" and name not in known:
            kind = TensorProto.INT8 if name == "h" else TensorProto.FLOAT
            model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    decoded = [name for name in wanted if name not in known]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        path.write_bytes(model.SerializeToString())
        found = dict(zip(decoded, answers(path, {"x": picture}, decoded, optimize), strict=True))
    own = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return [found[name] if name in found else own[name] for name in wanted]


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("profile", PROFILES)
def test_weights_and_outputs_are_the_plain_nets(profile: str, quick: bool, optimize: bool) -> None:
    model, weights = packed(profile, quick), net().weights
    found = run(model, [*weights, "y"], optimize)
    for name, own in zip(weights, found, strict=False):
        assert (own.dtype, own.shape) == (weights[name].dtype, weights[name].shape)
        assert own.tobytes() == weights[name].tobytes(), name
    (expected,) = run(net().model, ["y"], optimize)
    assert found[-1].tobytes() == expected.tobytes()


def test_prefix_codes_make_it_smaller_and_quick_files_have_none() -> None:
    small, quick = packed(), packed(quick=True)
    assert small.ByteSize() < 0.92 * quick.ByteSize() < 0.5 * net().model.ByteSize()
    assert {PLANES, TREE} <= {t.name for t in small.graph.initializer}
    assert not {PLANES, TREE} & {t.name for t in quick.graph.initializer}
    gone = {t.name for t in net().model.graph.initializer} - {
        t.name for t in small.graph.initializer
    }
    assert gone == {"a", "b", "c", "d", "e", "f", "g", "h", "bias"}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("profile", PROFILES)
def test_it_passes_onnx_checks_with_operators_of_its_opset(profile: str, quick: bool) -> None:
    model = packed(profile, quick)
    onnx.checker.check_model(model, full_check=True)
    shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    opset = PROFILES[profile]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    for node in model.graph.node:
        assert node.domain == node.name == ""
        assert onnx.defs.has(node.op_type)
        assert onnx.defs.get_schema(node.op_type, opset).since_version <= opset
    if profile == "compatible":
        kinds = {t.data_type for t in model.graph.initializer}
        assert not kinds & {TensorProto.INT4, TensorProto.UINT4}


@pytest.mark.parametrize("quick", [False, True])
def test_equal_nets_give_equal_bytes(quick: bool) -> None:
    """Whatever the order of what explains them."""
    model = copy.deepcopy(net().model)
    pack(model, dict(reversed(net().encodings.items())), quick=quick)
    assert model.SerializeToString(deterministic=True) == packed(quick=quick).SerializeToString(
        deterministic=True
    )


def test_what_nothing_reads_is_dropped_with_its_decoding() -> None:
    model = copy.deepcopy(net().model)
    extra = numpy_helper.from_array(net().weights["h"] + 1, "unread")
    model.graph.initializer.append(extra)
    pack(model, net().encodings)
    assert model.SerializeToString(deterministic=True) == packed().SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("name", ["a", "b", "c", "e", "f", "h"])
def test_a_net_of_one_coded_weight(name: str) -> None:
    """The rest lies there as it is: its values are random."""
    random = np.random.default_rng(3)
    model = copy.deepcopy(net().model)
    for tensor in model.graph.initializer:
        if tensor.name not in (name, "step") and tensor.data_type == TensorProto.FLOAT:
            values = random.normal(size=tuple(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        elif tensor.name not in (name, "step"):
            values = random.integers(-128, 128, tuple(tensor.dims), np.int8)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    before = copy.deepcopy(model)
    pack(model, net().encodings)
    assert model.ByteSize() < before.ByteSize()
    # The operators of a prefix code are some kilobytes.
    assert (TREE in {t.name for t in model.graph.initializer}) == (name in ("b", "h"))
    for optimize in (False, True):
        own, found = run(model, [name, "y"], optimize)
        assert own.tobytes() == net().weights[name].tobytes()
        assert found.tobytes() == run(before, ["y"], optimize)[0].tobytes()
