"""Real values and a .tflite tensor's own numbers, by what the interpreter says of the tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.affine import dequantize
from compress.spec import TensorSpec

FloatArray = NDArray[np.float32]


def _grid(detail: Mapping[str, Any]) -> tuple[np.float32, int] | None:
    """(scale, zero point) of a tensor on one integer grid."""
    found = detail["quantization_parameters"]
    if len(found["scales"]) != 1:
        return None
    return np.float32(found["scales"][0]), int(found["zero_points"][0])


def is_real(detail: Mapping[str, Any]) -> bool:
    """True for float tensors and those whose integers stand for reals; others are indices."""
    return np.dtype(detail["dtype"]).kind == "f" or _grid(detail) is not None


def quantized(values: FloatArray, detail: Mapping[str, Any]) -> NDArray[Any]:
    """`values` as the tensor's own numbers: rounded half to even, clipped to the type's range."""
    dtype = np.dtype(detail["dtype"])
    grid = _grid(detail)
    if grid is None or dtype.kind == "f":
        return values.astype(dtype)
    scale, zero_point = grid
    limits = np.iinfo(dtype)
    codes = np.rint(values / scale) + np.float32(zero_point)
    return np.clip(codes, limits.min, limits.max).astype(dtype)


def dequantized(values: NDArray[Any], detail: Mapping[str, Any]) -> FloatArray:
    """The real values of a tensor's numbers, float32."""
    grid = _grid(detail)
    if grid is None or values.dtype.kind == "f":
        return values.astype(np.float32)
    scale, zero_point = grid
    return dequantize(values, scale, zero_point)


def tensor_spec(detail: Mapping[str, Any]) -> TensorSpec:
    """Name, shape, type and likely layout of one end of a file."""
    shape = tuple(int(size) for size in detail["shape"])
    layout = "NHWC" if len(shape) == 4 else "NC"
    return TensorSpec(str(detail["name"]), shape, str(np.dtype(detail["dtype"])), layout)
