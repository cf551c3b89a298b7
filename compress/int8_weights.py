"""Integer weights as encodings: dense ones rounded to a grid, shared ones with codebook rounded.

Symmetric, one scale for each output channel (Krishnamoorthi, arXiv:1806.08342, section 3.1). Pure
arithmetic. `floor` is the least scale of each output channel under which the layer's bias still
fits an int32 of scale s_x * s_w: a nearly dead channel would lose its bias otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compress.affine import quantize_symmetric, symmetric_scale
from compress.encoding import Encoded, int4_codebook, int8_codebook
from compress.weight_scales import least_error_scale

Floats = NDArray[np.float32]

# Half of int32's range is the bias's, half the products': 255 * 127 * 33,000 inputs fit in it.
_BIAS_STEPS = 2.0**30


def bias_floor(bias: Floats | None, input_scale: float, channels: int) -> Floats:
    """The least weight scale, (channels,), under which `bias` takes at most 2**30 steps."""
    if bias is None:
        return np.zeros(channels, np.float32)
    least = np.abs(bias.astype(np.float64)) / (input_scale * _BIAS_STEPS)
    return np.nextafter(least.astype(np.float32), np.float32(np.inf))


def dense_integers(weight: Floats, axis: int | None, floor: Floats, bits: int = 8) -> Encoded:
    """The weight rounded to the full grid of 8 or 4 bits, codes being its two's complement.

    The grid of 8 bits ends at the largest weight, that of 4 bits where it errs least. A weight that
    lies on such a grid already, and reaches its end, keeps its values, bit for bit.
    """
    scale = np.maximum(grid_scale(weight, axis, bits), _of(floor, axis))
    integers = quantize_symmetric(weight, scale if axis is not None else scale[0], axis, bits)
    return grid_encoding(integers, scale, axis, bits)


def grid_encoding(
    integers: NDArray[np.int8], scale: Floats, axis: int | None, bits: int
) -> Encoded:
    """Integers of 8 or 4 bits under the full codebook of their grid."""
    codebook = int8_codebook() if bits == 8 else int4_codebook()
    return Encoded(integers.view(np.uint8) & np.uint8(codebook.size - 1), codebook, scale, axis)


def shared_int8(encoding: Encoded, floor: Floats) -> Encoded:
    """The codebook rounded to integers; indices, and so clusters and zeros, stay.

    Only channels whose scale lies below `floor` become zero (and then have codes 0): their weights
    are at most 2**-23 of their bias.
    """
    largest = np.abs(encoding.codebook.astype(np.float64)).max()
    step = (
        np.float32(largest / 127) if largest >= 127 * np.finfo(np.float32).tiny else np.float32(1)
    )
    integers = np.clip(np.rint(encoding.codebook / step), -127, 127).astype(np.int8)
    whole = replace(encoding, codebook=integers, scale=(encoding.scale * step).astype(np.float32))
    whole = whole.settled()
    gone = np.abs(np.broadcast_to(whole.scale, floor.shape)) < floor
    if not gone.any():
        return whole
    wide = np.broadcast_to(whole.scale, floor.shape).copy()
    return replace(whole, scale=wide, axis=0).without(gone)


def grid_scale(weight: Floats, axis: int | None, bits: int) -> Floats:
    """max|w| / 127, or that of the least error in 4 bits; where the weight lies on a grid, its own.

    Moved by one unit in the last place where the weight fits it then: for weights of the form
    integer * s the quotient misses s by rounding, now and then.
    """
    first = np.atleast_1d(symmetric_scale(weight, axis, bits))
    best = first if bits == 8 else least_error_scale(weight, axis, bits)
    unsettled = np.ones(first.shape, np.bool_)
    for toward in (None, np.float32(0), np.float32(np.inf)):
        scale = first if toward is None else np.nextafter(first, toward)
        wide = scale if axis is None else scale.reshape(_shape(weight, axis))
        misses = np.rint(weight / wide) * wide != weight
        others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
        fits = unsettled & ~np.atleast_1d(misses.any(axis=others))
        best = np.where(fits, scale, best)
        unsettled &= ~fits
    return best.astype(np.float32)


def _shape(weight: Floats, axis: int) -> tuple[int, ...]:
    return tuple(-1 if i == axis else 1 for i in range(weight.ndim))


def _of(floor: Floats, axis: int | None) -> Floats:
    return floor if axis is not None else floor.max(keepdims=True)
