"""Weights of an ONNX model in their smallest exact forms, with the operators that give them back.

Needs numpy and onnx, not torch: a container that carries its graph is packed without the net.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from compress.encoding import Encoded, Encoding, int8_codebook
from targets.formats.bundle_graph import write_bundles
from targets.formats.grouping import Proposal, bundled, proposed
from targets.formats.integers import IntegerTensor, as_integers
from targets.formats.onnx_defaults import drop_defaults, shorten
from targets.formats.onnx_operators import Operators, embedded_bytes
from targets.formats.onnx_parameters import parameter_of
from targets.formats.onnx_sheet import Array, Sheet, prune_initializers
from targets.formats.packing import Coded, Packed, forms
from targets.formats.unpacking import Unpacker

# Opset of each profile: 18 has the bitwise operators, 21 tensors of 4 bits.
PROFILES = {"compatible": 18, "modern": 21}
_LAYERS = ("Conv", "Gemm", "MatMul")
# Operators and names of a tensor of a forest.
_TENSOR_BYTES = 120
# Each digit of a symbol is a step over arrays when a session starts: about 30 bytes of memory and
# 15 ns. What it counts beside the bits of the file.
_STEP_BITS = 0.2


def pack(
    model: onnx.ModelProto,
    encodings: Mapping[str, Encoding],
    nibbles: bool = False,
    quick: bool = False,
) -> None:
    """Replace each weight of `model` by its smallest exact form, in place; names of nodes go.

    `encodings` by parameter: what explains the weights, which are told by their values. `nibbles`:
    tensors of 4 bits may be used, so the model's opset is 21 or later. `quick`: no prefix codes.
    """
    drop_defaults(model)
    known = {name: e for name, e in encodings.items() if isinstance(e, Encoded)}
    found = [_weight(tensor, known, nibbles) for tensor in _weights(model.graph)]
    names = {weight.name for weight in found}
    ways = [_written(model.graph, found, None)]
    if not quick:
        ways.append(_written(model.graph, found, _STEP_BITS))
    best = min(ways, key=lambda graph: graph.ByteSize())
    del model.graph.node[:]
    del model.graph.initializer[:]
    model.graph.node.extend(best.node)
    model.graph.initializer.extend(best.initializer)
    shorten(model.graph, names)


class _Weight(NamedTuple):
    """A constant, what explains its values, and its forms of codes of one width."""

    tensor: TensorProto
    coded: Coded | None
    forms: list[Packed]

    @property
    def name(self) -> str:
        return str(self.tensor.name)


def _weight(tensor: TensorProto, encodings: dict[str, Encoded], nibbles: bool) -> _Weight:
    values = numpy_helper.to_array(tensor)
    coded = _coded(tensor, values, encodings)
    return _Weight(tensor, coded, list(forms(values, coded, nibbles)))


def _written(
    graph: onnx.GraphProto, weights: Sequence[_Weight], step_bits: float | None
) -> onnx.GraphProto:
    """Nodes and constants of the packed graph; step_bits: with prefix codes, where they pay."""
    sheet = Sheet({tensor.name: tensor for tensor in graph.initializer})
    to = Operators(sheet)
    unpacker = Unpacker(to)
    proposals = {} if step_bits is None else _proposals(unpacker, weights, step_bits)
    for name in proposals:
        del sheet.constants[name]
    if step_bits is not None and proposals:
        write_bundles(to, bundled(proposals.values(), step_bits), step_bits)
    # The largest first: it pays for the tables that the smaller ones then have for nothing.
    for weight in sorted(weights, key=lambda weight: -weight.tensor.ByteSize()):
        if weight.name not in proposals:
            _write_form(unpacker, weight)
    written = onnx.GraphProto()
    written.node.extend([*sheet.nodes, *graph.node])
    for node in written.node:
        node.name = ""
    written.initializer.extend(sheet.constants.values())
    prune_initializers(written)
    return written


def _proposals(
    unpacker: Unpacker, weights: Iterable[_Weight], step_bits: float
) -> dict[str, Proposal]:
    """Prefix codes of the tensors that take less by them than in the smallest other form."""
    smaller: dict[str, Proposal] = {}
    for weight in weights:
        values = numpy_helper.to_array(weight.tensor)
        integers = as_integers(weight.name, values, weight.coded)
        proposal = None if integers is None else proposed(integers, step_bits)
        if proposal is None:
            continue
        costs = [unpacker.cost(weight.name, form) for form in weight.forms]
        least = min([*costs, embedded_bytes(weight.tensor)])
        if proposal.bits / 8 + _around(proposal.group.tensors[0]) < least:
            smaller[weight.name] = proposal
    return smaller


def _around(tensor: IntegerTensor) -> int:
    """Bytes beside its symbols: operators, names, book and scale."""
    return _TENSOR_BYTES + sum(a.nbytes for a in (tensor.book, tensor.scale) if a is not None)


def _write_form(unpacker: Unpacker, weight: _Weight) -> None:
    """Replace a constant by its smallest form, where one is smaller than the constant."""
    costs = [unpacker.cost(weight.name, form) for form in weight.forms]
    if costs and min(costs) < embedded_bytes(weight.tensor):
        del unpacker.to.sheet.constants[weight.name]
        unpacker.write(weight.name, weight.forms[costs.index(min(costs))])


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
        if uses and (floats or (codes and tensor.data_type == TensorProto.INT8)):
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
    whole = np.array_equal(np.rint(encoding.codebook), encoding.codebook)
    if encoding.axis is not None or whole:
        return Coded(indices, encoding.codebook, scale)
    # One scale and floats: a codebook of the products says the same.
    return Coded(indices, encoding.codebook * encoding.scale + np.float32(0))
