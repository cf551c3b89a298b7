"""Layers that read fewer channels, and what the best layer behind them captures at every width.

For fixed first layers, features z = B x, the weight behind them that errs least on the outputs is
a linear regression, W A B^T (B A B^T)^-1. The features are nested, so one Cholesky factorization
of B A B^T gives the error at every width.
"""

from __future__ import annotations

import numpy as np

from compress.factoring.measure import Floats, Measure, Roots, descending

# Of the mean diagonal: features as good as dependent would be told apart by rounding alone.
_TINY = 1e-12


def nested_basis(along: Floats, across: Floats, weighed: Floats) -> Floats:
    """Filters (p, p) in descending worth, for inputs of moment `along` (p, p), as columns.

    weighed: (p, q, m), the weight with the outputs' root on its last axis; across: (q, q), the
    moment of the other axis. Of both moments a product is taken, which makes it a decomposition.
    """
    roots = Roots(along)
    other = np.einsum("qs,psm->pqm", Roots(across).times(np.eye(len(across))), weighed)
    half = roots.times(other.reshape(len(weighed), -1))
    return roots.undo(descending(half @ half.T)[1])


class Regression:
    """The layer behind given filters.

    filters: (p, r), nested columns. The features are (r, q): each filter at each of q places.
    weight: (m, p, q); the measure's inputs are (p, q) in that order.
    """

    def __init__(self, filters: Floats, weight: Floats, measure: Measure) -> None:
        outputs, along, across = weight.shape
        width = filters.shape[1]
        moment = measure.inputs
        assert moment is not None
        parts = moment.reshape(along, across, along, across)
        seen = np.tensordot(filters, parts, (0, 0))  # (r, q, p, q)
        normal = np.tensordot(seen, filters, (2, 0)).transpose(0, 1, 3, 2)
        self._normal = normal.reshape(width * across, width * across)
        self._normal += np.eye(len(self._normal)) * (_TINY * np.trace(self._normal) / width)
        flat = weight.reshape(outputs, -1)
        pulled = measure.after(flat).reshape(along, across, outputs)
        self._pulled = np.tensordot(filters, pulled, (0, 0)).reshape(-1, outputs)
        self._across = across
        lower = np.linalg.cholesky(self._normal)
        weighed = measure.out.times(self._pulled.T).T
        # (r, q, m): the squares are what each feature adds to those before it.
        self.captured = np.linalg.solve(lower, weighed).reshape(width, across, outputs)

    def weight(self, rank: int) -> Floats:
        """(m, rank, q): the best weight behind the first `rank` filters."""
        size = rank * self._across
        found = np.linalg.solve(self._normal[:size, :size], self._pulled[:size])
        return found.T.reshape(-1, rank, self._across).astype(np.float64)


def with_inputs(measure: Measure, count: int) -> Measure:
    """The measure with its inputs' matrix written out."""
    if measure.inputs is not None:
        return measure
    return Measure(np.eye(count), measure.outputs)
