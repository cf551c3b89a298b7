"""Affine integer arithmetic: real = scale * (integer - zero_point), in float32.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018 (arXiv:1712.05877), section 2.1, equation 1. Weights are symmetric (zero point
0) with one scale a channel, activations asymmetric with one scale a tensor (Krishnamoorthi,
arXiv:1806.08342, sections 2 and 3). Rounding is half to even and saturating, as in ONNX's
QuantizeLinear, so the numbers are those that onnxruntime computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import RangeError

# The least scale: with a subnormal one x / scale overflows, and runtimes flush it to zero.
_LEAST = float(np.finfo(np.float32).tiny)


def symmetric_scale(
    weight: NDArray[np.float32], axis: int | None, bits: int = 8
) -> NDArray[np.float32]:
    """max|w| / (2**(bits - 1) - 1) for each channel of `axis`, or one for all if axis is None.

    Gives (channels,), or () without axis; bits: 2 to 8. A channel of zeros gets scale 1.0, under
    which it stays exactly zero. Every scale is at least the smallest normal float32. Raises
    RangeError for weights that are not finite.
    """
    _check_bits(bits)
    axes = None if axis is None else _other_axes(weight, axis)
    largest = np.abs(weight).max(axis=axes, initial=0.0)
    if not np.isfinite(largest).all():
        raise RangeError("weights hold NaN or infinity: allowed are finite ones; retrain or repair")
    scale = np.maximum(largest.astype(np.float32) / np.float32(_top(bits)), np.float32(_LEAST))
    return np.where(largest == 0, np.float32(1.0), scale).astype(np.float32)


def quantize_symmetric(
    weight: NDArray[np.float32], scale: NDArray[np.float32], axis: int | None, bits: int = 8
) -> NDArray[np.int8]:
    """rint(weight / scale), clipped to +-(2**(bits - 1) - 1), in the shape of weight.

    -2**(bits - 1) never occurs, so that the grid is symmetric and int8 products fit (arXiv
    1712.05877, section 2.4 and appendix B). scale: (channels,) of `axis`, or () without axis.
    """
    _check_bits(bits)
    with np.errstate(over="ignore", under="ignore"):  # saturates
        ratio = weight / _along(scale, weight, axis)
    if np.isnan(ratio).any():
        raise RangeError("weights hold NaN: allowed are numbers; retrain or repair")
    return np.clip(np.rint(ratio), -_top(bits), _top(bits)).astype(np.int8)


def affine_grid(minimum: float, maximum: float, bits: int = 8) -> tuple[np.float32, int]:
    """(scale, zero_point in [0, 2**bits - 1]) of the unsigned grid that covers a range.

    The range is widened to include 0, and 0.0 lies on the grid exactly (arXiv:1712.05877, section
    3): zero padding and ReLU stay exact. The range [0, 0] gets scale 1.0. Both ends are met to
    half a step. Raises RangeError for a range that is not finite or upside down.
    """
    _check_bits(bits)
    low, high = float(np.float32(minimum)), float(np.float32(maximum))
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise RangeError(
            f"range {minimum} to {maximum}: allowed are finite numbers, the lesser first; "
            "calibrate on other samples"
        )
    low, high = min(low, 0.0), max(high, 0.0)
    steps = (1 << bits) - 1
    if low == high:
        return np.float32(1.0), 0
    scale = np.float32(max((high - low) / steps, _LEAST))
    return scale, int(np.clip(np.rint(-low / float(scale)), 0, steps))


def dequantize(
    q: NDArray[np.integer[Any]], scale: np.float32, zero_point: int
) -> NDArray[np.float32]:
    """float32(q - zero_point) * scale, in the shape of q, as ONNX's DequantizeLinear."""
    return (q.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def _top(bits: int) -> int:
    return (1 << (bits - 1)) - 1


def _check_bits(bits: int) -> None:
    if not 2 <= bits <= 8:
        raise RangeError(f"{bits} bits: allowed are 2 to 8")


def _other_axes(array: NDArray[Any], axis: int) -> tuple[int, ...]:
    if not -array.ndim <= axis < array.ndim:
        raise RangeError(f"axis {axis} of a tensor of {array.ndim} axes: choose another axis")
    return tuple(other for other in range(array.ndim) if other != axis % array.ndim)


def _along(
    scale: NDArray[np.float32], array: NDArray[Any], axis: int | None
) -> NDArray[np.float32]:
    """scale in a shape that multiplies `array` along `axis`."""
    others = () if axis is None else _other_axes(array, axis)
    expected = () if axis is None else (array.shape[axis],)
    if scale.shape != expected:
        raise RangeError(
            f"scale of shape {scale.shape} for axis {axis} of a tensor of shape {array.shape}: "
            f"allowed is {expected}"
        )
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise RangeError("scale is not positive and finite everywhere: take symmetric_scale's")
    return np.expand_dims(scale, others)
