"""A file newer than the onnxruntime that shall run it: what it is, what is taken, what to write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# What onnxruntime says, 1.15 to 1.31.
_IR = re.compile(r"Unsupported model IR version: \d+, max supported IR version: (\d+)")
_OPSET = re.compile(r"official support for domain ai\.onnx is till opset (\d+)")


def too_new(content: bytes, version: str, message: str) -> str | None:
    """What to tell the user where `message`, onnxruntime's own, says that the file is too new.

    content: the .onnx file. version: of onnxruntime. One line that continues the file's name; None
    where it is something else that keeps the file from being loaded.
    """
    by_ir = _IR.search(message)
    found = by_ir or _OPSET.search(message)
    if found is None:
        return None
    import onnx

    model = onnx.load_from_string(content)  # the runtime has read it, too
    limit = int(found[1])
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    return (
        f"is of opset {opset}, IR version {model.ir_version}, and onnxruntime {version} takes "
        f"{'IR versions' if by_ir else 'opsets'} up to {limit}; {_older(model, limit, bool(by_ir))}"
        f"install a newer onnxruntime"
    )


def _older(model: onnx.ModelProto, limit: int, by_ir: bool) -> str:
    """How to write an older file, and 'or'; nothing where the oldest is too new as well."""
    from onnx import helper

    from targets.formats.onnx_pack import PROFILES
    from targets.inspection_packed import packed_parts
    from targets.metadata import KEY

    oldest = PROFILES["compatible"]
    needed = helper.find_min_ir_version_for([helper.make_opsetid("", oldest)]) if by_ir else oldest
    if not any(entry.key == KEY for entry in model.metadata_props):
        return f"convert it to {'IR version' if by_ir else 'opset'} {limit}, or "
    if needed > limit:
        return ""
    packed = packed_parts(model.graph)
    way = "OnnxPackedExporter(profile='compatible')" if packed else f"OnnxExporter(opset={oldest})"
    return f"write it by {way}, or "
