"""Weights of an ONNX model in their smallest exact forms, with the operators that give them back.

Needs numpy and onnx, not torch: a container that carries its graph is packed without the net.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from compress.encoding import Encoded, Encoding, int8_codebook
from targets.formats.onnx_parameters import parameter_of
from targets.formats.onnx_sheet import Array, Sheet, prune_initializers
from targets.formats.packing import Coded, forms
from targets.formats.unpacking import Unpacker, embedded_bytes

# Opset of each profile: 18 has the bitwise operators, 21 tensors of 4 bits.
PROFILES = {"compatible": 18, "modern": 21}
_LAYERS = ("Conv", "Gemm", "MatMul")


def pack(model: onnx.ModelProto, encodings: Mapping[str, Encoding], nibbles: bool = False) -> None:
    """Replace each weight of `model` by its smallest exact form, in place; names of nodes go.

    `encodings` by parameter: what explains the weights, which are told by their values. `nibbles`:
    tensors of 4 bits may be used, so the model's opset is 21 or later.
    """
    graph = model.graph
    sheet = Sheet({tensor.name: tensor for tensor in graph.initializer})
    unpacker = Unpacker(sheet)
    known = {name: e for name, e in encodings.items() if isinstance(e, Encoded)}
    # The largest first: it pays for the tables that the smaller ones then have for nothing.
    for tensor in sorted(_weights(graph), key=lambda tensor: -tensor.ByteSize()):
        values = numpy_helper.to_array(tensor)
        found = list(forms(values, _coded(tensor, values, known), nibbles))
        costs = [unpacker.cost(tensor.name, form) for form in found]
        if costs and min(costs) < embedded_bytes(tensor):
            del sheet.constants[tensor.name]
            unpacker.write(tensor.name, found[costs.index(min(costs))])
    nodes = [*sheet.nodes, *graph.node]
    for node in nodes:
        node.name = ""
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(sheet.constants.values())
    prune_initializers(graph)


def _weights(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Float weights and biases of layers, and the int8 weights behind a DequantizeLinear."""
    readers: dict[str, list[tuple[str, int]]] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            readers.setdefault(name, []).append((node.op_type, position))
    for tensor in graph.initializer:
        uses = readers.get(tensor.name, [])
        floats = tensor.data_type == TensorProto.FLOAT and all(op in _LAYERS for op, _ in uses)
        codes = all(use == ("DequantizeLinear", 0) for use in uses)
        if floats or (codes and tensor.data_type == TensorProto.INT8):
            yield tensor


def _coded(tensor: TensorProto, values: Array, encodings: dict[str, Encoded]) -> Coded | None:
    """Codes that explain the constant's values; None where nothing does."""
    if values.dtype == np.int8:
        return Coded(values.view(np.uint8), int8_codebook())
    found = parameter_of(tensor, encodings)
    if found is None:
        return None
    name, transposed = found
    encoding = encodings[name]
    indices, scale = encoding.indices, encoding.broadcast_scale()
    if transposed:
        indices, scale = indices.T, scale.T
    if encoding.axis is not None or encoding.on_integers:
        return Coded(indices, encoding.codebook, scale)
    # One scale and floats: a codebook of the products says the same.
    return Coded(indices, encoding.codebook * encoding.scale + np.float32(0))
