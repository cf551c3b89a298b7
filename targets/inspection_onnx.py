"""What an .onnx file holds: operators, constants, opset, and what it says of its net."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import onnx
from onnx import numpy_helper

from compress.errors import DataError, one_line
from targets.files import read_bytes
from targets.formats.onnx_metadata import metadata_of
from targets.inspection import Inspection, TensorSummary, plain_summary, precision_of, says
from targets.inspection_packed import packed_parts, packed_summaries
from targets.sizing.account import account_sizes
from targets.sizing.onnx import metadata_bytes, stored_in_onnx


def inspect_onnx(path: Path) -> Inspection:
    """Raises DataError, one line, for a file that is no model or keeps its weights elsewhere."""
    content = read_bytes(path, "an .onnx file")
    try:
        model = onnx.load_from_string(content)
        graph = model.graph
        packed = packed_parts(graph)
        summaries = {str(t.name): _summary(path, t) for t in graph.initializer}
        unpacked = packed_summaries(model, packed, str(path))
        tensors = (
            *unpacked,
            *(summary for name, summary in summaries.items() if name not in packed),
        )
        stored = stored_in_onnx(graph, packed, unpacked)
        sha256, described = hashlib.sha256(content).hexdigest(), metadata_bytes(model)
        causes = account_sizes(path.name, sha256, len(content), stored, described)
        inputs = tuple(_described(value) for value in graph.input)
        outputs = tuple(_described(value) for value in graph.output)
    except DataError:
        raise
    except Exception as error:  # protobuf's and onnx's errors have no common public type
        raise DataError(
            f"{path} is no readable .onnx file ({one_line(error)}); export it anew"
        ) from error
    if not graph.node or not model.opset_import:
        raise DataError(f"{path} is no .onnx model: it has no operators; export it anew")
    operators = Counter(str(node.op_type) for node in graph.node)
    sizes: Counter[str] = Counter()
    for name, summary in summaries.items():
        sizes[packed.get(name, summary.dtype)] += summary.file_bytes
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return Inspection(
        path=str(path),
        format="onnx-packed" if packed else "onnx",
        file_bytes=len(content),
        precision=precision_of(tensors, grids="DequantizeLinear" in operators),
        tensors=tensors,
        parts={**sizes, "graph": len(content) - sum(sizes.values())},
        operators=dict(operators.most_common()),
        inputs=inputs,
        outputs=outputs,
        opset=max(opsets, default=None),
        says=says(metadata_of(model)),
        sizes=causes,
    )


def _summary(path: Path, tensor: onnx.TensorProto) -> TensorSummary:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise DataError(f"{path} keeps {tensor.name!r} in another file; export it as one file")
    return plain_summary(str(tensor.name), numpy_helper.to_array(tensor), tensor.ByteSize())


def _described(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
    name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    shape = ", ".join(map(str, dims))
    return f"{value.name} {'float32' if name == 'float' else name} [{shape}]"
