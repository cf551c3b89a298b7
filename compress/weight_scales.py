"""The scale of a symmetric integer grid that errs least, for each output channel of a weight.

M. Nagel et al., "A White Paper on Neural Network Quantization" (arXiv:2106.08295), section 3.1:
the largest weights of a channel are few, and a grid that clips them rounds all others finer. Of 15
levels that halves the squared error now and then; of 255 it gains next to nothing. Pure arithmetic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.affine import symmetric_scale

Floats = NDArray[np.float32]

# Shares of the largest weight at which a grid may end, the whole first: of equals it is kept.
_SHARES = np.linspace(1.0, 0.3, 36)
# How often the best of them is moved to the least squares of the integers that it gives.
_REFINED = 3


def least_error_scale(
    weight: Floats, axis: int | None, bits: int, importance: Floats | None = None
) -> Floats:
    """The scale, (channels,) or (1,) without axis, that rounds with the least squared error.

    importance: what the squared error of each weight counts, broadcast against it; one without.
    Never worse than max|w| / (2**(bits - 1) - 1), which a channel of zeros keeps. RangeError for
    weights that are not finite.
    """
    whole = np.atleast_1d(symmetric_scale(weight, axis, bits)).astype(np.float64)
    rows = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0)
    counts = (
        np.ones_like(weight) if importance is None else np.broadcast_to(importance, weight.shape)
    )
    counts = counts.reshape(1, -1) if axis is None else np.moveaxis(counts, axis, 0)
    found = [
        _of_channel(row.reshape(-1).astype(np.float64), own.reshape(-1), scale, (1 << bits - 1) - 1)
        for row, own, scale in zip(rows, counts, whole, strict=True)
    ]
    return np.array(found, np.float32)


def _of_channel(weight: NDArray[np.float64], counts: Floats, whole: float, top: int) -> float:
    """The best scale for one channel, of which `whole` reaches the largest weight."""

    def rounded(scales: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(np.rint(weight / scales[:, None]), -top, top)

    def errors(scales: NDArray[np.float64]) -> NDArray[np.float64]:
        missed = rounded(scales) * scales[:, None] - weight
        return (missed * missed) @ counts

    tried = whole * _SHARES
    best = tried[int(errors(tried).argmin())]
    for _ in range(_REFINED):
        integers = rounded(np.array([best]))[0]
        square = float(counts @ (integers * integers))
        if square == 0:
            return whole
        moved = float(counts @ (integers * weight)) / square
        before, after = errors(np.array([best, moved]))
        if not after < before:
            break
        best = moved
    # Kept in float32, where a grid that errs as little as the whole one may err more.
    final = np.array([whole, np.float64(np.float32(best))])
    return float(final[int(errors(final).argmin())])
