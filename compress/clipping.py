"""How far an activation's integer grid should reach: pure arithmetic on histograms.

A range that reaches the rarest value makes every step coarse; a narrower one clips the rare values
and rounds all others finer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]
Counts = NDArray[np.float64]

_STEPS = 255
# Ends that are tried on each side of zero, as shares of the whole range's.
_TRIED = 256


def trimmed(whole: Range, counts: Counts, cut: float) -> Range:
    """The range without the share `cut` of the values at each end, to a bin's width."""
    low, high = whole
    total = float(counts.sum())
    if total == 0:
        return whole
    edges = np.linspace(low, high, len(counts) + 1)
    below = np.cumsum(counts)
    first = int(np.searchsorted(below, cut * total, side="right"))
    last = int(np.searchsorted(below, total - cut * total, side="left"))
    return max(low, float(edges[first])), min(high, float(edges[last + 1]))


def least_error(whole: Range, counts: Counts) -> Range:
    """The range, within `whole` and 0, whose 256 levels give the least mean squared error.

    M. Nagel et al., "A White Paper on Neural Network Quantization" (arXiv:2106.08295), section 3.1:
    sum over the values of (x - quantized x)^2, over all pairs of ends. A value inside errs by
    step^2 / 12 in the mean (section 2.2), one beyond an end by its distance from it. Values in the
    bin of zero, after a ReLU half of all, err by nothing: zero is on every grid.
    """
    edges = np.linspace(*whole, len(counts) + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    kept = counts.copy()
    if whole[0] <= 0 <= whole[1]:
        # Bins are open above, but for the last: it holds zero where nothing is positive.
        kept[min(int(np.searchsorted(edges, 0.0, side="right")), len(counts)) - 1] = 0.0
    if not kept.any():
        return whole
    shares = np.arange(1, _TRIED + 1) / _TRIED
    lows = min(whole[0], 0.0) * shares if whole[0] < 0 else np.zeros(1)
    highs = max(whole[1], 0.0) * shares if whole[1] > 0 else np.zeros(1)
    below = np.array([_beyond(-centres, kept, -low) for low in lows])
    above = np.array([_beyond(centres, kept, high) for high in highs])
    inside = kept.sum() - below[:, None, 0] - above[None, :, 0]
    step = (highs[None, :] - lows[:, None]) / _STEPS
    error = below[:, None, 1] + above[None, :, 1] + inside * step**2 / 12
    low, high = np.unravel_index(int(error.argmin()), error.shape)
    return float(lows[low]), float(highs[high])


def _beyond(places: NDArray[np.float64], counts: Counts, end: float) -> tuple[float, float]:
    """How many values lie beyond `end`, and the sum of their squared distances from it."""
    over = places > end
    return float(counts[over].sum()), float((counts[over] * (places[over] - end) ** 2).sum())
