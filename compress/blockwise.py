"""What whole tensors need at every stage, in blocks: without temporaries of the tensor's size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.coding import compiled

Entry = TypeVar("Entry", bound=np.generic)
_BLOCK = 1 << 16


def look_up(table: NDArray[Entry], indices: NDArray[np.integer[Any]]) -> NDArray[Entry]:
    """table[indices], C order, for indices of 8 or 16 bits, all within the table.

    numpy would first make a copy of the indices in 64 bits: of 8-bit ones eight times their bytes.
    """
    found = np.empty(indices.shape, table.dtype)
    flat, into = indices.reshape(-1), found.reshape(-1)
    if indices.dtype == np.uint8 and compiled.loaded():
        whole = np.zeros(max(256, table.size), table.dtype)  # inside it, whatever the indices are
        whole[: table.size] = table
        compiled.kernel("look_up")(whole, flat, into)
        return found
    for start in range(0, flat.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        # "clip" never clips here; it spares a copy of the output that "raise" makes.
        table.take(flat[block], out=into[block], mode="clip")
    return found


def all_finite(values: NDArray[Any]) -> bool:
    """True where no value is NaN or infinite; True for no values."""
    if values.size == 0 or values.dtype.kind not in "fc":
        return True
    # NaN wins in both, and no array of booleans is made.
    return bool(np.isfinite(values.min()) and np.isfinite(values.max()))


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis, of about 2**16 elements each; everything where there is no axis."""
    if not shape or 0 in shape:
        yield slice(None)
        return
    rows = max(1, _BLOCK * shape[0] // int(np.prod(shape, dtype=np.int64)))
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)
