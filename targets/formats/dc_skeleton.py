"""A graph skeleton: an .onnx file without the weights that the container holds anyway.

With it a container becomes an .onnx by numpy and onnx alone, without torch and without the code
of the net. The result is byte for byte the .onnx that the exporter writes, float32 or int8: a
weight is known again by its values, not by the exporter's name for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.atomic import write_bytes
from compress.encoding import Encoded, Encoding
from compress.errors import ContainerError, ExportError
from targets.formats.dc_envelope import Container, amiss, read_container

Tensors = Iterable[tuple[str, NDArray[Any], Encoding | None]]
# Stands in an initializer's raw_data for its values, and says which array they are. Nothing else
# of the initializer is touched, so putting the values back gives the same bytes.
_MARK = b"in-container:"
# A mark costs about as much.
_LEAST_BYTES = 64


def skeleton(model: bytes, tensors: Tensors) -> bytes:
    """`model` (a serialised .onnx) without the initializers that the container's tensors give.

    Raises ExportError unless `filled` gives back the very bytes of `model`.
    """
    known = list(tensors)
    references: dict[bytes, str] = {}
    for reference, array in _arrays(known):
        references.setdefault(_identity(numpy_helper.from_array(array)), reference)
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        found = references.get(_identity(tensor))
        if found is not None and len(tensor.raw_data) >= _LEAST_BYTES:
            tensor.raw_data = _MARK + found.encode()
    graph = proto.SerializeToString(deterministic=True)
    if filled(graph, known) != model:
        raise ExportError("the .onnx cannot be rebuilt byte for byte; export with graph=False")
    return graph


def filled(graph: bytes, tensors: Tensors) -> bytes:
    """The .onnx of a skeleton and the container's tensors. Raises ContainerError for damage."""
    try:
        proto = onnx.load_from_string(graph)
    except Exception as error:  # protobuf's DecodeError is not a public type
        raise ContainerError(f"the graph is damaged ({error}); get the file again") from error
    marked: dict[str, list[onnx.TensorProto]] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ContainerError(f"the graph wants {tensor.name!r} from a file; none is allowed")
        if tensor.raw_data.startswith(_MARK):
            reference = tensor.raw_data.removeprefix(_MARK).decode(errors="replace")
            marked.setdefault(reference, []).append(tensor)
    for reference, array in _arrays(tensors):
        for tensor in marked.pop(reference, ()):
            whole = numpy_helper.from_array(array)
            if (whole.data_type, *whole.dims) != (tensor.data_type, *tensor.dims):
                raise ContainerError(
                    f"the graph wants {tensor.name!r} of shape {tuple(tensor.dims)}, the container "
                    f"has {reference!r} of {array.shape}; get the file again"
                )
            tensor.raw_data = whole.raw_data
    if marked:
        raise ContainerError(f"the graph wants {min(marked)!r}, which the container does not have")
    return proto.SerializeToString(deterministic=True)


def write_onnx(container: Path, path: Path) -> None:
    """Write the .onnx of a container that carries its graph, without torch."""
    opened = read_container(container)
    write_bytes(path, onnx_bytes(opened))


def onnx_bytes(container: Container) -> bytes:
    """The .onnx file of a container that carries its graph. Raises ContainerError without one."""
    if container.graph is None:
        raise ContainerError(
            f"{container.source} carries no graph; write it with "
            f"DeepCompressionExporter(graph=True), or load it with torch and export"
        )
    try:
        return filled(container.graph, container.decode())
    except ContainerError as error:
        raise amiss(container.source, error) from error


def _arrays(tensors: Tensors) -> Iterator[tuple[str, NDArray[Any]]]:
    """(reference, array): each tensor's values and grid integers, as they are and transposed."""
    for name, array, encoding in tensors:
        kinds = {"values": array}
        if isinstance(encoding, Encoded) and encoding.on_integers:
            kinds["integers"] = encoding.integers()
        for kind, values in kinds.items():
            yield f"{kind}:{name}", np.ascontiguousarray(values)
            if values.ndim == 2:
                yield f"{kind}.T:{name}", np.ascontiguousarray(values.T)


def _identity(tensor: onnx.TensorProto) -> bytes:
    """A hash of type, shape and values."""
    head = f"{tensor.data_type}:{list(tensor.dims)}:".encode()
    return hashlib.sha256(head + tensor.raw_data).digest()
