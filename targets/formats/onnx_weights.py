"""Integer weights and biases in an ONNX graph: int8 and int32 behind a DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from compress.candidate import ActivationQuant, Candidate
from compress.encoding import Encoded
from compress.errors import ExportError
from compress.simulate import int32_bias, integer_weight
from targets.formats.onnx_parameters import parameter_of
from targets.formats.onnx_sheet import Sheet


def write_integer_weights(
    sheet: Sheet,
    graph: onnx.GraphProto,
    candidate: Candidate,
    grids: Mapping[str, ActivationQuant],
) -> None:
    """Store weights and biases of the layers that `simulate` computes on integers as integers.

    `grids`: the grid of each of the file's float tensors that has one. The layers of `graph` read
    the new tensors from then on. Raises ExportError for such a layer that is not in the graph.
    """
    wanted = {
        node.parameters["weight"]: (node.id, encoding)
        for node in candidate.network.graph.nodes
        if (encoding := integer_weight(candidate, node)) is not None
        and node.inputs[0] in candidate.activations
    }
    known = {name: encoding for name, (_, encoding) in wanted.items()}
    written: set[str] = set()
    for node in graph.node:
        if not _is_layer(node) or node.input[0] not in grids:
            continue
        tensor = sheet.constants.get(node.input[1])
        found = None if tensor is None else parameter_of(tensor, known)
        if found is not None:
            parameter, transposed = found
            _weight(sheet, node, parameter, known[parameter], transposed)
            if len(node.input) > 2 and node.input[2]:
                _bias(sheet, node, known[parameter], grids[node.input[0]])
            written.add(parameter)
    for parameter, (tensor, _) in wanted.items():
        if parameter not in written:
            raise ExportError(
                f"weight {parameter!r} of {tensor} was not found in the exported graph; "
                f"leave that layer in float (keep_float)"
            )


def _weight(
    sheet: Sheet, node: onnx.NodeProto, parameter: str, encoding: Encoded, transposed: bool
) -> None:
    target = f"{parameter}_grid{'_transposed' if transposed else ''}"
    if not sheet.makes(target):
        integers = encoding.integers()
        axis = encoding.axis
        scale = encoding.scale if axis is not None else encoding.scale.reshape(())
        if transposed:
            integers = np.ascontiguousarray(integers.T)
            axis = None if axis is None else 1 - axis
        sheet.keep(f"{target}_codes", integers)
        sheet.keep(f"{target}_scale", scale.astype(np.float32))
        # DequantizeLinear takes zeros for granted, but Gemm is only fused where they are given.
        zeros = f"zeros_{scale.size}" if scale.ndim else "zero"
        sheet.keep(zeros, np.zeros(scale.shape, np.int8))
        parts = [f"{target}_codes", f"{target}_scale", zeros]
        sheet.add("DequantizeLinear", parts, target, axis)
    node.input[1] = target


def _bias(sheet: Sheet, node: onnx.NodeProto, encoding: Encoded, grid: ActivationQuant) -> None:
    bias = sheet.value(node.input[2])
    scale_x = float(np.float32(grid.scale))
    target = f"{node.output[0]}_bias"
    channels = np.broadcast_to(encoding.scale, bias.shape)
    sheet.keep(f"{target}_codes", int32_bias(bias, scale_x, channels))
    own = channels if encoding.axis is not None else encoding.scale.reshape(())
    sheet.keep(f"{target}_scale", (scale_x * own.astype(np.float64)).astype(np.float32))
    axis = None if encoding.axis is None else 0
    sheet.add("DequantizeLinear", [f"{target}_codes", f"{target}_scale"], target, axis)
    node.input[2] = target


def _is_layer(node: onnx.NodeProto) -> bool:
    """True for a product with a weight, its factors alpha and beta 1."""
    factors = [a.f for a in node.attribute if a.name in ("alpha", "beta")]
    return node.op_type in ("Conv", "Gemm", "MatMul") and all(f == 1 for f in factors)
