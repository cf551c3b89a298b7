"""Attributes and names that say nothing go; the net computes what it did."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.candidate import Candidate
from targets.formats.onnx_defaults import drop_defaults, shorten
from targets.formats.onnx_graph import float_model
from tests.every_net import lively
from tests.nets import digits_branch_spec, digits_plain_spec
from tests.onnx_files import folded, outputs

NETS: dict[str, Callable[[], Candidate]] = {
    "branches": lambda: folded(digits_branch_spec),
    "plain": lambda: folded(digits_plain_spec),
    "mobilenet_v3_small": lambda: lively("mobilenet_v3_small"),
}


def attributes(model: onnx.ModelProto) -> int:
    return sum(len(node.attribute) for node in model.graph.node)


@pytest.mark.parametrize("name", NETS)
def test_the_net_computes_the_same_bits(name: str, tmp_path: Path) -> None:
    candidate = NETS[name]()
    before = float_model(candidate, 18)
    after = copy.deepcopy(before)
    drop_defaults(after)
    dropped = attributes(before) - attributes(after)
    assert dropped > len([n for n in before.graph.node if n.op_type == "Conv"])
    kept = [tensor.name for tensor in before.graph.initializer]
    shorten(after.graph, kept)
    assert after.ByteSize() < before.ByteSize()
    assert [t.name for t in after.graph.initializer] == kept
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    made = [out for node in after.graph.node for out in node.output]
    assert len(set(made) | set(kept)) == len(made) + len(kept)
    onnx.checker.check_model(after, full_check=True)
    onnx.shape_inference.infer_shapes(after, strict_mode=True, data_prop=True)
    random = np.random.default_rng(0)
    batch = random.normal(size=(2, *candidate.spec.input_shape[1:])).astype(np.float32)
    paths = tmp_path / "before.onnx", tmp_path / "after.onnx"
    for path, model in zip(paths, (before, after), strict=True):
        path.write_bytes(model.SerializeToString())
    for optimize in (False, True):
        first, second = (outputs(path, batch, optimize) for path in paths)
        assert second.tobytes() == first.tobytes()


def left(node: onnx.NodeProto, opset: int = 18) -> set[str]:
    """The attributes that a node keeps."""
    graph = helper.make_graph([node], "net", [], [])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=imports)
    drop_defaults(model)
    return {attribute.name for attribute in model.graph.node[0].attribute}


@pytest.mark.parametrize(
    ("operator", "options", "kept"),
    [
        ("Conv", {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1]}, set()),
        ("Conv", {"pads": [0, 0, 0, 0], "group": 1, "auto_pad": "NOTSET"}, set()),
        ("Conv", {"strides": [1, 2], "pads": [0, 0, 1, 0]}, {"strides", "pads"}),
        ("Conv", {"group": 8, "dilations": [2, 1]}, {"group", "dilations"}),
        ("Conv", {"auto_pad": "SAME_UPPER"}, {"auto_pad"}),
        ("MaxPool", {"kernel_shape": [1, 1], "ceil_mode": 0}, {"kernel_shape"}),
        ("MaxPool", {"kernel_shape": [2, 2], "ceil_mode": 1}, {"kernel_shape", "ceil_mode"}),
        ("AveragePool", {"kernel_shape": [2], "count_include_pad": 0}, {"kernel_shape"}),
        ("Gemm", {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}, {"transB"}),
        ("Gemm", {"alpha": 0.5, "beta": 0.0}, {"alpha", "beta"}),
        ("Flatten", {"axis": 1}, set()),
        ("Concat", {"axis": 0}, {"axis"}),  # it has no default
        ("Transpose", {"perm": [1, 0]}, {"perm"}),
        ("DequantizeLinear", {"axis": 0}, {"axis"}),
        ("DequantizeLinear", {"axis": 1}, set()),
        ("Cast", {"to": 1, "unheard_of": 1}, {"to", "unheard_of"}),
    ],
)
def test_what_an_operator_keeps(operator: str, options: dict[str, object], kept: set[str]) -> None:
    assert left(helper.make_node(operator, ["x"], ["y"], **options)) == kept


def test_operators_of_other_domains_keep_all() -> None:
    own = helper.make_node("Conv", ["x"], ["y"], domain="own", strides=[1, 1], group=1)
    assert left(own) == {"strides", "group"}
    unknown = helper.make_node("Unheard", ["x"], ["y"], strides=[1, 1])
    assert left(unknown) == {"strides"}


def test_defaults_are_those_of_the_opset() -> None:
    """The axis of Softmax was 1 before opset 13, and has been -1 since."""
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    assert left(copy.deepcopy(node), 11) == set()
    assert left(copy.deepcopy(node), 18) == {"axis"}


def test_names() -> None:
    """What is kept, the ends and the decoding's own stay; an absent input too."""
    nodes = [
        helper.make_node("Cast", ["c"], [":1"], to=1),
        helper.make_node("Reshape", [":1", "s"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["conv2d_1"]),
        helper.make_node("Clip", ["conv2d_1", "", "most"], ["relu_1"]),
        helper.make_node("Add", ["relu_1", "conv2d_1"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    constants = [numpy_helper.from_array(np.zeros(1), name) for name in ("c", "s", "most")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], constants)
    shorten(graph, ["w"])
    assert [(list(n.input), list(n.output)) for n in graph.node] == [
        (["c"], [":1"]),
        ([":1", "s"], ["w"]),
        (["x", "w"], ["/0"]),
        (["/0", "", "most"], ["/1"]),
        (["/1", "/0"], ["y"]),
    ]
