"""The optimal division of weighted points on a line into k intervals, by dynamic programming.

Wang and Song, "Ckmeans.1d.dp", The R Journal 3/2 (2011), made faster by the fact that the best
start of the last interval never moves back as the points grow in number (Gronlund et al.,
arXiv:1701.07204, section 3): divide and conquer, whole levels at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CLUSTERS = 1024  # the tables take k * points * 4 bytes, the time grows alike


class _Sums(NamedTuple):
    weights: NDArray[np.float64]  # each (points + 1,): sums of the first i points
    firsts: NDArray[np.float64]
    squares: NDArray[np.float64]


def partition(
    points: NDArray[np.float64], weights: NDArray[np.float64], k: int
) -> NDArray[np.int64]:
    """(k,), the last point of each interval, ascending; the last is the last point.

    points: (n,) ascending; weights: (n,) positive; 1 <= k <= min(n, 1024). Minimises the weighted
    sum of squared distances from the intervals' means.
    """
    assert 1 <= k <= min(points.size, MAX_CLUSTERS)
    # About the mean, or the squares of far-off points would drown the differences.
    centred = points - np.average(points, weights=weights)
    spread = float(np.abs(centred).max())
    centred /= spread if spread > 0 else 1.0
    sums = _Sums(*(_before(weights * centred**power) for power in range(3)))
    everything = np.arange(points.size)
    cost = _cost(sums, np.zeros_like(everything), everything)
    starts: list[NDArray[np.int32]] = []
    for clusters in range(1, k):
        cost, best = _extend(sums, cost, clusters)
        starts.append(best)
    last = [points.size - 1]
    for best in reversed(starts):
        last.append(int(best[last[-1]]) - 1)
    return np.array(last[::-1], np.int64)


def _before(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values)])


def _cost(sums: _Sums, start: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weighted sum of squares of points start..last about their mean."""
    weight, first, square = (part[last + 1] - part[start] for part in sums)
    return square - first * first / weight


def _extend(
    sums: _Sums, cost: NDArray[np.float64], clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """From the best costs of points 0..j in `clusters` intervals to those in one more.

    Gives also the best start of the last interval. Entries j < clusters mean nothing.
    """
    size = cost.size
    extended = np.full(size, np.inf)
    best = np.zeros(size, np.int32)
    step = 1 << (size - clusters).bit_length()
    while step > 1:
        # The middle of every gap that the coarser levels have left; their answers bound ours.
        step //= 2
        last = np.arange(clusters + step - 1, size, 2 * step)
        if last.size == 0:
            continue
        low = np.full(last.size, clusters, np.int64)
        has_lower = last - step >= clusters
        low[has_lower] = best[last[has_lower] - step]
        high = last.copy()
        has_upper = last + step < size
        high[has_upper] = np.minimum(best[last[has_upper] + step], last[has_upper])
        high = np.maximum(high, low)  # rounding may swap two starts of equal cost
        extended[last], best[last] = _search(sums, cost, last, low, high)
    return extended, best


def _search(
    sums: _Sums,
    cost: NDArray[np.float64],
    last: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each `last`, the least cost over starts low..high, and the first start that has it."""
    counts = high - low + 1
    first = np.cumsum(counts) - counts
    row = np.repeat(np.arange(last.size), counts)
    start = np.arange(row.size) - first[row] + low[row]
    total = cost[start - 1] + _cost(sums, start, last[row])
    least = np.minimum.reduceat(total, first)
    hits = np.flatnonzero(total == least[row])
    _, chosen = np.unique(row[hits], return_index=True)
    return least, start[hits[chosen]]
