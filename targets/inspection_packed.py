"""The tensors of a self-decoding .onnx, each summed up from its parts; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from targets.formats.packing import PARTS, Array, Packed, code_bits, unpack
from targets.inspection import TensorSummary, plain_summary

# Constants that serve every tensor.
SHARED = "decoding"


def packed_parts(graph: onnx.GraphProto) -> dict[str, str]:
    """{constant: its part of a packed tensor, or 'decoding'}; empty for a graph without any."""
    made = {str(name) for node in graph.node for name in node.output}
    found: dict[str, str] = {}
    for tensor in graph.initializer:
        owner, _, part = str(tensor.name).rpartition(":")
        if owner in made and part in PARTS:
            found[str(tensor.name)] = part
    if found:
        names = (str(tensor.name) for tensor in graph.initializer)
        found.update((name, SHARED) for name in names if name.startswith(":"))
    return found


def packed_summaries(
    model: onnx.ModelProto, parts_of: Mapping[str, str]
) -> tuple[TensorSummary, ...]:
    """One for each packed tensor, in the order of its first part; its bytes are its parts'."""
    grouped: dict[str, dict[str, onnx.TensorProto]] = {}
    for tensor in model.graph.initializer:
        part = parts_of.get(str(tensor.name), SHARED)
        if part != SHARED:
            grouped.setdefault(str(tensor.name).rpartition(":")[0], {})[part] = tensor
    if not grouped:
        return ()
    inferred = shape_inference.infer_shapes(model).graph.value_info
    shapes = {
        str(v.name): tuple(int(d.dim_value) for d in v.type.tensor_type.shape.dim)
        for v in inferred
        if v.name in grouped
    }
    return tuple(_summary(name, shapes[name], protos) for name, protos in grouped.items())


def _summary(
    name: str, shape: tuple[int, ...], protos: Mapping[str, onnx.TensorProto]
) -> TensorSummary:
    parts = {part: numpy_helper.to_array(proto) for part, proto in protos.items()}
    # Without its scale: that changes no zero, and its shape is only the file's word.
    bare = unpack(Packed(shape, {part: a for part, a in parts.items() if part != "scale"}))
    summary = plain_summary(name, bare, sum(proto.ByteSize() for proto in protos.values()))
    floats = "scale" in parts or bare.dtype != np.int8
    return replace(
        summary,
        dtype="float32" if floats else "int8",
        form=_form(parts),
        index_bits=code_bits(parts) or None,
    )


def _form(parts: Mapping[str, Array]) -> str:
    held = parts["values"] if "values" in parts else parts["book"]
    if held.dtype == np.int8:
        return "int8"
    return "shared" if "book" in parts else "masked" if "mask" in parts else "half"
