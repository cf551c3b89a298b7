"""A float .tflite model rewritten onto a plan's integer grids, operator by operator.

An operator runs on integers where its weight, its inputs and its outputs all have a grid and its
integer kernel is known here; else it stays float, between DEQUANTIZE and QUANTIZE. With an empty
plan the model comes out as it went in, under shorter names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from compress.candidate import ActivationQuant
from targets.formats.tflite_layers import add_layer, options_of
from targets.formats.tflite_plan import MOVES_VALUES, Plan
from targets.formats.tflite_schema import NO_TENSOR, WEIGHTED, Source
from targets.formats.tflite_sketch import Sketch
from targets.formats.tflite_tensors import Tensors, signed

# The first version of each operator that has an int8 kernel:
# tensorflow/lite/tools/versioning/op_version.cc. HARD_SWISH has one too, but XNNPACK does not take
# it over, so that each would part the graph: MobileNetV3 ran 3 times slower than with it in float.
_INTEGER_VERSION: Mapping[str, int] = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "CONCATENATION": 2,
    "EXPAND_DIMS": 1,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "PADV2": 2,
    "RELU": 2,
    "RELU6": 2,
    "RESHAPE": 1,
    "SLICE": 2,
    "SPLIT": 2,
    "SPLIT_V": 2,
    "SQUEEZE": 1,
    "STRIDED_SLICE": 2,
    "TRANSPOSE": 2,
}
# The kernels of these cannot rescale: all their tensors are on the output's grid.
_ONE_GRID = MOVES_VALUES | {"AVERAGE_POOL_2D"}
# In what part of the elements MEAN's kernel may be a step off, where the file is not all integer.
_MEAN_OFF = 0.15


def rewrite(
    source: Source, plan: Plan, *, integer_ends: bool
) -> tuple[Sketch, list[int], list[int]]:
    """(new model, its inputs, its outputs); ends that have a grid are int8 if `integer_ends`."""
    tensors = Tensors(source, plan)
    inputs: list[int] = []
    for index in source.inputs:
        grid = plan.grids.get(index)
        inputs.append(tensors.make(index, grid if integer_ends else None))
        if not integer_ends:
            tensors.settle(index)
    for operator, integer in zip(source.operators, _chosen(source, plan), strict=True):
        kind = source.kind(operator)
        if not integer:
            _add_float(tensors, operator, kind)
        elif kind in WEIGHTED:
            add_layer(tensors, operator, kind)
        else:
            _add_integer(tensors, operator, kind)
    ends = plan.grids if integer_ends else {}
    outputs = [tensors.read(index, ends.get(index)) for index in source.outputs]
    return tensors.sketch, inputs, outputs


def _on_integers(source: Source, plan: Plan, operator: Any, kind: str) -> bool:
    """True where every real number that the operator touches is on a grid, and a kernel exists."""
    inputs = [int(i) for i in operator.inputs if int(i) != NO_TENSOR]
    constants = {i: c for i in inputs if (c := source.constant(i)) is not None}
    moving = [i for i in inputs if i not in constants]
    if not all(i in plan.grids for i in (*moving, *map(int, operator.outputs))):
        return False
    if kind in WEIGHTED:
        return inputs[1] in plan.weights
    real = [i for i, c in constants.items() if c.dtype == np.float32]
    return kind in _INTEGER_VERSION and (not real or kind == "PADV2")


def _chosen(source: Source, plan: Plan) -> list[bool]:
    """For each operator whether it runs on integers.

    A file that can be integer throughout is, for hardware that takes no other. Elsewhere MEAN is
    float too where the built-in integer kernel would be off (XNNPACK's never is).
    """
    able = [_on_integers(source, plan, o, source.kind(o)) for o in source.operators]
    if all(able):
        return able
    return [
        fits and not (source.kind(operator) == "MEAN" and _mean_off(source, plan, operator))
        for fits, operator in zip(able, source.operators, strict=True)
    ]


def _mean_off(source: Source, plan: Plan, operator: Any) -> bool:
    """True where the built-in integer kernel of MEAN is a step off in many elements.

    Measured on LiteRT 2.3: it rounds the zero point's share of the result by itself, so all means
    are shifted by what that drops, and cuts the sum's share off at a whole element.
    """
    before, after = int(operator.inputs[0]), int(operator.outputs[0])
    grid_x, grid_y = plan.grids[before], plan.grids[after]
    share = (grid_x.zero_point - 128) * grid_x.scale / grid_y.scale
    summed = np.prod(source.shape(before)) / np.prod(source.shape(after))
    return bool(abs(share - round(share)) + 1 / summed > _MEAN_OFF)


def _add_integer(tensors: Tensors, operator: Any, kind: str) -> None:
    grids = tensors.plan.grids
    target = grids[int(operator.outputs[0])]
    inputs: list[int] = []
    for index in (int(i) for i in operator.inputs):
        own = grids.get(index)
        inputs.append(tensors.read(index, target if own and kind in _ONE_GRID else own))
    if kind == "PADV2":
        inputs[2] = _pad_value(tensors, int(operator.inputs[2]), target)
    outputs = [
        tensors.make(i, target if kind in _ONE_GRID else grids[i])
        for i in map(int, operator.outputs)
    ]
    version = max(tensors.source.version(operator), _INTEGER_VERSION[kind])
    tensors.sketch.operator(kind, version, inputs, outputs, options_of(operator))
    if kind == "RESHAPE":
        tensors.note_reshape(inputs[0], outputs[0])


def _pad_value(tensors: Tensors, index: int, grid: ActivationQuant) -> int:
    """What PADV2 fills in, on the grid; minus infinity, before a max-pool, is its lowest code."""
    value = tensors.source.constant(index)
    assert value is not None
    code = np.clip(np.rint(value / np.float32(grid.scale)) + grid.zero_point, 0, 255) - 128
    return tensors.sketch.tensor(
        tensors.name(index), value.shape, "INT8", code.astype(np.int8), signed(grid)
    )


def _add_float(tensors: Tensors, operator: Any, kind: str) -> None:
    inputs = [tensors.read(int(i), None) for i in operator.inputs]
    made = [tensors.make(int(i), None) for i in operator.outputs]
    version = tensors.source.version(operator)
    tensors.sketch.operator(kind, version, inputs, made, options_of(operator))
    for index in operator.outputs:
        tensors.settle(int(index))
