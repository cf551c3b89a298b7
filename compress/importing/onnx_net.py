"""An .onnx graph as a torch module: layers as torch's own, all else as torch's functions.

No node is left as a foreign operator, so that stages and exporters see an ordinary net. Constants
are folded, names are made readable, and the net takes any number of pictures, whatever number the
file was written for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import fx

from compress.errors import ModelError
from compress.importing.building import Constant, NetBuilder, Value, reason
from compress.importing.onnx_arithmetic import ARITHMETIC
from compress.importing.onnx_constants import folded
from compress.importing.onnx_file import OnnxFile
from compress.importing.onnx_layers import LAYERS
from compress.importing.onnx_moves import MOVES
from compress.importing.onnx_operator import Importer, Operator
from compress.importing.onnx_pooling import POOLS

IMPORTERS: Mapping[str, Importer] = {**ARITHMETIC, **LAYERS, **MOVES, **POOLS}


def net_of(file: OnnxFile, path: Path) -> fx.GraphModule:
    """The net of a checked file, float32, eval mode. Raises ModelError naming the node."""
    return _Import(file, path).run()


@dataclass
class _Import:
    """One pass over the nodes, which onnx keeps in order of execution."""

    file: OnnxFile
    path: Path
    net: NetBuilder = field(default_factory=NetBuilder)
    known: dict[str, Value | Constant] = field(default_factory=dict[str, "Value | Constant"])
    readers: Counter[str] = field(default_factory=Counter[str])

    def run(self) -> fx.GraphModule:
        graph = self.file.model.graph
        self.readers.update(name for node in graph.node for name in node.input)
        self.readers[self.file.output] += 1
        for tensor in graph.initializer:
            self.known[tensor.name] = Constant(self._array(tensor), tensor.name)
        if graph.sparse_initializer:
            raise ModelError(f"{self.path} has sparse initializers; export it with dense ones")
        self.known[self.file.input] = self.net.input(self.file.input, self.file.shape)
        for position, node in enumerate(graph.node):
            try:
                self._take(node)
            except ModelError as error:
                label = node.name or f"number {position}"
                raise ModelError(
                    f"{self.path}: node {label!r} ({node.op_type}): {error}"
                ) from error
        output = self.known.get(self.file.output)
        if not isinstance(output, Value) or not output.answers(self.file.shape[0]):
            raise ModelError(
                f"{self.path}: its output {self.file.output!r} is not one answer for each picture"
            )
        return self.net.finish(output, self.path.stem)

    def _take(self, node: onnx.NodeProto) -> None:
        inputs = [self._find(name) for name in node.input]
        results = self._results(node, inputs)
        for name, result in zip(node.output, results, strict=False):
            if name:
                self.known[name] = result

    def _find(self, name: str) -> Value | Constant | None:
        if name and name not in self.known:
            raise ModelError(f"it reads {name!r}, which nothing before it gives")
        return self.known[name] if name else None

    def _results(
        self, node: onnx.NodeProto, inputs: Sequence[Value | Constant | None]
    ) -> Sequence[Value | Constant]:
        first = inputs[0] if inputs else None
        constants = [i for i in inputs if not isinstance(i, Value)]
        if node.op_type == "Shape" and isinstance(first, Value):
            attributes = _attributes(node)
            shape = first.shape[attributes.get("start", 0) : attributes.get("end", None)]
            return [Constant(np.array(shape, np.int64))]
        if node.op_type == "Size" and isinstance(first, Value):
            return [Constant(np.array(np.prod(first.shape), np.int64))]
        if isinstance(first, Value) and self._hands_on(node, inputs):
            return [first]
        if len(constants) == len(inputs):
            return folded(node, self.file.opset, constants)
        return self._imported(node, inputs)

    def _hands_on(self, node: onnx.NodeProto, inputs: Sequence[Value | Constant | None]) -> bool:
        """Whether the node gives its input as it is, where nothing is trained."""
        if node.op_type == "Cast":
            return _attributes(node).get("to") == onnx.TensorProto.FLOAT
        if node.op_type == "Dropout":
            mode = inputs[2] if len(inputs) > 2 else None
            if isinstance(mode, Constant) and bool(mode.array):
                raise ModelError(
                    "the file was exported in training mode; export it anew after model.eval()"
                )
        return node.op_type in ("Identity", "Dropout")

    def _imported(
        self, node: onnx.NodeProto, inputs: Sequence[Value | Constant | None]
    ) -> Sequence[Value]:
        importer = IMPORTERS.get(node.op_type)
        if importer is None:
            raise ModelError(
                "this operator is not supported; open the net by its own code instead "
                "(module:function and a checkpoint)"
            )
        alone = tuple(self.readers[name] == 1 for name in node.input)
        operator = Operator(
            node.op_type,
            node.name,
            self.file.opset,
            tuple(inputs),
            alone,
            _attributes(node),
            len(node.output),
        )
        try:
            results = importer(self.net, operator)
        except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError) as error:
            raise ModelError(reason(error)) from error
        return (results,) if isinstance(results, Value) else results

    def _array(self, tensor: onnx.TensorProto) -> Any:
        try:
            return numpy_helper.to_array(tensor)
        except Exception as error:  # wrong lengths and types raise many kinds
            raise ModelError(
                f"{self.path} is damaged: the tensor {tensor.name!r} of shape "
                f"{list(tensor.dims)} cannot be read; get it again"
            ) from error


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """As Python values, bytes as text."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        found[attribute.name] = (
            value.decode(errors="replace") if isinstance(value, bytes) else value
        )
    return found
