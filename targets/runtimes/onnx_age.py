"""A file newer than the onnxruntime that shall run it: what it is, what is taken, what to write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import onnx


class _Limit(NamedTuple):
    """The newest that is taken: `kind` is "IR version" or "opset"; `told` is to be shown."""

    kind: str
    newest: int
    told: str


def too_new(content: bytes, version: str, message: str) -> str | None:
    """What to tell the user where `message`, onnxruntime's own, says that the file is too new.

    content: the .onnx file. version: of onnxruntime. One line that continues the file's name; None
    where it is something else that keeps the file from being loaded.
    """
    limit = _limit(message)
    if limit is None:
        return None
    import onnx

    model = onnx.load_from_string(content)  # the runtime has read it, too
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    return (
        f"is of opset {opset}, IR version {model.ir_version}, and onnxruntime {version} "
        f"{limit.told}; {_older(model, limit)}install a newer onnxruntime"
    )


def _limit(message: str) -> _Limit | None:
    """What onnxruntime 1.15 to 1.31 say; an operator's version is the opset that changed it."""
    found = re.search(
        r"Unsupported model IR version: \d+, max supported IR version: (\d+)", message
    )
    if found:
        return _Limit("IR version", int(found[1]), f"takes IR versions up to {found[1]}")
    found = re.search(r"official support for domain ai\.onnx is till opset (\d+)", message)
    if found:
        return _Limit("opset", int(found[1]), f"takes opsets up to {found[1]}")
    found = re.search(r"Could not find an implementation for (\w+)\((\d+)\)", message)
    if found and int(found[2]) > _oldest():
        return _Limit("opset", int(found[2]) - 1, f"has no {found[1]} of opset {found[2]}")
    return None


def _older(model: onnx.ModelProto, limit: _Limit) -> str:
    """How to write an older file, and 'or'; nothing where the oldest is too new as well."""
    from onnx import helper

    from targets.metadata import KEY

    oldest = _oldest()
    if not any(entry.key == KEY for entry in model.metadata_props):
        return f"convert it to {limit.kind} {limit.newest}, or "
    ir_version = helper.find_min_ir_version_for([helper.make_opsetid("", oldest)])
    if (ir_version if limit.kind == "IR version" else oldest) > limit.newest:
        return ""
    packed, plain = "OnnxPackedExporter(profile='compatible')", f"OnnxExporter(opset={oldest})"
    return f"write it by {packed if _decodes(model.graph) else plain}, or "


def _decodes(graph: onnx.GraphProto) -> bool:
    """True where an operator works on constants alone, other than taking int8 weights to floats."""
    constants = {tensor.name for tensor in graph.initializer}
    return any(
        node.op_type != "DequantizeLinear" and len(node.input) and constants.issuperset(node.input)
        for node in graph.node
    )


def _oldest() -> int:
    from targets.formats.onnx_pack import PROFILES

    return PROFILES["compatible"]
