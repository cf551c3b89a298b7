"""A layer with fewer outputs, then 1 x 1 to all of them.

With G and A of the measure, the truncated decomposition of G^1/2 W A^1/2 has the least error of its
rank (Eckart and Young); for A alone that is X. Zhang et al. 2016, arXiv:1505.06798, section 3.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.factoring.measure import Floats, Measure, Roots, descending, tails
from compress.lowrank import truncate


class ChannelFactors:
    """`Factors` of a weight (m, c, ...): (rank, c, ...) and (m, rank, 1, ...)."""

    def __init__(self, weight: Floats, measure: Measure) -> None:
        self._shape = weight.shape
        self._weight = weight.reshape(len(weight), -1)
        self._measure = measure
        rows, columns = self._weight.shape
        # On the shorter side, where full rank is a whole basis: then nothing at all is lost.
        self._left = rows <= columns
        self._inner = Roots(None if self._left else measure.inputs)
        weighed = measure.out.times(self._weight)
        if self._left:
            gram = weighed @ measure.after(weighed)
        else:
            half = self._inner.times(weighed.T)
            gram = half @ half.T
        values, self._vectors = descending(gram)
        self.errors = tails(values)
        self.ranks = np.array([(r, 0) for r in range(1, len(values) + 1)], np.int64)

    def at(self, rank: int, rank_in: int) -> list[Floats]:
        del rank_in
        basis = self._vectors[:, :rank]
        if self._left:
            first = basis.T @ self._measure.out.times(self._weight)
            second = self._measure.out.undo(basis)
        else:
            first = self._inner.undo(basis).T
            second = self._weight @ self._inner.times(basis)
        return _shaped(first, second, self._shape)


def plain(weight: Floats, rank: int) -> list[Floats]:
    """The factors of the least error of the weight itself; faster at small ranks."""
    matrix = weight.reshape(len(weight), -1).astype(np.float32)
    found = truncate(matrix, rank)
    left: NDArray[np.float64] = found.left.astype(np.float64)
    return _shaped(found.right.astype(np.float64), left, weight.shape)


def _shaped(first: Floats, second: Floats, shape: tuple[int, ...]) -> list[Floats]:
    ones = (1,) * (len(shape) - 2)
    return [first.reshape(-1, *shape[1:]), second.reshape(shape[0], -1, *ones)]
