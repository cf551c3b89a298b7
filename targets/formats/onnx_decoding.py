"""The decoding of a packed .onnx: the operators that work on constants alone, as a graph.

Only operators that a packed file decodes with count, so that what a file makes of its constants
ends and is known in size before anything is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import onnx
from onnx import NodeProto, helper, shape_inference

from compress.errors import DataError

OPERATORS = frozenset(
    (
        *("Add", "BitShift", "BitwiseAnd", "BitwiseOr", "Cast", "Concat", "CumSum", "Equal"),
        *("Expand", "Gather", "GatherElements", "Max", "Mul", "ReduceSum", "Reshape"),
        *("ScatterElements", "Slice", "Split", "Sum", "Where"),
    )
)
# Bytes of all arrays that a decoding makes: either is allowed. Real files make less than 300 times
# their own size.
_MOST_BYTES = 1 << 30
_MOST_TIMES = 1024
# They take the elements of their first input as they come.
_PASSING = frozenset({"Cast", "Mul", "Reshape", "Split", "Sum"})


class Decoding:
    """What the graph of `model`, read of the file `source`, makes of its constants.

    names: the tensors that its net reads of it, in the order of the nodes that make them.
    """

    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        """DataError for a graph that makes a tensor twice."""
        graph = model.graph
        self._whole, self._source = model, source
        self.constants = {str(tensor.name): tensor for tensor in graph.initializer}
        self.nodes: list[NodeProto] = []
        self._makers: dict[str, NodeProto] = {}
        read = {str(value.name) for value in graph.output}
        for node in graph.node:
            if not self._is_part(node):
                read.update(map(str, node.input))
                continue
            self.nodes.append(node)
            for name in map(str, node.output):
                if name in self.constants or name in self._makers:
                    raise DataError(f"{source} makes {name!r} twice; export it anew")
                self._makers[name] = node
        self.names = tuple(
            name for name in self._makers if name in read and not name.startswith((":", "/"))
        )

    def before_scale(self, name: str) -> str:
        """The tensor that is multiplied by the factors `name:scale`; `name` where none is.

        One factor changes no level, so that only several count.
        """
        node = self._makers[name]
        if node.op_type == "Sum":
            node = self._makers.get(node.input[0], node)
        scale = self.constants.get(f"{name}:scale")
        if scale is None or math.prod(scale.dims) == 1 or node.op_type != "Mul":
            return name
        return str(node.input[0]) if node.input[1] == scale.name else name

    def is_scattered(self, name: str) -> bool:
        """True where the elements of a tensor are put among zeros, which have none."""
        node = self._makers.get(name)
        while node is not None:
            if node.op_type in _PASSING:
                node = self._makers.get(node.input[0])
            elif node.op_type == "GatherElements" and node.input[0] in self.constants:
                node = self._makers.get(node.input[1])  # codes
            else:
                return node.op_type == "ScatterElements"
        return False

    def made_of(self, constant: str) -> set[str]:
        """All tensors that it is needed for."""
        found = {constant}
        for node in self.nodes:
            if not found.isdisjoint(node.input):
                found.update(map(str, node.output))
        return found

    def model(self, names: Sequence[str]) -> onnx.ModelProto:
        """The decoding alone, without an input; its outputs are `names`.

        DataError where it would make arrays of a size that is unknown or beyond what a packed file
        of this size makes.
        """
        whole = self._whole
        used = {str(name) for node in self.nodes for name in node.input}
        constants = [tensor for name, tensor in self.constants.items() if name in used]
        ends = [onnx.ValueInfoProto(name=name) for name in names]
        model = helper.make_model(
            helper.make_graph(self.nodes, "decoding", [], ends, constants),
            opset_imports=whole.opset_import,
            ir_version=whole.ir_version,
        )
        model.metadata_props.extend(whole.metadata_props)
        made = sum(self._made_bytes(model))
        most = max(_MOST_BYTES, _MOST_TIMES * whole.ByteSize())
        if made > most:
            raise DataError(
                f"{self._source} makes {made:,} bytes of arrays of its constants; a file of its "
                f"size may make {most:,}; export it anew"
            )
        return model

    def _is_part(self, node: NodeProto) -> bool:
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx") or not node.input:
            return False
        given = (str(name) for name in node.input if name)
        return all(name in self.constants or name in self._makers for name in given)

    def _made_bytes(self, model: onnx.ModelProto) -> Iterator[int]:
        """Of each tensor that is made."""
        # Without data_prop, which takes arrays for shapes, and memory for 2**40 of their elements.
        graph = shape_inference.infer_shapes(model, strict_mode=True).graph
        types = {str(v.name): v.type.tensor_type for v in (*graph.value_info, *graph.output)}
        for name in self._makers:
            kind = types.get(name)
            if kind is None or not kind.HasField("shape") or not _is_known(kind.shape):
                raise DataError(
                    f"{self._source} makes {name!r} of its constants, of a size that depends on "
                    "their values; export it anew"
                )
            width = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
            yield width * math.prod(int(d.dim_value) for d in kind.shape.dim)


def _is_known(shape: onnx.TensorShapeProto) -> bool:
    return all(d.HasField("dim_value") and d.dim_value >= 0 for d in shape.dim)
