"""Sparse tensors as TFLite stores them: levels of a tree over the axes, the leaves' values behind.

The tree's levels are the tensor's axes in any order; a dense level has a child for each place, a
sparse one (CSR) only those that hold something: `segments[n]` to `segments[n + 1]` of `indices` are
the children of node n. A block, part of one axis in a dense level of its own, comes last.
TACO: Kjolstad et al. 2017, doi:10.1145/3133901; tensorflow/lite/schema/schema.fbs,
SparsityParameters. Pure arithmetic: no schema needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_UINT8, _UINT16 = 1 << 8, 1 << 16
# Wider blocks never paid: a block is kept for one of its elements.
_WIDEST_BLOCK = 4


@dataclass(frozen=True, eq=False)
class Level:
    """A level of `size` places; sparse where it has `segments` and `indices`."""

    size: int
    segments: Array | None = None
    indices: Array | None = None


@dataclass(frozen=True)
class Layout:
    """Which tree: the axes in order, the axis that is cut into blocks, which levels are sparse.

    `order` counts the block, the last one, as a further axis behind the tensor's own.
    """

    order: tuple[int, ...]
    sparse: tuple[bool, ...]
    block: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """A tensor of `shape` as a tree; `values` are its leaves from left to right."""

    shape: tuple[int, ...]
    layout: Layout
    levels: tuple[Level, ...]
    values: Array

    @property
    def index_bytes(self) -> int:
        parts = [part for level in self.levels for part in (level.segments, level.indices)]
        return sum(part.nbytes for part in parts if part is not None)


def smallest(tensor: Array) -> SparseTensor | None:
    """The sparse form of the fewest bytes, or None where none is smaller than the tensor."""
    kept = _kept(tensor)
    best: Layout | None = None
    least = tensor.nbytes
    for block in (None, *_blocks(tensor.shape)):
        for layout, size in _sizes(_blocked(kept, block), block, tensor.itemsize):
            if size < least:
                best, least = layout, size
    return None if best is None else stored(tensor, best)


def stored(tensor: Array, layout: Layout) -> SparseTensor:
    """The tensor as that tree; whatever has a bit set is kept, so -0.0 too."""
    cut = _blocked(tensor, layout.block).transpose(layout.order)
    flat = cut.reshape(-1)
    places = np.flatnonzero(_kept(flat))
    nodes = np.zeros(1, np.int64)
    levels: list[Level] = []
    below = flat.size
    for size, sparse in zip(cut.shape, layout.sparse, strict=True):
        below //= size
        if not sparse:
            nodes = (nodes[:, None] * size + np.arange(size)).reshape(-1)
            levels.append(Level(size))
            continue
        held = np.unique(places // below)
        segments = np.append(np.searchsorted(held // size, nodes), held.size)
        levels.append(Level(size, _narrowed(segments), _narrowed(held % size)))
        nodes = held
    return SparseTensor(tensor.shape, layout, tuple(levels), flat[nodes])


def dense(sparse: SparseTensor) -> Array:
    """The tensor. ValueError, IndexError for levels that are none of a tree of that shape."""
    nodes = np.zeros(1, np.int64)
    for level in sparse.levels:
        if level.segments is None or level.indices is None:
            nodes = (nodes[:, None] * level.size + np.arange(level.size)).reshape(-1)
            continue
        children = np.diff(level.segments.astype(np.int64))
        if children.size != nodes.size or level.segments[0] or (children < 0).any():
            raise ValueError("segments of another tree")
        indices = level.indices.astype(np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < level.size:
            raise IndexError("index outside its axis")
        nodes = np.repeat(nodes, children) * level.size + indices
    layout = sparse.layout
    cut_shape = _blocked_shape(sparse.shape, layout.block)
    flat = np.zeros(int(np.prod(cut_shape)), sparse.values.dtype)
    flat[nodes] = sparse.values
    cut = flat.reshape([cut_shape[axis] for axis in layout.order])
    whole = cut.transpose(np.argsort(layout.order))
    if layout.block is not None:
        whole = np.moveaxis(whole, -1, layout.block[0] + 1)
    return whole.reshape(sparse.shape)


def _kept(tensor: Array) -> NDArray[np.bool_]:
    """True where any bit is set; of a tensor of zeros the first: runtimes need a leaf."""
    whole = np.ascontiguousarray(tensor)
    kept = whole.view(f"u{tensor.itemsize}").reshape(tensor.shape) != 0
    if not kept.any():
        kept.reshape(-1)[:1] = True
    return kept


def _blocks(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(axis, size) of blocks that bring an axis too long for 8-bit indices below that."""
    for axis, length in enumerate(shape):
        for size in range(2, _WIDEST_BLOCK + 1):
            if length > _UINT8 and length % size == 0 and length // size <= _UINT8:
                yield axis, size
                break


def _blocked_shape(shape: Sequence[int], block: tuple[int, int] | None) -> tuple[int, ...]:
    if block is None:
        return tuple(shape)
    axis, size = block
    return (*shape[:axis], shape[axis] // size, *shape[axis + 1 :], size)


def _blocked(tensor: Array, block: tuple[int, int] | None) -> Array:
    """The tensor with the block as a further axis, the last."""
    if block is None:
        return tensor
    axis, size = block
    shape = tensor.shape
    cut = tensor.reshape(*shape[:axis], shape[axis] // size, size, *shape[axis + 1 :])
    return np.moveaxis(cut, axis + 1, -1)


def _sizes(
    kept: NDArray[np.bool_], block: tuple[int, int] | None, itemsize: int
) -> Iterator[tuple[Layout, int]]:
    """Every layout worth a look, with the bytes of its indices and values."""
    axes = range(kept.ndim if block is None else kept.ndim - 1)
    free = [axis for axis in axes if kept.shape[axis] > 1]
    ones = [axis for axis in axes if kept.shape[axis] == 1]
    tail = [] if block is None else [kept.ndim - 1]
    held = {
        chosen: int(np.count_nonzero(kept.any(axis=tuple(set(range(kept.ndim)) - chosen))))
        for chosen in _subsets(free)
    }
    for turn in itertools.permutations(free):
        for choice in itertools.product((False, True), repeat=len(turn)):
            if any(choice):
                sparse = (*[False] * len(ones), *choice, *[False] * len(tail))
                size = _size(kept.shape, turn, choice, held)
                leaves = size[1] * (1 if block is None else block[1])
                yield Layout((*ones, *turn, *tail), sparse, block), size[0] + leaves * itemsize


def _size(
    shape: tuple[int, ...],
    turn: tuple[int, ...],
    choice: tuple[bool, ...],
    held: dict[frozenset[int], int],
) -> tuple[int, int]:
    """(bytes of the indices, nodes of the last level before a block)."""
    nodes, total = 1, 0
    for depth, (axis, sparse) in enumerate(zip(turn, choice, strict=True)):
        if not sparse:
            nodes *= shape[axis]
            continue
        full = held[frozenset(turn[: depth + 1])]
        total += (nodes + 1) * _width(full) + full * _width(shape[axis] - 1)
        nodes = full
    return total, nodes


def _subsets(axes: Sequence[int]) -> Iterator[frozenset[int]]:
    for count in range(1, len(axes) + 1):
        yield from map(frozenset, itertools.combinations(axes, count))


def _width(largest: int) -> int:
    """Bytes of an index array whose largest entry that is."""
    return 1 if largest < _UINT8 else 2 if largest < _UINT16 else 4


def _narrowed(indices: NDArray[np.integer[Any]]) -> Array:
    width = _width(int(indices.max(initial=0)))
    return indices.astype({1: np.uint8, 2: np.uint16, 4: np.int32}[width])
