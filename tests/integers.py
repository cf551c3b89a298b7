"""What an int8 file holds, read with its format's own reader, none of the exporters' code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.candidate import Candidate
from compress.errors import MissingExtraError
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from tests.exports import exported

Grid = tuple[np.float32, int]


@dataclass(frozen=True)
class Constant:
    """Integers (O, I, H, W), (O, I) or (O,), and their scale for each output channel."""

    integers: NDArray[Any]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class Integers:
    """What a file holds: activation grids (unsigned convention), int8 weights, int32 biases."""

    grids: set[Grid]
    weights: list[Constant]
    biases: list[Constant]


def from_onnx(candidate: Candidate) -> Integers:
    model = onnx.load(exported(OnnxExporter(), candidate).path)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = Integers(set(), [], [])
    for node in model.graph.node:
        if node.op_type == "Pad" and node.input[0] in constants:  # channels of zeros, at load
            constants[node.output[0]] = constants[node.input[0]]
        if node.op_type == "QuantizeLinear":
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert scale.dtype == np.float32
            assert zero.dtype == np.uint8
            found.grids.add((np.float32(scale), int(zero)))
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            array, scale = constants[node.input[0]], np.atleast_1d(constants[node.input[1]])
            assert not np.any(constants[node.input[2]]) if len(node.input) > 2 else True
            held = found.weights if array.dtype == np.int8 else found.biases
            held.append(Constant(array, np.broadcast_to(scale, array.shape[:1])))
    return found


def from_tflite(candidate: Candidate) -> Integers:
    interpreter = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="the extra 'litert' is not installed"
    )
    try:
        content = exported(TFLiteExporter(), candidate).path.read_bytes()
    except MissingExtraError as error:
        pytest.skip(str(error))
    engine = interpreter.Interpreter(
        model_content=content,
        experimental_op_resolver_type=(
            interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    engine.allocate_tensors()
    operators = engine._get_ops_details()
    computed = {int(i) for op in operators for i in op["outputs"]}
    computed |= {int(detail["index"]) for detail in engine.get_input_details()}
    depthwise = {int(op["inputs"][1]) for op in operators if op["op_name"] == "DEPTHWISE_CONV_2D"}
    found = Integers(set(), [], [])
    for detail in engine.get_tensor_details():
        index, quantization = int(detail["index"]), detail["quantization_parameters"]
        scales, zeros = quantization["scales"], quantization["zero_points"]
        if index in computed and len(scales):
            assert detail["dtype"] is np.int8
            assert len(scales) == 1
            found.grids.add((np.float32(scales[0]), int(zeros[0]) + 128))
        elif len(scales):
            assert not zeros.any()
            array = engine.get_tensor(index)
            if array.ndim == 4:  # OHWI, a depthwise one 1HWO
                array = array.transpose((3, 0, 1, 2) if index in depthwise else (0, 3, 1, 2))
            held = found.weights if array.dtype == np.int8 else found.biases
            held.append(Constant(array, np.broadcast_to(scales, array.shape[:1])))
    return found
