"""Single ONNX operators, made by hand: what onnxruntime computes, the imported module computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from compress.importing.onnx_file import read_onnx
from compress.importing.onnx_net import net_of
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.foreign import nodes_file, pictures

RANDOM = np.random.default_rng(3)
W = RANDOM.normal(size=(6, 3, 3, 3)).astype(np.float32)
DEEP = RANDOM.normal(size=(6, 1, 3, 3)).astype(np.float32)
SMALL = RANDOM.normal(size=(4, 3, 2, 2)).astype(np.float32)
VECTOR = RANDOM.normal(size=6).astype(np.float32)
FLAT = RANDOM.normal(size=(192, 5)).astype(np.float32)
THREE = np.abs(RANDOM.normal(size=3)).astype(np.float32) + 0.5


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


# name: (operator, attributes, constants after the input, opset)
SINGLE: dict[str, tuple[str, dict[str, object], list[np.ndarray | None], int]] = {
    "conv uneven pads": ("Conv", {"pads": [0, 1, 2, 1]}, [W, VECTOR], 18),
    "conv same upper": ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [W], 18),
    "conv same lower": ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [SMALL], 18),
    "conv valid": ("Conv", {"auto_pad": "VALID"}, [W], 18),
    "conv groups": ("Conv", {"group": 3, "pads": [1, 1, 1, 1]}, [DEEP, VECTOR], 18),
    "conv dilated": ("Conv", {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, [W], 18),
    "max pool": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}, [], 18),
    "max pool ceil": (
        "MaxPool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        [],
        18,
    ),
    "max pool same": (
        "MaxPool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        [],
        18,
    ),
    "max pool same, step 1": (
        "MaxPool",
        {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
        [],
        18,
    ),
    "average counts pad": (
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        [],
        18,
    ),
    "average": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, [], 18),
    "average same": (
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        [],
        18,
    ),
    "average uneven, counted": (
        "AveragePool",
        {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1},
        [],
        18,
    ),
    "average of all": ("AveragePool", {"kernel_shape": [8, 8]}, [], 18),
    "global max": ("GlobalMaxPool", {}, [], 18),
    "mean by attribute": ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, [], 13),
    "mean by input": ("ReduceMean", {"keepdims": 1}, [ints(-2, -1)], 18),
    "clip attributes": ("Clip", {"min": 0.0, "max": 6.0}, [], 10),
    "clip inputs": ("Clip", {}, [number(-0.5), number(1.5)], 18),
    "clip below": ("Clip", {}, [None, number(0.5)], 18),
    "clip as relu": ("Clip", {}, [number(0)], 18),
    "leaky": ("LeakyRelu", {"alpha": 0.3}, [], 18),
    "prelu": ("PRelu", {}, [THREE.reshape(3, 1, 1)], 18),
    "hard sigmoid": ("HardSigmoid", {"alpha": 0.25, "beta": 0.4}, [], 18),
    "hard sigmoid of torch": ("HardSigmoid", {"alpha": 1 / 6}, [], 18),
    "hard swish": ("HardSwish", {}, [], 18),
    "softmax over channels": ("Softmax", {"axis": 1}, [], 18),
    "tanh": ("Tanh", {}, [], 18),
    "elu": ("Elu", {"alpha": 0.7}, [], 18),
    "lrn": ("LRN", {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.5}, [], 18),
    "batch norm": (
        "BatchNormalization",
        {"epsilon": 1e-3},
        [THREE, VECTOR[:3], VECTOR[3:], THREE[::-1].copy()],
        18,
    ),
    "add a bias": ("Add", {}, [THREE.reshape(1, 3, 1, 1)], 18),
    "divide": ("Div", {}, [THREE.reshape(3, 1, 1)], 18),
    "subtract a number": ("Sub", {}, [number(0.25)], 18),
    "transpose": ("Transpose", {"perm": [0, 2, 3, 1]}, [], 18),
    "slice": ("Slice", {}, [ints(1, 1), ints(3, 1 << 62), ints(1, 3), ints(1, 2)], 18),
    "slice attributes": ("Slice", {"axes": [2], "starts": [-5], "ends": [-1]}, [], 9),
    "take one channel": ("Gather", {"axis": 1}, [np.array(2)], 18),
    "take channels": ("Gather", {"axis": 1}, [ints(2, 0, -2)], 18),
    "reshape": ("Reshape", {}, [ints(0, 3, -1)], 18),
    "reshape of one picture": ("Reshape", {}, [ints(1, 192)], 18),
    "flatten": ("Flatten", {"axis": 1}, [], 18),
    "unsqueeze": ("Unsqueeze", {}, [ints(2)], 18),
    "unsqueeze attributes": ("Unsqueeze", {"axes": [1]}, [], 11),
    "pad": ("Pad", {}, [ints(0, 0, 1, 2, 0, 1, 0, 3), number(0.5)], 18),
    "pad attributes": ("Pad", {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "reflect"}, [], 10),
    "pad edge": ("Pad", {"mode": "edge"}, [ints(0, 0, 1, 1, 0, 0, 1, 1)], 18),
    "resize by factors": (
        "Resize",
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        [None, np.array([1, 1, 2, 3], np.float32)],
        18,
    ),
    "resize to a size": ("Resize", {}, [None, None, ints(1, 3, 16, 24)], 18),
}


def imported(path: Path) -> torch.nn.Module:
    return net_of(read_onnx(path), path)


def check(path: Path, count: int = 3) -> torch.nn.Module:
    """onnxruntime takes the pictures one by one: the file says a batch of 1."""
    batch = pictures((1, 3, 8, 8), count)
    expected = OnnxRuntime(optimize=False).load(path).predict(batch)
    net = imported(path)
    with torch.no_grad():
        given = net(torch.from_numpy(batch)).numpy()
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    return net


@pytest.mark.parametrize("name", SINGLE)
def test_single_operator(name: str, tmp_path: Path) -> None:
    kind, attributes, given, opset = SINGLE[name]
    constants = {f"c{i}": array for i, array in enumerate(given) if array is not None}
    names = ["" if array is None else f"c{i}" for i, array in enumerate(given)]
    node = helper.make_node(kind, ["x", *names], ["y"], name="n", **attributes)
    check(nodes_file([node], tmp_path / "net.onnx", constants, opset=opset))


@pytest.mark.parametrize(
    "attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"transA": 1}], ids=str
)
def test_gemm(attributes: dict[str, object], tmp_path: Path) -> None:
    weight = FLAT.T.copy() if "transB" in attributes else FLAT
    nodes = [helper.make_node("Flatten", ["x"], ["flat"])]
    if "transA" in attributes:
        nodes.append(helper.make_node("Transpose", ["flat"], ["turned"], perm=[1, 0]))
    source = "turned" if "transA" in attributes else "flat"
    nodes.append(helper.make_node("Gemm", [source, "w", "b"], ["y"], name="fc", **attributes))
    net = check(nodes_file(nodes, tmp_path / "net.onnx", {"w": weight, "b": VECTOR[:5]}))
    assert isinstance(net.get_submodule("fc"), torch.nn.Linear)


def test_matmul_and_add_are_one_linear_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head.weight"], ["product"]),
        helper.make_node("Add", ["bias", "product"], ["y"]),
    ]
    constants = {"head.weight": FLAT, "bias": VECTOR[:5]}
    net = check(nodes_file(nodes, tmp_path / "net.onnx", constants))
    assert set(net.state_dict()) == {"head.weight", "head.bias"}


def test_conv_and_add_are_one_layer_unless_the_sum_before_is_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "stem.weight"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "bias"], ["y"]),
    ]
    constants = {"stem.weight": W, "bias": VECTOR.reshape(1, 6, 1, 1)}
    net = check(nodes_file(nodes, tmp_path / "one.onnx", constants))
    assert set(net.state_dict()) == {"stem.weight", "stem.bias"}
    nodes[1] = helper.make_node("Add", ["c", "bias"], ["s"])
    nodes.append(helper.make_node("Mul", ["c", "s"], ["y"]))
    net = check(nodes_file(nodes, tmp_path / "two.onnx", constants))
    assert set(net.state_dict()) == {"stem.weight", "bias"}


def test_a_layer_that_is_applied_twice_stays_one(tmp_path: Path) -> None:
    square = RANDOM.normal(size=(3, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "mix.weight"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "mix.weight"], ["y"]),
    ]
    net = check(nodes_file(nodes, tmp_path / "net.onnx", {"mix.weight": square}))
    assert set(net.state_dict()) == {"mix.weight"}


def test_split_concat_and_an_index_shuffle_over_the_batch_axis(tmp_path: Path) -> None:
    """The first ShuffleNetV2's spelling: pictures and channels share an axis for a while."""
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["six"], axis=1),
        helper.make_node("Reshape", ["six", "pairs"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["t", "halves"], ["h"]),
        helper.make_node("Gather", ["h", "first"], ["a"], axis=0),
        helper.make_node("Gather", ["h", "second"], ["b"], axis=0),
        helper.make_node("Split", ["b", "parts"], ["p", "q"], axis=1),
        helper.make_node("Concat", ["q", "a", "p"], ["y"], axis=1),
    ]
    constants = {
        "pairs": ints(3, 2, 64),
        "halves": ints(2, 1, 3, 8, 8),
        "first": np.array(0),
        "second": np.array(1),
        "parts": ints(1, 2),
    }
    check(nodes_file(nodes, tmp_path / "net.onnx", constants))


def test_shapes_computed_in_the_file(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["n"]),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["n", "rest"], ["target"], axis=0),
        helper.make_node("Cast", ["target"], ["whole"], to=onnx.TensorProto.INT64),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Dropout", ["same"], ["kept"]),
        helper.make_node("Reshape", ["kept", "whole"], ["y"]),
    ]
    constants = {"zero": np.array(0), "axis": ints(0)}
    path = nodes_file(nodes, tmp_path / "net.onnx", constants, ("n", 3, 8, 8))
    check(path)


def test_squeeze_and_excite_and_swish_keep_their_spelling(tmp_path: Path) -> None:
    square = RANDOM.normal(size=(3, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["g"]),
        helper.make_node("Mul", ["x", "g"], ["swish"]),
        helper.make_node("GlobalAveragePool", ["swish"], ["mean"]),
        helper.make_node("Conv", ["mean", "fc.weight"], ["squeezed"]),
        helper.make_node("Add", ["squeezed", "three"], ["moved"]),
        helper.make_node("Clip", ["moved", "zero", "six"], ["clipped"]),
        helper.make_node("Div", ["clipped", "six"], ["gate"]),
        helper.make_node("Mul", ["gate", "swish"], ["y"]),
    ]
    constants = {"fc.weight": square, "three": number(3), "zero": number(0), "six": number(6)}
    net = check(nodes_file(nodes, tmp_path / "net.onnx", constants))
    names = [str(getattr(n.target, "__name__", n.target)) for n in net.graph.nodes]
    wanted = ["sigmoid", "mul", "adaptive_avg_pool2d", "fc", "hardsigmoid", "mul"]
    assert names[1:-1] == wanted
