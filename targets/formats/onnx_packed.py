"""Exporter to a small .onnx that decodes itself, by standard operators, when a session starts.

Zeros and shared weights do not shrink an ordinary .onnx. Here each weight stands in the smallest
exact form (`packing`) with the operators that give it back (`unpacking`). onnxruntime folds them at
every level but DISABLE_ALL: the session then holds the same dense net, with the same outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from compress.candidate import Candidate
from compress.encoding import Encoded, Encoding, int8_codebook
from compress.errors import RangeError
from targets.artifact import Artifact
from targets.formats.onnx import build_model, write_model
from targets.formats.onnx_graph import prune_initializers
from targets.formats.onnx_sheet import Array, Sheet
from targets.formats.onnx_weights import parameter_of
from targets.formats.packing import Coded, forms
from targets.formats.unpacking import Unpacker, embedded_bytes

# Opset of each profile: 18 has the bitwise operators, 21 tensors of 4 bits.
PROFILES = {"compatible": 18, "modern": 21}
_LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class OnnxPackedExporter:
    """Writes .packed.onnx. `profile`: "compatible" (opset 18) or "modern" (21, 4-bit tensors).

    An int8 candidate is written as OnnxExporter does, its int8 weights packed.
    """

    format: ClassVar[str] = "onnx-packed"
    suffix: ClassVar[str] = ".packed.onnx"

    profile: Literal["compatible", "modern"] = "compatible"

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            allowed = ", ".join(map(repr, PROFILES))
            raise RangeError(f"OnnxPackedExporter(profile={self.profile!r}): allowed are {allowed}")

    def __call__(self, candidate: Candidate, path: Path) -> Artifact:
        """Write `candidate` to `path`, whole or not at all; equal candidates give equal bytes.

        The decoded weights are those of OnnxExporter's file bit for bit, and so are the outputs.
        Raises EncodingError for an encoding that does not decode to its parameter, ExportError for
        what cannot be written as the candidate computes it.
        """
        candidate.check()
        model = build_model(candidate, PROFILES[self.profile])
        pack(model, candidate.encodings, nibbles=self.profile == "modern")
        return write_model(self, candidate, model, path)


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
