"""A float or int8 tensor as integers and what turns them into its values, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.coding.grids import even_grid
from targets.formats.packing import Array, Coded, same_bits
from targets.formats.prefix_tree import Integers

_LARGEST = (1 << 15) - 1


@dataclass(frozen=True, eq=False)
class IntegerTensor:
    """`integers` (n,), flat, of a tensor of `shape`, none beyond 16 bits.

    kind: 'int8': they are the tensor. 'grid': it is float32 of them. 'book': book[integers]. Then
    times `scale`, where there is one (it broadcasts to the shape), and plus 0.0 where
    `negative_zeros`: the scale gave -0.0. The tensor itself has no -0.0, so that 0.0 may be added
    to any.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["int8", "grid", "book"]
    integers: Integers
    book: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None
    negative_zeros: bool = False

    def decoded(self) -> Array:
        """The tensor."""
        if self.kind == "int8":
            return self.integers.astype(np.int8).reshape(self.shape)
        found = self.integers.astype(np.float32) if self.book is None else self.book[self.integers]
        found = found.reshape(self.shape)
        if self.scale is not None:
            found = found * self.scale
        return found + np.float32(0) if self.negative_zeros else found


def as_integers(name: str, tensor: Array, coded: Coded | None) -> IntegerTensor | None:
    """`tensor` (float32 or int8) as integers; None where they do not give it back to the bit."""
    for found in _ways(name, tensor, coded):
        if same_bits(found.decoded(), tensor):
            return found
    return None


def _ways(name: str, tensor: Array, coded: Coded | None) -> Iterator[IntegerTensor]:
    shape = tensor.shape
    if tensor.dtype == np.int8:
        yield IntegerTensor(name, shape, "int8", tensor.reshape(-1).astype(np.int64))
        return
    if np.any(tensor[np.signbit(tensor)] == 0):
        return
    if coded is None:
        grid = even_grid(tensor.reshape(-1))
        if grid is not None:
            step, integers = grid
            if np.abs(integers).max() <= _LARGEST:
                yield IntegerTensor(name, shape, "grid", integers, scale=np.array(step))
        return
    book, scale = coded.book, coded.scale
    signs = (False,) if scale is None else (False, True)
    rounded = np.rint(book.astype(np.float64))
    if np.array_equal(rounded, book) and np.abs(rounded).max() <= _LARGEST:
        integers = rounded.astype(np.int64)[coded.indices].reshape(-1)
        for zeros in signs:
            yield IntegerTensor(name, shape, "grid", integers, None, scale, zeros)
    codes = coded.indices.reshape(-1).astype(np.int64)
    if book.size <= _LARGEST:
        wide = book.astype(np.float32)
        for zeros in signs:
            yield IntegerTensor(name, shape, "book", codes, wide, scale, zeros)
