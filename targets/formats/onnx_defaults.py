"""Attributes that say what the operator would do anyway: torch's exporter writes them all."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper

# Attributes of Conv and the pools whose default depends on the weight's rank: all ones, all zeros.
_ONES = ("dilations", "strides")
_ZEROS = ("pads",)


def drop_defaults(model: onnx.ModelProto) -> None:
    """Remove them, in place: 100 of 200 bytes of a Conv."""
    version = max(entry.version for entry in model.opset_import if entry.domain == "")
    for node in model.graph.node:
        if node.domain or not onnx.defs.has(node.op_type):
            continue
        known = onnx.defs.get_schema(node.op_type, version, "").attributes
        kept = [a for a in node.attribute if not _is_default(node, a, known)]
        del node.attribute[:]
        node.attribute.extend(kept)


def _is_default(
    node: onnx.NodeProto,
    attribute: onnx.AttributeProto,
    known: Mapping[str, onnx.defs.OpSchema.Attribute],
) -> bool:
    if node.op_type == "Conv" and attribute.name == "kernel_shape":
        return True  # the weight's
    value = helper.get_attribute_value(attribute)
    if attribute.name in _ONES:
        return all(number == 1 for number in value)
    if attribute.name in _ZEROS:
        return all(number == 0 for number in value)
    if attribute.name not in known:
        return False
    default = known[attribute.name].default_value
    return default.type != onnx.AttributeProto.UNDEFINED and value == helper.get_attribute_value(
        default
    )


def shorten(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Give short names to what lies between the operators of a net, but for `kept`.

    The exporter's names tell nothing of the net: 'conv2d_12', 'relu_12'. Names of the decoding's
    own begin with a colon.
    """
    ends = {value.name for value in (*graph.input, *graph.output)}
    made = [name for node in graph.node for name in node.output]
    short: dict[str, str] = {}
    for name in made:
        if name not in kept and name not in ends and not name.startswith(":"):
            short[name] = f"/{np.base_repr(len(short), 36).lower()}"
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = short.get(name, name)
