"""The optimal division of weighted points on a line into k intervals, by dynamic programming.

Wang and Song, "Ckmeans.1d.dp", The R Journal 3/2 (2011), made faster by the fact that the best
start of the last interval never moves back as the points grow in number (Gronlund et al.,
arXiv:1701.07204, section 3), nor as the intervals do: divide and conquer, whole levels at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CLUSTERS = 1024  # the tables take k * points * 4 bytes, the time grows alike
_STARTS = 2  # for each point, at the first level


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
    best = np.zeros(points.size, np.int32)
    starts: list[NDArray[np.int32]] = []
    for clusters in range(1, k):
        cost, best = _extend(sums, cost, best, clusters)
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
    sums: _Sums, cost: NDArray[np.float64], before: NDArray[np.int32], clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """From the best costs of points 0..j in `clusters` intervals to those in one more.

    `before` are the best starts of the last interval with one fewer; gives also the new ones,
    which are never smaller. Entries j < clusters mean nothing.
    """
    size = cost.size
    extended = np.full(size, np.inf)
    best = np.zeros(size, np.int32)
    # What a start adds to the cost of an interval, whatever its last point is.
    base = np.concatenate([[np.inf], cost[:-1]]) - sums.squares[:-1]
    step = _first_step(before, clusters)
    last = np.arange(clusters + step - 1, size, step)
    low, high = np.maximum(before[last], clusters), last
    extended[last], best[last] = _search(sums, base, last, low, high)
    while step > 1:
        # The middle of every gap that the coarser levels have left; their answers bound ours.
        step //= 2
        last = np.arange(clusters + step - 1, size, 2 * step)
        low = np.maximum(before[last], clusters)
        low[1:] = np.maximum(low[1:], best[last[1:] - step])
        after = last[: last.size - int(last[-1] + step >= size)] + step
        high = last.copy()
        high[: after.size] = np.minimum(best[after], high[: after.size])
        high = np.maximum(high, low)  # rounding may swap two starts of equal cost
        extended[last], best[last] = _search(sums, base, last, low, high)
    return extended, best


def _first_step(before: NDArray[np.int32], clusters: int) -> int:
    """The finest step at which the bounds from `before` alone leave few starts to look at."""
    room = np.arange(before.size) - before
    step = 1
    while int(room[clusters + step - 1 :: step].sum()) > _STARTS * before.size:
        step *= 2
    return step


def _search(
    sums: _Sums,
    base: NDArray[np.float64],
    last: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each `last`, the least cost over starts low..high, and the first start that has it."""
    counts = high - low + 1
    first = np.cumsum(counts) - counts
    start = np.arange(int(counts.sum())) + np.repeat(low - first, counts)
    square = np.repeat(sums.firsts[last + 1], counts) - sums.firsts.take(start)
    square *= square
    square /= np.repeat(sums.weights[last + 1], counts) - sums.weights.take(start)
    total = base.take(start) - square
    least = np.minimum.reduceat(total, first)
    hits = np.flatnonzero(total == np.repeat(least, counts))
    return least + sums.squares[last + 1], start[hits[np.searchsorted(hits, first)]]
