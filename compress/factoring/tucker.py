"""1 x 1 to fewer inputs, k x k, 1 x 1 to all outputs: Tucker-2 (Kim et al. 2016).

arXiv:1511.06530, section 3.1. The inputs' and the outputs' factors are found in turn, each the best
for the other (higher-order orthogonal iteration: De Lathauwer, De Moor and Vandewalle 2000, "On the
best rank-1 and rank-(R1, ..., RN) approximation of higher-order tensors", algorithm 4.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.factoring.inner import Regression, nested_basis, with_inputs
from compress.factoring.measure import Floats, Measure, descending, tails

# Inner inputs that are offered: so many from one to all of them, evenly.
_OFFERED = 16
_ROUNDS = 4


class TuckerFactors:
    """`Factors` of a weight (m, c, h, w) by three: 1 x 1, h x w and 1 x 1.

    inner: the rank_in that are offered; by default sixteen from few to all.
    """

    def __init__(
        self, weight: Floats, measure: Measure, inner: NDArray[np.int64] | None = None
    ) -> None:
        outputs, inputs, high, wide = self._shape = weight.shape
        self._places = high * wide
        self._weight = weight.reshape(outputs, inputs, self._places)
        self._measure = with_inputs(measure, inputs * self._places)
        assert self._measure.inputs is not None
        parts = self._measure.inputs.reshape(inputs, self._places, inputs, self._places)
        self._along = np.einsum("pqsq->ps", parts) / self._places
        self._across = np.einsum("pqps->qs", parts) / np.trace(self._along)
        flat = self._weight.reshape(outputs, -1)
        self._weighed = self._measure.out.times(flat).T.reshape(inputs, self._places, outputs)
        self._total = self._measure.cost(flat)
        self._most_in = min(inputs, outputs * self._places)
        basis = self._basis(self._weighed)[:, : self._most_in]
        self._start = Regression(basis, self._weight, self._measure)
        self._filters = basis
        self.ranks, self.errors = self._curve(self._offered() if inner is None else inner)

    def at(self, rank: int, rank_in: int) -> list[Floats]:
        outputs, inputs, high, wide = self._shape
        behind, filters = self._start, self._filters[:, :rank_in]
        chosen = self._outer(behind, rank, rank_in)
        error = self._error(behind, rank, rank_in)
        for _ in range(_ROUNDS if rank_in < self._most_in else 0):
            seen = self._weighed @ (chosen @ chosen.T)
            trial = self._basis(seen)[:, :rank_in]
            found = Regression(trial, self._weight, self._measure)
            new = self._error(found, rank, rank_in)
            if not new < error * (1 - 1e-6):
                break
            behind, filters, error = found, trial, new
            chosen = self._outer(behind, rank, rank_in)
        out = self._measure.out
        core = behind.weight(rank_in).reshape(outputs, -1)
        return [
            filters.T.reshape(rank_in, inputs, 1, 1),
            (chosen.T @ out.times(core)).reshape(rank, rank_in, high, wide),
            out.undo(chosen).reshape(outputs, rank, 1, 1),
        ]

    def _basis(self, weighed: Floats) -> Floats:
        return nested_basis(self._along, self._across, weighed)

    def _offered(self) -> NDArray[np.int64]:
        steps = np.linspace(self._most_in / _OFFERED, self._most_in, _OFFERED)
        return np.unique(np.maximum(1, np.rint(steps))).astype(np.int64)

    def _curve(self, inner: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
        """Every rank of the outputs at each of `inner`."""
        ranks: list[tuple[int, int]] = []
        errors: list[Floats] = []
        for rank_in in inner.tolist():
            values = self._values(self._start, rank_in)
            most = min(self._shape[0], rank_in * self._places)
            lost = max(0.0, self._total - float(values.sum()))
            if rank_in == self._most_in:
                lost = 0.0
            errors.append(tails(values)[:most] + lost)
            ranks += [(r, rank_in) for r in range(1, most + 1)]
        return np.array(ranks, np.int64), np.concatenate(errors)

    def _gram(self, behind: Regression, rank_in: int) -> Floats:
        kept = behind.captured[:rank_in].reshape(-1, self._shape[0])
        return kept.T @ kept

    def _values(self, behind: Regression, rank_in: int) -> Floats:
        return descending(self._gram(behind, rank_in))[0]

    def _outer(self, behind: Regression, rank: int, rank_in: int) -> Floats:
        """(m, rank): an orthonormal basis of the best outputs, in the measure's own axes."""
        return descending(self._gram(behind, rank_in))[1][:, :rank]

    def _error(self, behind: Regression, rank: int, rank_in: int) -> float:
        return self._total - float(self._values(behind, rank_in)[:rank].sum())
