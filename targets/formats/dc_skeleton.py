"""A graph skeleton: an .onnx file without the weights that the container holds anyway.

With it a container becomes an .onnx by numpy alone, without torch, onnx and the code of the net,
one tensor at a time. The result is byte for byte the .onnx that the exporter writes, float32 or
int8: a weight is known again by its values, not by the exporter's name for it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.atomic import atomic_path
from compress.encoding import Encoded, Encoding
from compress.errors import ContainerError, ExportError
from targets.formats.dc_envelope import Container, amiss, read_container
from targets.formats.dc_record import Record
from targets.formats.onnx_wire import Holed

if TYPE_CHECKING:
    import onnx

Shape = tuple[np.dtype[Any], tuple[int, ...]]
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
    import onnx
    from onnx import numpy_helper

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
    """The .onnx of a skeleton and tensors in memory. Raises ContainerError for damage."""
    known = dict(_arrays(tensors))
    shapes = {reference: (array.dtype, array.shape) for reference, array in known.items()}
    return b"".join(_pieces(graph, shapes, known.__getitem__))


def onnx_bytes(container: Path) -> bytes:
    """What `write_onnx` writes, for a session without a file in between."""
    opened = read_container(container)
    whole = io.BytesIO()  # b"".join would hold all pieces beside it
    try:
        whole.writelines(_filled_from(opened))
        return whole.getvalue()
    except ContainerError as error:
        raise amiss(opened.source, error) from error


def write_onnx(container: Path, path: Path) -> None:
    """Write the .onnx of a container that carries its graph, without torch and without onnx.

    One tensor is in memory at a time.
    """
    opened = read_container(container)
    try:
        with atomic_path(path) as aside, aside.open("wb") as file:
            file.writelines(_filled_from(opened))
    except ContainerError as error:
        raise amiss(opened.source, error) from error


def _filled_from(container: Container) -> Iterator[bytes | memoryview]:
    if container.graph is None:
        raise ContainerError(
            f"{container.source} carries no graph; write it with "
            f"DeepCompressionExporter(graph=True), or load it with torch and export"
        )
    shapes: dict[str, Shape] = {}
    places: dict[str, int] = {}
    for place, record in enumerate(container.records):
        for reference, shape in _references(record):
            shapes[reference], places[reference] = shape, place

    def find(reference: str) -> NDArray[Any]:
        return dict(_arrays([container.tensor(places[reference])]))[reference]

    return _pieces(container.graph, shapes, find)


def _references(record: Record) -> Iterator[tuple[str, Shape]]:
    """What `_arrays` gives of a tensor, before it is decoded."""
    kinds = {"values": record.dtype}
    if record.on_integers:
        kinds["integers"] = np.dtype(np.int8)
    for kind, dtype in kinds.items():
        yield f"{kind}:{record.name}", (dtype, record.shape)
        if len(record.shape) == 2:
            yield f"{kind}.T:{record.name}", (dtype, record.shape[::-1])


def _pieces(
    graph: bytes, shapes: Mapping[str, Shape], find: Callable[[str], NDArray[Any]]
) -> Iterator[bytes | memoryview]:
    """The .onnx, piece by piece; what the graph wants is checked before the first."""
    model = Holed(graph, _MARK)
    for hole in model.holes:
        if hole.reference not in shapes:
            raise ContainerError(
                f"the graph wants {hole.reference!r}, which the container does not have"
            )
        dtype, shape = shapes[hole.reference]
        if (dtype.newbyteorder("<"), shape) != (hole.dtype, hole.shape):
            raise ContainerError(
                f"the graph wants {hole.name!r} of shape {hole.shape}, the container has "
                f"{hole.reference!r} of {shape}; get the file again"
            )
    return model.fill(lambda hole: find(hole.reference))


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
