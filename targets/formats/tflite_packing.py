"""Exact small forms of a float weight in a .tflite file, and which one takes the fewest bytes.

    plain       float32, as it was
    halves      float16, then DEQUANTIZE
    integers    int8 with one scale or one for each channel, then DEQUANTIZE
    sparse      each of these as a sparse tensor, then DENSIFY, then DEQUANTIZE

Stock LiteRT unpacks them once, when XNNPACK takes over the graph. An int8 form needs the weight's
encoding to be on an integer grid; the floats of a k-means codebook are no such grid, so they stay
float32 (sparse where pruned), or float16 where that is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.formats.packing import as_half, same_bits
from targets.formats.tflite_sketch import Quantization
from targets.formats.tflite_sparse import SparseTensor, smallest

Array = NDArray[Any]
# What stands beside the arrays in the flatbuffer, measured: an operator with the tensor it makes,
# the description of a grid and of its channels (a float32 scale; the zero points, all 0, stand once
# in the file for all weights of as many channels), of a sparse tensor and of its levels.
_STEP_BYTES = 80
_GRID_BYTES, CHANNEL_BYTES = 20, 4
_SPARSITY_BYTES, _LEVEL_BYTES = 53, 14


@dataclass(frozen=True, eq=False)
class Form:
    """A weight as `values` (float32, float16, int8), sparse or not, times the scale of `grid`."""

    values: Array
    grid: Quantization | None = None
    sparse: SparseTensor | None = None

    @property
    def is_plain(self) -> bool:
        return self.values.dtype == np.float32 and self.sparse is None

    @property
    def is_half(self) -> bool:
        return self.values.dtype == np.float16

    @property
    def file_bytes(self) -> int:
        """About what it takes in the file, operators included, beside a tensor's own entry."""
        total = 0 if self.values.dtype == np.float32 else _STEP_BYTES
        if self.grid is not None:
            total += _GRID_BYTES + self.grid.scale.size * CHANNEL_BYTES
        if self.sparse is None:
            return total + self.values.nbytes
        total += _STEP_BYTES + _SPARSITY_BYTES + len(self.sparse.levels) * _LEVEL_BYTES
        return total + self.sparse.index_bytes + self.sparse.values.nbytes


@dataclass(frozen=True, eq=False)
class Integers:
    """A weight's int8 codes in the file's layout; scales, above zero, one for each of `axis`."""

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    axis: int

    def grid(self) -> Quantization:
        return Quantization(self.scale, np.zeros(self.scale.size, np.int64), self.axis)

    def decode(self) -> NDArray[np.float32]:
        """As DEQUANTIZE computes: float32 products."""
        shape = [1] * self.codes.ndim
        shape[self.axis] = -1
        return self.codes.astype(np.float32) * self.scale.reshape(shape)


def smallest_form(weight: NDArray[np.float32], integers: Integers | None, halves: bool) -> Form:
    """The form of the fewest bytes that gives `weight` back bit for bit.

    `integers`: what may explain it. `halves`: float16 may be used.
    """
    forms = [smallest_of(Form(weight))]
    half = as_half(weight) if halves else None
    if half is not None:
        forms.append(smallest_of(Form(half)))
    if integers is not None and same_bits(integers.decode(), weight):
        forms.append(smallest_of(Form(integers.codes, integers.grid())))
    return min(forms, key=lambda form: form.file_bytes)


def smallest_of(form: Form) -> Form:
    """The form itself, a dense one, or its sparse variant."""
    variant = replace(form, sparse=smallest(form.values))
    return min(form, variant, key=lambda form: form.file_bytes)
