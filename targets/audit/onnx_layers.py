"""The layers of an .onnx file as they are written: weights, arithmetic, multiplications."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import onnx
from onnx import shape_inference

from targets.audit.data import Arithmetic

_DEQUANTIZE = "DequantizeLinear"
# The operands that hold picture and weights, by operator.
_INTEGER: Mapping[str, tuple[int, int]] = {
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
}
_PLACES: Mapping[str, tuple[int, int]] = {
    **_INTEGER,
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
}
# What changes no weight: Pad adds zeros (formats/onnx_widen.py), Cast widens 4 bits to 8.
_KEPT = (_DEQUANTIZE, "Cast", "Identity", "Pad", "QuantizeLinear", "Transpose")
# How our exporter names the integers of a weight on a grid (formats/onnx_qdq.py).
_GRID_SUFFIX = "_grid_codes"

Shape = tuple[int | None, ...]


class Written(NamedTuple):
    """A layer of the file. names: of its weights, from the layer back to the constant."""

    operator: str
    names: tuple[str, ...]
    asked: Arithmetic
    macs: int | None

    @property
    def label(self) -> str:
        return self.names[-1].removesuffix(_GRID_SUFFIX)


def layers_of(model: onnx.ModelProto) -> list[Written]:
    """Every operator whose weights are constants, in the file's order."""
    graph = model.graph
    makers = {str(name): node for node in graph.node for name in node.output}
    constants = constant_names(graph)
    shapes = _shapes(model)
    found: list[Written] = []
    for node in graph.node:
        kind = str(node.op_type)
        places = _PLACES.get(kind)
        if places is None or len(node.input) <= places[1]:
            continue
        picture, weight = (str(node.input[place]) for place in places)
        if weight not in constants or picture in constants:
            continue
        grids = all(_is_made_by(_DEQUANTIZE, name, makers) for name in (picture, weight))
        asked: Arithmetic = "int8" if kind in _INTEGER or grids else "float"
        sized = (picture, _unpadded(weight, makers), str(node.output[0]))
        macs = _macs(kind, *(shapes.get(name) for name in sized))
        found.append(Written(kind, _names(weight, makers), asked, macs))
    return found


def constant_names(graph: onnx.GraphProto) -> set[str]:
    """Tensors that depend on no input of the graph; "" for an operand that is not given."""
    fixed = {"", *(str(tensor.name) for tensor in graph.initializer)}
    for node in graph.node:
        if fixed.issuperset(node.input):
            fixed.update(str(name) for name in node.output)
    return fixed


def _names(weight: str, makers: Mapping[str, onnx.NodeProto]) -> tuple[str, ...]:
    """The operand, and what it is dequantized or moved from; not what a packed one is made of."""
    names = [weight]
    while (node := makers.get(names[-1])) is not None:
        if node.op_type not in _KEPT:
            break
        names.append(str(node.input[0]))
    return tuple(names)


def _unpadded(weight: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """The tensor of the weight's own shape, before zeros are added to it."""
    while (node := makers.get(weight)) is not None and node.op_type in {*_KEPT} - {"Transpose"}:
        weight = str(node.input[0])
    return weight


def _is_made_by(kind: str, name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """True also through a transpose, which changes no value."""
    node = makers.get(name)
    while node is not None and node.op_type in ("Transpose", "Identity"):
        node = makers.get(str(node.input[0]))
    return node is not None and node.op_type == kind


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Shapes by tensor; None for a free dimension, but the first (the batch) counts as 1."""
    inferred = shape_inference.infer_shapes(model).graph
    found: dict[str, Shape] = {str(t.name): tuple(t.dims) for t in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
            found[str(value.name)] = tuple(
                1 if i == 0 and size is None else size for i, size in enumerate(sizes)
            )
    return found


def _macs(kind: str, picture: Shape | None, weight: Shape | None, out: Shape | None) -> int | None:
    """Multiplications of one picture; None where a shape is not known."""
    source = picture if kind == "ConvTranspose" else out
    if source is None or weight is None:
        return None
    # Of each element made (or, transposed, read): what one position of the weights multiplies.
    per = weight[-2:-1] if "MatMul" in kind else weight[1:]
    if kind == "Gemm":
        return _product((*weight, *source[1:-1]))
    return _product((*source[1:], *per)) if len(source) > 1 else None


def _product(sizes: tuple[int | None, ...]) -> int | None:
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None
