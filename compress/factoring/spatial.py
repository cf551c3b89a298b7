"""k x 1, then 1 x k (Jaderberg et al. 2014, arXiv:1405.3866, section 2.1, scheme 2)."""

from __future__ import annotations

import numpy as np

from compress.factoring.inner import Regression, nested_basis, with_inputs
from compress.factoring.measure import Floats, Measure


class SpatialFactors:
    """`Factors` of a weight (m, c, h, w): (rank, c, h, 1) and (m, rank, 1, w).

    The first layers' filters are those of a separable measure, for the plain one the best there
    are; the second layers' are the best for these.
    """

    def __init__(self, weight: Floats, measure: Measure) -> None:
        outputs, inputs, high, wide = self._shape = weight.shape
        self._weight = weight
        size = inputs * high
        measure = with_inputs(measure, size * wide)
        assert measure.inputs is not None
        parts = measure.inputs.reshape(size, wide, size, wide)
        along = np.einsum("pqsq->ps", parts) / wide
        across = np.einsum("pqps->qs", parts) / np.trace(along)
        flat = weight.reshape(outputs, -1)
        weighed = measure.out.times(flat).T.reshape(size, wide, outputs)
        filters = nested_basis(along, across, weighed)
        most = min(size, outputs * wide)
        self._filters = filters[:, :most]
        self._behind = Regression(self._filters, weight.reshape(outputs, size, wide), measure)
        kept = np.cumsum((self._behind.captured**2).sum((1, 2)))
        self.errors = np.maximum(measure.cost(flat) - kept, 0.0)
        self.errors[-1] = 0.0
        self.ranks = np.array([(r, 0) for r in range(1, most + 1)], np.int64)

    def at(self, rank: int, rank_in: int) -> list[Floats]:
        del rank_in
        _, inputs, high, _ = self._shape
        if rank == len(self.ranks):
            return self._whole()
        first = self._filters[:, :rank].T.reshape(rank, inputs, high, 1)
        return [first, self._behind.weight(rank)[:, :, None, :]]

    def _whole(self) -> list[Floats]:
        """Without loss: one of the layers only moves values."""
        outputs, inputs, high, wide = self._shape
        if inputs * high <= outputs * wide:
            first = np.eye(inputs * high).reshape(-1, inputs, high, 1)
            return [first, self._weight.reshape(outputs, -1, 1, wide)]
        # An inner channel is one output at one place of the row.
        first = self._weight.transpose(0, 3, 1, 2).reshape(-1, inputs, high, 1)
        second = np.eye(outputs * wide).reshape(outputs, wide, outputs * wide)
        return [first, second.transpose(0, 2, 1)[:, :, None, :]]
