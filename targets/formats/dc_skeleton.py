"""A graph skeleton: an .onnx file without the weights that the container holds anyway.

With it a container becomes an .onnx by numpy alone, without torch, onnx and the code of the net,
one tensor at a time. The result is byte for byte the .onnx that the exporter writes, float32 or
int8: a weight is known again by its values, not by the exporter's name for it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.atomic import atomic_path
from compress.encoding import Encoded, Encoding
from compress.errors import ContainerError, ExportError
from targets.formats.dc_envelope import Container, amiss, read_container
from targets.formats.dc_fill import Filler
from targets.formats.dc_record import Record
from targets.formats.onnx_wire import Hole, Holed

if TYPE_CHECKING:
    import onnx

Shape = tuple[np.dtype[Any], tuple[int, ...]]
Tensors = Iterable[tuple[str, NDArray[Any], Encoding | None]]
# Stands in an initializer's raw_data for its values, and says which array they are. Nothing else
# of the initializer is touched, so putting the values back gives the same bytes.
_MARK = b"in-container:"
# A mark costs about as much.
_LEAST_BYTES = 64
_LARGEST_MODEL = (1 << 31) - 1


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
    return b"".join(_checked(graph, shapes).fill(lambda hole: known[hole.reference]))


def onnx_bytes(container: Path) -> bytes:
    """What `write_onnx` writes, for a session without a file in between.

    Memory: the result and one tensor. Raises ContainerError for damage, and beyond protobuf's
    2 GiB.
    """
    opened = read_container(container)
    try:
        model, places = _wanted(opened)
        if model.size > _LARGEST_MODEL:
            raise ContainerError(
                f"the graph wants {model.size:,} bytes; an .onnx has at most {_LARGEST_MODEL:,}"
            )
        whole = io.BytesIO(bytes(model.size))
        _fill(whole, model, opened, places)
        return whole.getvalue()
    except ContainerError as error:
        raise amiss(opened.source, error) from error


def _fill(whole: io.BytesIO, model: Holed, opened: Container, places: Mapping[str, int]) -> None:
    """Write values where they stay. Nothing may hold the buffer afterwards: whole's value would
    be a copy then."""
    target = whole.getbuffer()
    filler = Filler(target, sum(record.size for record in opened.records))

    def put(hole: Hole, at: int) -> None:
        place = places[hole.reference]
        values = hole.reference.startswith("values:")
        if values and filler.write(opened.records[place], opened.payloads[place], at):
            return
        filler.copy(_array(opened.tensor(place), hole.reference), at)

    model.fill_into(target, put)


def write_onnx(container: Path, path: Path) -> None:
    """Write the .onnx of a container that carries its graph, without torch and without onnx.

    One tensor is in memory at a time.
    """
    opened = read_container(container)
    try:
        model, places = _wanted(opened)
        pieces = model.fill(
            lambda hole: _array(opened.tensor(places[hole.reference]), hole.reference)
        )
        with atomic_path(path) as aside, aside.open("wb") as file:
            file.writelines(pieces)
    except ContainerError as error:
        raise amiss(opened.source, error) from error


def _wanted(container: Container) -> tuple[Holed, dict[str, int]]:
    """The graph, and for each reference that it may make the place of the tensor's record."""
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
    return _checked(container.graph, shapes), places


def _references(record: Record) -> Iterator[tuple[str, Shape]]:
    """What `_arrays` gives of a tensor, before it is decoded."""
    kinds = {"values": record.dtype}
    if record.on_integers:
        kinds["integers"] = np.dtype(np.int8)
    for kind, dtype in kinds.items():
        yield f"{kind}:{record.name}", (dtype, record.shape)
        if len(record.shape) == 2:
            yield f"{kind}.T:{record.name}", (dtype, record.shape[::-1])


def _checked(graph: bytes, shapes: Mapping[str, Shape]) -> Holed:
    """The graph, which wants only what there is."""
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
    return model


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


def _array(tensor: tuple[str, NDArray[Any], Encoding | None], reference: str) -> NDArray[Any]:
    """The array of that reference, of a tensor that has it."""
    return next(array for known, array in _arrays([tensor]) if known == reference)


def _identity(tensor: onnx.TensorProto) -> bytes:
    """A hash of type, shape and values."""
    head = f"{tensor.data_type}:{list(tensor.dims)}:".encode()
    return hashlib.sha256(head + tensor.raw_data).digest()
