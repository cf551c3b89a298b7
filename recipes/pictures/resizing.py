"""Resizing without antialiasing, as OpenCV and so Caffe's tools do it: few lines, exact, no Pillow.

Each output pixel looks at the 1, 2 or 4 nearest input pixels a side, however much the picture
shrinks. Pixel i covers [i, i + 1): output centre i lies at (i + 0.5) * inside / outside - 0.5, the
convention of OpenCV and of torch.nn.functional.interpolate(align_corners=False).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["nearest", "bilinear", "bicubic"]
# R. Keys: "Cubic convolution interpolation for digital image processing", 1981, equation 15 with
# the free constant of OpenCV and torch (Pillow, which antialiases, has -0.5).
_CUBIC = -0.75


def resize(
    pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation
) -> NDArray[np.uint8]:
    """(H, W, C) -> (*size, C), in float64, rounded half to even, clipped to 0..255.

    'nearest' takes the pixel under the output's centre, as torch's 'nearest-exact' does.
    """
    sides = list(zip(pixels.shape[:2], size, strict=True))
    if interpolation == "nearest":
        return pixels[np.ix_(*(_under(inside, outside) for inside, outside in sides))]
    rows, columns = (_centres(inside, outside) for inside, outside in sides)
    taps = _linear if interpolation == "bilinear" else _cubic
    tall = _weighted(pixels, *taps(rows, pixels.shape[0]), axis=0)
    wide = _weighted(tall, *taps(columns, pixels.shape[1]), axis=1)
    return np.clip(np.rint(wide), 0, 255).astype(np.uint8)


def _centres(inside: int, outside: int) -> NDArray[np.float64]:
    return (np.arange(outside, dtype=np.float64) + 0.5) * (inside / outside) - 0.5


def _under(inside: int, outside: int) -> NDArray[np.int64]:
    # In integers: a centre on the line between two pixels must not fall by rounding.
    return (2 * np.arange(outside, dtype=np.int64) + 1) * inside // (2 * outside)


def _linear(
    centres: NDArray[np.float64], inside: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices and weights, (outside, 2); beyond the border the border pixel goes on."""
    places = np.clip(centres, 0, inside - 1)
    first = np.floor(places).astype(np.int64)
    share = places - first
    indices = np.stack([first, np.minimum(first + 1, inside - 1)], axis=1)
    return indices, np.stack([1 - share, share], axis=1)


def _cubic(
    centres: NDArray[np.float64], inside: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices and weights, (outside, 4); beyond the border the border pixel goes on."""
    first = np.floor(centres)
    indices = first[:, None].astype(np.int64) + np.arange(-1, 3)
    away = np.abs(centres[:, None] - indices)
    near = ((_CUBIC + 2) * away - (_CUBIC + 3)) * away * away + 1
    far = ((_CUBIC * away - 5 * _CUBIC) * away + 8 * _CUBIC) * away - 4 * _CUBIC
    return np.clip(indices, 0, inside - 1), np.where(away <= 1, near, far)


def _weighted(
    values: NDArray[np.uint8] | NDArray[np.float64],
    indices: NDArray[np.int64],
    weights: NDArray[np.float64],
    axis: int,
) -> NDArray[np.float64]:
    """Replace `axis` of (H, W, C) by the weighted sums of its entries at `indices`."""
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    total = np.zeros(())
    for index, weight in zip(indices.T, weights.T, strict=True):
        total = total + values.take(index, axis=axis) * weight.reshape(shape)
    return total
