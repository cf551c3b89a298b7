"""A sparse tensor as the flatbuffer describes it: SparsityParameters to and fro."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from targets.formats.tflite_sparse import Layout, Level, SparseTensor

# The schema's index vectors by their width in bytes.
_VECTORS: Mapping[int, str] = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}


def sparsity_of(tensor: SparseTensor, schema: Any) -> Any:
    """The SparsityParametersT of a sparse tensor; `schema`: the module of the schema's classes."""
    made = schema.SparsityParametersT()
    made.traversalOrder = np.array(tensor.layout.order, np.int32)
    block = tensor.layout.block
    made.blockMap = np.array([] if block is None else block[:1], np.int32)
    made.dimMetadata = [_metadata(level, schema) for level in tensor.levels]
    return made


def _metadata(level: Level, schema: Any) -> Any:
    made = schema.DimensionMetadataT()
    if level.segments is None or level.indices is None:
        made.format, made.denseSize = schema.DimensionType.DENSE, level.size
        return made
    made.format = schema.DimensionType.SPARSE_CSR
    made.arraySegmentsType, made.arraySegments = _vector(level.segments, schema)
    made.arrayIndicesType, made.arrayIndices = _vector(level.indices, schema)
    return made


def _vector(values: NDArray[Any], schema: Any) -> tuple[int, Any]:
    """(the union's type, the table) of an index array."""
    name = _VECTORS[values.dtype.itemsize]
    made = getattr(schema, f"{name}T")()
    made.values = values
    return int(getattr(schema.SparseIndexVector, name)), made


def sparse_tensor(found: Any, shape: tuple[int, ...], values: NDArray[Any]) -> SparseTensor:
    """The sparse tensor of `shape` that the schema's SparsityParametersT describes.

    DataError for more than one block, which edgepress never writes.
    """
    order = tuple(int(axis) for axis in found.traversalOrder)
    mapped = [] if found.blockMap is None else [int(axis) for axis in found.blockMap]
    if len(mapped) > 1:
        raise DataError(f"a sparse tensor of {len(mapped)} blocks; at most 1 can be read")
    sizes = dict(enumerate(shape))
    block: tuple[int, int] | None = None
    if mapped:
        (axis,) = mapped
        block = axis, int(found.dimMetadata[-1].denseSize)
        sizes |= {axis: shape[axis] // block[1], len(shape): block[1]}
    levels = tuple(
        _level(metadata, sizes[axis])
        for axis, metadata in zip(order, found.dimMetadata, strict=True)
    )
    sparse = tuple(level.segments is not None for level in levels)
    return SparseTensor(shape, Layout(order, sparse, block), levels, values)


def _level(metadata: Any, size: int) -> Level:
    if metadata.arraySegments is None or metadata.arrayIndices is None:
        return Level(size)
    # A vector of no elements is read as None.
    parts = (metadata.arraySegments.values, metadata.arrayIndices.values)
    return Level(size, *(np.zeros(0, np.uint8) if part is None else part for part in parts))
