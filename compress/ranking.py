"""The n-th smallest magnitude of many float32 numbers, exactly, without sorting or copying them.

The bits of a non-negative float32, read as an integer, rise with its value. So one histogram over
their upper 16 bits finds where the n-th lies, and one over the lower 16 bits of those finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 18  # well above the histogram, which is added up once for each
_HALF = 1 << 16
_SIGN = np.uint32(0x7FFFFFFF)


def smallest_magnitude(values: NDArray[np.floating[Any]], rank: int) -> np.floating[Any]:
    """np.sort(np.abs(values), axis=None)[rank] for finite values of any shape.

    Of another type than float32 by numpy's own partition.
    """
    assert 0 <= rank < values.size
    if values.dtype != np.float32:
        return np.partition(np.abs(values), rank, axis=None)[rank]
    upper = np.zeros(_HALF, np.int64)
    for bits in _magnitudes(values):
        upper += np.bincount(bits >> 16, minlength=_HALF)
    top = int(np.searchsorted(np.cumsum(upper), rank, side="right"))
    rank -= int(upper[:top].sum())
    lower = np.zeros(_HALF, np.int64)
    for bits in _magnitudes(values):
        lower += np.bincount(bits[bits >> 16 == top] & 0xFFFF, minlength=_HALF)
    bottom = int(np.searchsorted(np.cumsum(lower), rank, side="right"))
    return np.array([top << 16 | bottom], np.uint32).view(np.float32)[0]


def _magnitudes(values: NDArray[np.floating[Any]]) -> Iterator[NDArray[np.uint32]]:
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield np.ascontiguousarray(flat[start : start + _BLOCK]).view(np.uint32) & _SIGN
