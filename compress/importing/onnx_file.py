"""Reading an .onnx file of unknown origin: whole, with the data beside it, or one line why not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import external_data_helper, inliner

from compress.errors import ModelError, one_line
from compress.importing.building import Shape

LARGEST_BYTES = 2 << 30  # protobuf's own limit
MOST_NODES = 20_000
# What onnx can be told apart by operator, from the opset that gave broadcasting its present form.
OLDEST_OPSET = 7
_STANDARD = ("", "ai.onnx")
_CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_INTEGER = ("QLinear", "Quantize", "Dequantize", "DynamicQuantize")
_FREE_SIDE = (
    "python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name {name} "
    "--input_shape 1,3,224,224 {path} fixed.onnx"
)


@dataclass(frozen=True)
class OnnxFile:
    """A checked file: `shape` of the one picture input, batch first (1 where it is free).

    `sha256` covers the file and the tensors that it keeps beside it; `about` is the text of
    edgepress's own metadata, '' in a file of other origin.
    """

    model: onnx.ModelProto
    sha256: str
    opset: int
    input: str
    shape: Shape
    output: str
    about: str


def read_onnx(path: Path) -> OnnxFile:
    """The file, its weights in memory. Raises ModelError for what cannot be imported.

    External data is read only from inside the file's own folder.
    """
    model = _parsed(path)
    digest = hashlib.sha256(_content(path))
    _load_external(model, path, digest)
    if model.functions:
        model = inliner.inline_local_functions(model)
    opset = _check_operators(model, path)
    name, shape = _input(model, path)
    outputs = [value.name for value in model.graph.output]
    if len(outputs) != 1:
        raise ModelError(
            f"{path} has {len(outputs)} outputs ({', '.join(outputs[:4])}); one is needed: cut it "
            f"with onnx.utils.extract_model(input, output, ['{name}'], ['{outputs[0]}'])"
            if outputs
            else f"{path} has no output; give the file of a whole net"
        )
    about = next((p.value for p in model.metadata_props if p.key == "edgepress"), "")
    return OnnxFile(model, digest.hexdigest(), opset, name, shape, outputs[0], about)


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ModelError(f"{path} has more than {LARGEST_BYTES >> 30} GiB; give a smaller net")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); give an .onnx file") from error


def _parsed(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(_content(path))
    except ModelError:
        raise
    except Exception as error:  # protobuf's DecodeError is not a public type
        raise ModelError(
            f"{path} is no .onnx file or a truncated one ({one_line(error)}); get it again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{path} holds no net; give an .onnx file")
    if len(model.graph.node) > MOST_NODES:
        raise ModelError(
            f"{path} has {len(model.graph.node):,} nodes; at most {MOST_NODES:,} are supported"
        )
    return model


def _load_external(model: onnx.ModelProto, path: Path, digest: Any) -> None:
    """Read the tensors that lie in files beside `path`; onnx refuses paths out of its folder."""
    held = (a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))
    tensors = (*model.graph.initializer, *held)
    outside = [t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL]
    total = 0
    for tensor in outside:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        try:
            size = (path.parent / location).stat().st_size
            total += int(entries.get("length") or size)
            if total > LARGEST_BYTES:
                raise ModelError(f"{path}: its external data has more than {LARGEST_BYTES:,} bytes")
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        except ModelError:
            raise
        except Exception as error:  # onnx raises its checker's, protobuf's and the system's errors
            raise ModelError(
                f"{path}: the data of {tensor.name!r} should be in {location!r} beside it, but "
                f"{_why(error)}; put both files into one folder"
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
        digest.update(tensor.raw_data)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"that cannot be read ({error.strerror})"
    return f"that is not allowed ({one_line(error)})"


def _check_operators(model: onnx.ModelProto, path: Path) -> int:
    """The version of the standard operators; ModelError for the first that is none of them."""
    versions = {o.domain: o.version for o in model.opset_import}
    opset = next((versions[domain] for domain in _STANDARD if domain in versions), 0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelError(
            f"{path} has opset {opset}; {OLDEST_OPSET} to {newest} are supported: convert it with "
            f"onnx.version_converter.convert_version(model, 18)"
        )
    for node in model.graph.node:
        where = f"node {node.name!r}" if node.name else "a node without a name"
        if node.domain not in _STANDARD:
            raise ModelError(
                f"{path}: {where} is {node.domain}:{node.op_type}, which is no standard operator; "
                f"export the net without custom operators and without a runtime's optimisations"
            )
        if node.op_type in _CONTROL:
            raise ModelError(
                f"{path}: {where} is {node.op_type}, dynamic control flow, which is not supported; "
                f"export the net with fixed control flow (torch.export traces one path)"
            )
        if node.op_type.startswith(_INTEGER) or node.op_type.endswith("Integer"):
            raise ModelError(
                f"{path}: {where} is {node.op_type}: the file is quantized already; give the "
                f"float32 file that it was made from"
            )
    return opset


def _input(model: onnx.ModelProto, path: Path) -> tuple[str, Shape]:
    """Name and shape of the one picture input."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs[:4]) or "none"
        raise ModelError(f"{path} has {len(inputs)} inputs ({names}); one picture is needed")
    (value,) = inputs
    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
    if kind.elem_type != onnx.TensorProto.FLOAT or len(dims) != 4:
        held_type = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise ModelError(
            f"{path}: its input {value.name!r} is {held_type} of shape {_text(dims)}; a picture "
            f"batch is needed: float32 (N, C, H, W)"
        )
    batch, *rest = dims
    if rest[-1] in (1, 3, 4) and rest[0] not in (1, 3, 4):
        raise ModelError(
            f"{path}: its input {value.name!r} has shape {_text(dims)}, channels last; export it "
            f"with channels first (N, C, H, W)"
        )
    if not all(isinstance(n, int) and n >= 1 for n in rest):
        raise ModelError(
            f"{path}: its input {value.name!r} has shape {_text(dims)}, height and width left "
            f"open; fix them: {_FREE_SIDE.format(name=value.name, path=path)}"
        )
    fixed = batch if isinstance(batch, int) and batch >= 1 else 1
    return value.name, (fixed, *(int(n) for n in rest))


def _text(dims: list[Any]) -> str:
    return "(" + ", ".join(str(n) for n in dims) + ")"
