"""A graph skeleton: an .onnx file without the weights that the container holds anyway.

With it a container becomes an .onnx by numpy and onnx alone, without torch and without the code
of the net. The result is byte for byte the .onnx that the exporter writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.atomic import write_bytes
from compress.errors import ContainerError
from targets.formats.dc_envelope import read_container

# Marks an initializer whose values lie in the container under the tensor's own name.
_MARK = "in-container"


def skeleton(model: bytes, state: Mapping[str, NDArray[Any]]) -> bytes:
    """`model` (a serialised .onnx) without the initializers that equal `state`'s tensors."""
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        own = state.get(tensor.name)
        if own is None or not tensor.HasField("raw_data"):
            continue
        if tensor.raw_data == np.ascontiguousarray(own).tobytes():
            tensor.ClearField("raw_data")
            tensor.doc_string = _MARK
    return proto.SerializeToString(deterministic=True)


def write_onnx(container: Path, path: Path) -> None:
    """Write the .onnx of a container that carries its graph, without torch."""
    opened = read_container(container)
    if opened.graph is None:
        raise ContainerError(
            f"{container} carries no graph; write it with "
            f"DeepCompressionExporter(graph=True), or load it with torch and export"
        )
    try:
        proto = onnx.load_from_string(opened.graph)
    except Exception as error:  # protobuf's DecodeError is not a public type
        raise ContainerError(f"{container}: the graph is damaged: {error}") from error
    state = {name: array for name, array, _ in opened.decode()}
    for tensor in proto.graph.initializer:
        if tensor.doc_string == _MARK:
            if tensor.name not in state or state[tensor.name].shape != tuple(tensor.dims):
                raise ContainerError(f"{container}: the graph asks for {tensor.name!r} in vain")
            tensor.CopyFrom(numpy_helper.from_array(state[tensor.name], tensor.name))
    write_bytes(path, proto.SerializeToString(deterministic=True))
