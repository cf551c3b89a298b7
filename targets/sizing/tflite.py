"""The bytes of a .tflite file: weights, their grids, metadata; the rest is graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from targets.formats.tflite_schema import Source, names_of
from targets.sizing.account import StoredWeights

_BITS = {
    "INT2": 2,
    "INT4": 4,
    "UINT4": 4,
    "INT8": 8,
    "UINT8": 8,
    "INT16": 16,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    "FLOAT32": 32,
    "FLOAT64": 64,
}


def stored_in_tflite(source: Source) -> Iterator[StoredWeights]:
    """Every weight; a buffer that several tensors share counts once."""
    seen: set[int] = set()
    vectors: set[int] = set()
    for index, tensor in enumerate(source.tensors):
        kind = names_of("TensorType")[tensor.type]
        tables = _grid_bytes(tensor, vectors)
        data = source.model.buffers[tensor.buffer].data
        elements = math.prod(source.shape(index))
        # Shapes and axes are int32 too, but on no grid.
        bits = 32 if kind == "INT32" and _on_grid(tensor) else _BITS.get(kind, 0)
        if data is None or not bits or elements < 2:
            yield StoredWeights(0, 0, 0, 0, tables)
            continue
        repeated = tensor.buffer in seen
        seen.add(tensor.buffer)
        stored = len(data) * 8 // bits if tensor.sparsity is not None else elements
        used = 0 if repeated else len(data) + position_bytes(tensor)
        yield StoredWeights(elements, min(stored, elements), bits, used, tables)


def metadata_bytes(source: Source) -> int:
    """The buffers that are metadata, their names, and the description."""
    model = source.model
    size = len(model.description or b"")
    for entry in model.metadata or ():
        data = model.buffers[entry.buffer].data
        size += len(entry.name or b"") + (0 if data is None else len(data))
    return size


def _grid_bytes(tensor: Any, seen: set[int]) -> int:
    """Scales (4 bytes), zero points (8), and ranges where they were left in.

    Each vector of the file counts once: tensors may share one. `seen`: where those counted stand.
    """
    grid = tensor.quantization
    size = 0
    for values in () if grid is None else (grid.scale, grid.zeroPoint, grid.min, grid.max):
        if values is not None and len(values):
            place = int(values.__array_interface__["data"][0])  # a view of the file's bytes
            size += 0 if place in seen else int(values.nbytes)
            seen.add(place)
    return size


def _on_grid(tensor: Any) -> bool:
    grid = tensor.quantization
    return grid is not None and grid.scale is not None and len(grid.scale) > 0


def position_bytes(tensor: Any) -> int:
    """What a sparse tensor takes to say where its values stand; 0 for a dense one."""
    sparsity = tensor.sparsity
    if sparsity is None:
        return 0
    size = sum(
        4 * len(order)
        for order in (sparsity.traversalOrder, sparsity.blockMap)
        if order is not None
    )
    for axis in sparsity.dimMetadata or ():
        for vector in (axis.arraySegments, axis.arrayIndices):
            values = getattr(vector, "values", None)
            size += 0 if values is None else len(values) * _width(vector)
    return size


def _width(vector: Any) -> int:
    """Bytes of an entry, which the class of the vector names: Uint8VectorT, Int32VectorT."""
    name = type(vector).__name__
    return 1 if "8" in name else 2 if "16" in name else 4
