"""An ONNX graph while it is rewritten: the nodes so far, in order, and the constants by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


@dataclass
class Sheet:
    """Nodes and constants of the new graph; constants that nothing reads may be among them."""

    constants: dict[str, onnx.TensorProto] = field(default_factory=dict[str, onnx.TensorProto])
    nodes: list[onnx.NodeProto] = field(default_factory=list[onnx.NodeProto])

    def keep(self, name: str, values: Array) -> None:
        """Store a constant."""
        self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)

    def value(self, name: str) -> Array:
        """A constant's values."""
        return numpy_helper.to_array(self.constants[name])

    def add(self, operator: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        """Append an operator with one output, which names it: a name of its own costs 30 bytes."""
        node = helper.make_node(operator, inputs, [output])
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)

    def makes(self, tensor: str) -> bool:
        """True where a node so far gives `tensor`."""
        return any(tensor in node.output for node in self.nodes)


def prune_initializers(graph: onnx.GraphProto) -> None:
    """Drop the initializers that no node reads; the rest stay in order of first use."""
    order = dict.fromkeys(name for node in graph.node for name in node.input)
    known = {tensor.name: tensor for tensor in graph.initializer}
    kept = [known[name] for name in order if name in known]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def checked_bytes(model: onnx.ModelProto) -> bytes:
    """The bytes of a finished model, equal for equal models; it passes onnx's own full check."""
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
