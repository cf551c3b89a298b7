"""Computing what does not depend on the picture: the shapes that exporters spell as operators.

The arithmetic is onnx's own reference implementation, on operators whose results are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from compress.errors import ModelError, one_line
from compress.importing.building import Array, Constant
from compress.spec import MAX_ELEMENTS

# Operators whose result may be larger than all their inputs: a few bytes may ask for terabytes.
_GROWING = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
# The values keep their meaning, so that the result may keep the name.
_KEEPS_NAME = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_REFUSED = ("Random", "Bernoulli", "Multinomial", "Sequence", "Optional", "String")


def folded(node: onnx.NodeProto, opset: int, inputs: Sequence[Constant | None]) -> list[Constant]:
    """The results of a node all of whose inputs are known. Raises ModelError."""
    _check_growth(node, inputs)
    given = {name: c.array for name, c in zip(node.input, inputs, strict=True) if c is not None}
    try:
        evaluator = ReferenceEvaluator(_alone(node, opset, list(given)))
        results: list[Any] = list(evaluator.run(None, given))
    except Exception as error:  # the implementations raise what numpy raises
        raise ModelError(f"it cannot be computed ({one_line(error)})") from error
    if not all(isinstance(r, np.ndarray | np.generic) for r in results):
        raise ModelError("it gives no tensor")
    first = inputs[0].name if inputs and inputs[0] is not None else ""
    names = [first if node.op_type in _KEEPS_NAME and first else name for name in node.output]
    return [Constant(np.asarray(r), name) for r, name in zip(results, names, strict=False)]


def _alone(node: onnx.NodeProto, opset: int, names: Sequence[str]) -> onnx.ModelProto:
    """The node as a net of its own: the opset decides how it is spelled."""
    inputs = [onnx.ValueInfoProto(name=name) for name in names]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "one", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _check_growth(node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> None:
    if node.op_type.startswith(_REFUSED):
        raise ModelError("it is not supported")
    arrays: list[Array] = [c.array for c in inputs if c is not None]
    size = sum(array.size for array in arrays)
    if node.op_type in _GROWING and len(arrays) > _GROWING[node.op_type]:
        shape = [abs(int(n)) for n in arrays[_GROWING[node.op_type]].reshape(-1)[:16]]
        size = math.prod(max(1, n) for n in shape) * (size if node.op_type == "Tile" else 1)
    elif node.op_type == "Range" and len(arrays) == 3 and all(a.size == 1 for a in arrays):
        start, limit, step = (float(a.reshape(-1)[0]) for a in arrays)
        size = int(abs(limit - start) / abs(step)) if step else 0
    elif node.op_type in ("Pad", "Resize", "Upsample", "OneHot", "EyeLike"):
        raise ModelError("it is not supported on constants")
    elif len(arrays) > 1 and node.op_type not in ("Concat", "Gather"):
        size = math.prod(max(1, n) for n in _broadcast(arrays))
    if size > MAX_ELEMENTS:
        raise ModelError(f"it makes {size:,} elements; {MAX_ELEMENTS:,} are allowed")


def _broadcast(arrays: Sequence[Array]) -> tuple[int, ...]:
    """An upper bound for the shape of an operator element by element, or a product of matrices."""
    rank = max(array.ndim for array in arrays)
    shapes = [(1,) * (rank - array.ndim) + array.shape for array in arrays]
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))
