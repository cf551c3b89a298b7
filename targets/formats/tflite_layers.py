"""Convolutions and fully connected layers on integers: weight, bias, and the operator.

Jacob et al. 2018 (arXiv:1712.05877), section 2.2; TFLite 8-bit quantization specification.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.candidate import ActivationQuant
from compress.encoding import Encoded
from compress.errors import ExportError
from compress.simulate import int32_bias
from targets.formats.tflite_packing import CHANNEL_BYTES, Form, smallest_of
from targets.formats.tflite_plan import file_layout
from targets.formats.tflite_schema import NO_TENSOR, names_of, schema
from targets.formats.tflite_sketch import Quantization
from targets.formats.tflite_tensors import Tensors
from targets.formats.tflite_unpacking import add_stored

CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
# The first versions with per-channel (convolutions) or int8 (fully connected) weights.
_VERSION = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}
# What a convolution in the place of FULLY_CONNECTED takes in the file for its two RESHAPE.
_RESHAPES_BYTES = 500


def add_layer(tensors: Tensors, operator: Any, kind: str) -> None:
    """The integer form of a layer whose input, output and weight are on grids."""
    source, output = int(operator.inputs[0]), int(operator.outputs[0])
    grid_x, grid_y = tensors.plan.grids[source], tensors.plan.grids[output]
    x = tensors.read(source, grid_x)
    weight = tensors.plan.weights[int(operator.inputs[1])]
    if kind == "FULLY_CONNECTED" and (weight.axis is not None or _pays_sparse(tensors, weight)):
        _as_convolution(tensors, operator, x, weight)
        return
    constants = _constants(tensors, operator, kind, weight, grid_x)
    y = tensors.make(output, grid_y)
    version = max(tensors.source.version(operator), _VERSION[kind])
    tensors.sketch.operator(kind, version, [x, *constants], [y], options_of(operator))


def _pays_sparse(tensors: Tensors, weight: Encoded) -> bool:
    """True where a convolution with sparse weights is smaller, its reshapes and scales included."""
    if not tensors.plan.sparse:
        return False
    codes = weight.integers().reshape(weight.shape[:2])
    extra = _RESHAPES_BYTES + codes.shape[0] * CHANNEL_BYTES
    return smallest_of(Form(codes)).file_bytes + extra < Form(codes).file_bytes


def _as_convolution(tensors: Tensors, operator: Any, x: int, weight: Encoded) -> None:
    """A fully connected layer with sparse weights or a scale for each output, as a convolution.

    FULLY_CONNECTED knows one scale only until its version 12 (2024), and older runtimes would
    take the file and compute nonsense; a convolution has had them from the start. And XNNPACK's
    on integers fails on a weight from DENSIFY (LiteRT 2.3). The arithmetic is the same.
    """
    source, output = int(operator.inputs[0]), int(operator.outputs[0])
    grid_x, grid_y = tensors.plan.grids[source], tensors.plan.grids[output]
    outputs, inputs = weight.shape[:2]
    rows = int(np.prod(tensors.source.shape(output))) // outputs
    name = tensors.plan.names.get(output, f"t{output}")
    picture = tensors.reshape(x, f"{name}.in", (1, 1, rows, inputs), grid_x)
    square = replace(weight, indices=weight.indices.reshape(outputs, inputs, 1, 1))
    constants = _constants(tensors, operator, "CONV_2D", square, grid_x)
    y = tensors.add(tensors.unique(f"{name}.out"), (1, 1, rows, outputs), grid_y)
    options = schema().Conv2DOptionsT()
    options.strideH = options.strideW = 1
    options.padding = schema().Padding.VALID
    options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
    version = _VERSION["CONV_2D"]
    tensors.sketch.operator(
        "CONV_2D", version, [picture, *constants], [y], ("Conv2DOptions", options)
    )
    flat = tensors.reshape(y, name, tensors.source.shape(output), grid_y)
    tensors.held.setdefault(output, {})[grid_y] = flat


def _constants(
    tensors: Tensors, operator: Any, kind: str, weight: Encoded, grid: ActivationQuant
) -> tuple[int, int]:
    """(weight, bias) tensors of a layer whose input is on `grid`; without a bias it is zeros."""
    index = int(operator.inputs[1])
    name = tensors.plan.names.get(index, f"t{index}")
    integers, scale = weight.runtime_form()
    by_channel = np.broadcast_to(scale, (weight.shape[0],))
    bias = _bias(tensors, operator, weight.shape[0])
    steps = int32_bias(bias, float(np.float32(grid.scale)), by_channel)
    own = by_channel if weight.axis is not None else scale
    zeros = np.zeros(own.size, np.int64)
    codes = np.ascontiguousarray(file_layout(integers, kind))
    form = Form(codes, Quantization(own, zeros, CHANNEL_AXIS[kind]))
    if tensors.plan.sparse and kind != "FULLY_CONNECTED":
        form = smallest_of(form)
    made = add_stored(tensors.sketch, tensors.unique(name), form)
    both = Quantization((np.float32(grid.scale) * own).astype(np.float32), zeros)
    label = tensors.unique(f"{name.removesuffix('.weight')}.bias")
    return made, tensors.sketch.tensor(label, steps.shape, "INT32", steps, both)


def _bias(tensors: Tensors, operator: Any, channels: int) -> NDArray[np.float32]:
    index = int(operator.inputs[2]) if len(operator.inputs) > 2 else NO_TENSOR
    found = None if index == NO_TENSOR else tensors.source.constant(index)
    return np.zeros(channels, np.float32) if found is None else found


def options_of(operator: Any) -> tuple[str, Any] | None:
    """An operator's options as `Sketch.operator` takes them."""
    if operator.builtinOptions2 is not None:
        raise ExportError(
            "the net became operators of TFLite's StableHLO dialect; these stay float"
        )
    if operator.builtinOptions is None:
        return None
    return names_of("BuiltinOptions")[operator.builtinOptionsType], operator.builtinOptions
