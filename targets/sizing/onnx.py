"""The bytes of an .onnx file: weights, their codebooks and scales, metadata; the rest is graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from targets.inspection_packed import SHARED
from targets.sizing.account import StoredWeights

if TYPE_CHECKING:
    from targets.inspection import TensorSummary

# Parts of packed tensors (inspection_packed.packed_parts) that serve all weights alike.
TABLE_PARTS = frozenset({"book", "scale", "tree"})
# Where quantizing operators take scales and zero points.
_GRIDS: Mapping[str, frozenset[int]] = {
    "QuantizeLinear": frozenset({1, 2}),
    "DequantizeLinear": frozenset({1, 2}),
    "QLinearConv": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMatMul": frozenset({1, 2, 4, 5, 6, 7}),
    "ConvInteger": frozenset({2, 3}),
    "MatMulInteger": frozenset({2, 3}),
}
# Shapes, axes and switches, not weights.
_GRAPH_TYPES = frozenset({TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING})


def stored_in_onnx(
    graph: onnx.GraphProto, packed: Mapping[str, str], summaries: Iterable[TensorSummary]
) -> Iterator[StoredWeights]:
    """Every weight of the graph; some entries have elements alone or bytes alone.

    packed: {constant: its part}, of which SHARED is no weight's; summaries: of packed tensors,
    whose bytes may lie in constants that they share.
    """
    grids = _grid_names(graph.node)
    own: dict[str, dict[str, TensorProto]] = {}
    for tensor in graph.initializer:
        name, size = str(tensor.name), math.prod(tensor.dims)
        if (part := packed.get(name)) is not None:
            own.setdefault(name.rpartition(":")[0], {})[part] = tensor
            if part in TABLE_PARTS:
                yield StoredWeights(0, 0, 0, 0, value_bytes(tensor))
            elif part != SHARED:
                yield StoredWeights(0, 0, 0, value_bytes(tensor))
        elif name in grids:
            yield StoredWeights(0, 0, 0, 0, value_bytes(tensor))
        elif size > 1 and tensor.data_type not in _GRAPH_TYPES:
            yield StoredWeights(size, size, _bits(tensor), value_bytes(tensor))
    for summary in summaries:
        yield _packed(own.get(summary.name, {}), summary)


def metadata_bytes(model: onnx.ModelProto) -> int:
    """What says something of the net and computes nothing: names of makers, notes, metadata."""
    graph = model.graph
    texts = (model.producer_name, model.producer_version, model.domain, model.doc_string)
    notes = [graph.doc_string, *(holder.doc_string for holder in (*graph.node, *graph.initializer))]
    size = sum(_embedded(len(str(text).encode())) for text in (*texts, *notes) if text)
    entries = [*model.metadata_props, *graph.metadata_props]
    entries += [entry for node in graph.node for entry in node.metadata_props]
    return size + sum(_embedded(entry.ByteSize()) for entry in entries)


def value_bytes(tensor: TensorProto) -> int:
    """The bytes of a constant's values alone, without its name and shape."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    head = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return tensor.ByteSize() - head.ByteSize()


def _packed(parts: Mapping[str, TensorProto], summary: TensorSummary) -> StoredWeights:
    """How a packed tensor's weights stand, without their bytes."""
    stored = summary.elements if summary.coding == "dense" else summary.nonzeros
    bits = summary.index_bits
    return StoredWeights(
        summary.elements, stored, _bits(parts["values"]) if bits is None else bits, 0
    )


def _grid_names(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Constants that are scales or zero points."""
    return {
        str(name)
        for node in nodes
        for place, name in enumerate(node.input)
        if place in _GRIDS.get(node.op_type, ())
    }


def _bits(tensor: TensorProto) -> int:
    name = TensorProto.DataType.Name(tensor.data_type)
    if name.endswith(("INT4", "INT2")):
        return int(name[-1])
    return 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _embedded(size: int) -> int:
    """Bytes of a field in its message: its content, its tag and its length."""
    return size + 1 + max(1, -(-size.bit_length() // 7))
