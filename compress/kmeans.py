"""One-dimensional k-means: the shared weights of a layer.

Han, Mao and Dally, "Deep Compression", ICLR 2016 (arXiv:1510.00149), section 3.1: the centroids
minimise the within-cluster sum of squares, from a linear initialisation between the least and the
greatest weight (section 3.2). In one dimension clusters are intervals of the sorted values, so
that an exact Lloyd step needs only their borders, and the optimum is found by dynamic programming
(optimal_partition.py).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.blockwise import all_finite
from compress.errors import RangeError
from compress.intervals import Intervals
from compress.optimal_partition import MAX_CLUSTERS, partition

_GROUP = 64  # values between two stored partial sums
_BLOCK = 1 << 16
_ITERATIONS = 300
_GRID_POINTS = 4096


class Clusters(NamedTuple):
    """values ~= centroids[assignments]."""

    centroids: NDArray[np.float32]  # ascending, all different, all in use
    assignments: NDArray[np.uint8 | np.uint16]  # of the values' shape
    inertia: float  # sum of the squared differences


class _Sorted:
    """Sorted values with quick float64 sums of any interval, in 1/32 of the values' memory."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = np.sort(values, axis=None)
        counts = [np.count_nonzero(self._changes(start)) for start in self._starts()]
        self._runs_before = np.concatenate([[0], np.cumsum(counts)])
        self.distinct = int(self._runs_before[-1]) + 1
        sums = [_group_sums(self.values[start : start + _BLOCK]) for start in self._starts()]
        self._before = np.cumsum(np.concatenate([[0.0], *sums]))

    def _starts(self) -> range:
        return range(0, self.values.size, _BLOCK)

    def _changes(self, start: int) -> NDArray[np.bool_]:
        """Where in the block from `start` a run of equal values ends and another one follows."""
        block = self.values[start : start + _BLOCK + 1]
        return block[:-1] != block[1:]

    def run_ends(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The end of the ranks[i]-th run of equal values, for ascending ranks < distinct."""
        found: list[NDArray[np.int64]] = []
        wanted = np.searchsorted(ranks, self._runs_before)
        for block, start in enumerate(self._starts()):
            inside = ranks[wanted[block] : wanted[block + 1]] - self._runs_before[block]
            if inside.size:
                found.append(np.flatnonzero(self._changes(start))[inside] + start + 1)
        rest = ranks.size - wanted[-1]  # the last run ends with the values
        return np.concatenate([*found, np.full(rest, self.values.size)])

    def sums_before(self, ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of values[:end] for each end."""
        group = ends // _GROUP
        places = group[:, None] * _GROUP + np.arange(_GROUP)
        inside = places < ends[:, None]
        rest = self.values[np.where(inside, places, 0)].astype(np.float64)
        return self._before[group] + np.where(inside, rest, 0.0).sum(axis=1)

    def means(self, ends: NDArray[np.int64], fallback: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of each interval between successive ends (the last runs to the end of the values).

        An empty one keeps its fallback.
        """
        borders = np.concatenate([[0], ends, [self.values.size]])
        counts = np.diff(borders)
        sums = np.diff(self.sums_before(borders))
        return np.where(counts > 0, sums / np.maximum(counts, 1), fallback)


def _group_sums(values: NDArray[np.float32]) -> NDArray[np.float64]:
    # In blocks: reduceat makes a float64 copy of all that it is given.
    return np.add.reduceat(values, np.arange(0, values.size, _GROUP), dtype=np.float64)


def cluster(
    values: NDArray[np.float32], k: int, method: Literal["linear", "optimal"] = "optimal"
) -> Clusters:
    """At most `k` centroids for values of any shape, the same for the same input.

    "linear" runs Lloyd's steps from evenly spaced centroids, as the paper does; "optimal" from
    the optimum on a fine grid, and ends within about 1e-6 of the least possible inertia. Where
    there are no more than k different values, they are the centroids and the inertia is 0.
    Centroids that attract no value are left out. k: 1 to 65536, for "optimal" to 1024. Raises
    RangeError for another k, no values, or values that are not finite.
    """
    _check(values, k)
    if method == "optimal" and k > MAX_CLUSTERS:
        raise RangeError(
            f"{k} optimal clusters: allowed are 1 to {MAX_CLUSTERS}; use fewer or method 'linear'"
        )
    ordered = _Sorted(values)
    if ordered.distinct <= k:
        centroids = ordered.values[ordered.run_ends(np.arange(ordered.distinct)) - 1]
    else:
        start = _linear(ordered.values, k) if method == "linear" else _optimal(ordered, k)
        found = np.unique(_lloyd(ordered, start).astype(np.float32))
        ends = np.searchsorted(ordered.values, _borders(found), side="right")
        counts = np.diff(np.concatenate([[0], ends, [values.size]]))
        centroids = found[counts > 0]
    centroids += np.float32(0)  # -0.0 becomes 0.0
    return Clusters(centroids, *_assign(values, centroids))


def _linear(ordered: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Evenly spaced from the least to the greatest value (section 3.2)."""
    return np.linspace(float(ordered[0]), float(ordered[-1]), k)


def _optimal(ordered: _Sorted, k: int) -> NDArray[np.float64]:
    """Centroids of the optimal clusters whose borders lie on a fine grid of the values.

    The grid is at least four times as fine as k, and is every value where there are few.
    """
    ends = _grid(ordered, max(_GRID_POINTS, 8 * k))
    weights = np.diff(ends, prepend=0)
    points = np.diff(ordered.sums_before(ends), prepend=0.0) / weights
    last = partition(points, weights.astype(np.float64), k)
    return ordered.means(ends[last[:-1]], np.zeros(k))


def _grid(ordered: _Sorted, points: int) -> NDArray[np.int64]:
    """Ends of about `points` intervals of the sorted values, none of which parts equal values.

    Every different value where they are few. Else half the intervals are even in value, which
    serves the tails, half even in the number of different values, which serves the middle, and a
    range stretched by a few outliers.
    """
    if ordered.distinct <= points:
        return ordered.run_ends(np.arange(ordered.distinct))
    values = ordered.values
    even = np.linspace(float(values[0]), float(values[-1]), points // 2).astype(np.float32)
    by_value = np.searchsorted(values, even, side="right")
    ranks = np.linspace(0, ordered.distinct - 1, points // 2).astype(np.int64)
    return np.unique(np.concatenate([by_value, ordered.run_ends(ranks)]))


def _borders(centroids: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    """The greatest float32 that belongs to each centroid but the last."""
    wide = centroids.astype(np.float64)
    middles = (wide[:-1] + wide[1:]) / 2
    rounded = middles.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > middles, below, rounded)


def _lloyd(ordered: _Sorted, centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact steps of Lloyd's algorithm until nothing moves; centroids without values stay."""
    previous: NDArray[np.int64] | None = None
    for _ in range(_ITERATIONS):
        ends = np.searchsorted(ordered.values, _borders(centroids), side="right")
        if previous is not None and np.array_equal(ends, previous):
            break
        centroids, previous = ordered.means(ends, centroids), ends
    return centroids


def _assign(
    values: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.uint8 | np.uint16], float]:
    """(nearest centroid of each value, the lower of two equally near; inertia)."""
    flat = values.reshape(-1)
    nearest = Intervals(_borders(centroids))
    assignments = np.empty(flat.size, nearest.dtype)
    wide, inertia = centroids.astype(np.float64), 0.0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        codes = nearest.of(block)
        assignments[start : start + _BLOCK] = codes
        off = block - wide.take(codes)
        inertia += float(np.square(off, out=off).sum())
    return assignments.reshape(values.shape), inertia


def _check(values: NDArray[np.float32], k: int) -> None:
    if not 1 <= k <= 1 << 16:
        raise RangeError(f"{k} clusters: allowed are 1 to 65536")
    if values.size == 0:
        raise RangeError("no values to cluster: pruned away; leave the layer out")
    if values.dtype != np.float32:
        raise RangeError(f"values of type {values.dtype}: allowed is float32; convert them")
    if not all_finite(values):
        raise RangeError("values hold NaN or infinity: allowed are finite ones; retrain or repair")
